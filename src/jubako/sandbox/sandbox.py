"""`run`, `start` and `Sandbox`: a fresh, isolated container for each call, made by a warm launcher.

Nothing of the caller's process reaches a container but what is said: it is not forked, its descriptors are not
inherited, its environment is not copied. Any number of threads may call at once.
"""

from __future__ import annotations

import time
from _thread import allocate_lock

from jubako.errors import JubakoError
from jubako.runtime.launcher import Launcher
from jubako.runtime.requests import Request
from jubako.sandbox.container import Container
from jubako.sandbox.errors import TimeLimitError
from jubako.sandbox.options import build_template, encode_arguments, encode_environment
from jubako.sandbox.result import Result
from jubako.sandbox.streams import DEVNULL, PIPE, Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Literal, TypedDict, Unpack, overload

    from jubako.sandbox.options import Arguments, Environment, Options
    from jubako.sandbox.streams import Stream

    class Call(TypedDict, total=False):
        """How one program is run."""

        input: str | bytes | None
        stdin: Stream
        stdout: Stream
        stderr: Stream
        timeout: float | None
        check: bool
        output_limit: int | None

    class RunArguments(Call, Options, total=False):
        """Both halves, for `jubako.run`."""

    class StartArguments(Options, total=False):
        """For `jubako.start`."""

        stdin: Stream
        stdout: Stream
        stderr: Stream

else:

    def overload(function):
        return function


SIGKILL = 9
_CALL = ("input", "stdin", "stdout", "stderr", "timeout", "check", "output_limit")
_PATIENCE = 10.0


class Sandbox:
    """Options for containers, and a launcher of one's own that makes them.

    The launcher starts at the first use (or with `with`), and ends with `close` or the caller's process, whatever
    happens to that; all of its containers end with it. Options are those of `jubako run`: see `RunOptions`.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        self._options = options
        self._launcher = Launcher()
        self._with_arguments = build_template(options, command=True)
        self._without = build_template(options, command=False)

    @overload
    def run(
        self, args: Arguments = (), *, env: Environment | None = None, text: Literal[True] = True, **call: Unpack[Call]
    ) -> Result[str]: ...

    @overload
    def run(  # noqa: F811 - `overload` is typing's own to a type checker
        self, args: Arguments = (), *, env: Environment | None = None, text: Literal[False], **call: Unpack[Call]
    ) -> Result[bytes]: ...

    def run(  # noqa: F811
        self, args: Arguments = (), *, env: Environment | None = None, text: bool = True, **call: Unpack[Call]
    ) -> Result[str] | Result[bytes]:
        """Run a program in a fresh container and wait for it; see `jubako.run`. `env` is added to the sandbox's own."""
        names, request = self._request(args, env)
        return _run(self._launcher, names, request, text=text, **call)

    def start(
        self,
        args: Arguments = (),
        *,
        env: Environment | None = None,
        stdin: Stream = DEVNULL,
        stdout: Stream = DEVNULL,
        stderr: Stream = DEVNULL,
    ) -> Container:
        """Start a program in a fresh container and return at once, when it runs; see `jubako.start`."""
        names, request = self._request(args, env)
        return _start(self._launcher, names, request, Streams(stdin, stdout, stderr, relay=False))

    def close(self) -> None:
        """End the launcher and every container it has made. A closed sandbox runs nothing more."""
        self._launcher.close()

    @property
    def launcher_pid(self) -> int:
        """The pid of the launcher, 0 while there is none."""
        return self._launcher.pid

    def __enter__(self) -> Sandbox:
        self._launcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, args: Arguments, env: Environment | None) -> tuple[tuple[str, ...], Request]:
        names, arguments = encode_arguments(args)
        template, environment = self._with_arguments if arguments else self._without
        if env:
            environment = (*environment, *encode_environment(env))
        return names, Request(template, arguments, environment)


# --- the launcher that everybody shares -------------------------------------------------------------------------------

_lock = allocate_lock()
_shared: Launcher | None = None


@overload
def run(args: Arguments = (), *, text: Literal[True] = True, **options: Unpack[RunArguments]) -> Result[str]: ...


@overload
def run(  # noqa: F811
    args: Arguments = (), *, text: Literal[False], **options: Unpack[RunArguments]
) -> Result[bytes]: ...


def run(  # noqa: F811
    args: Arguments = (), *, text: bool = True, **options: Unpack[RunArguments]
) -> Result[str] | Result[bytes]:
    """Run a program in a fresh container, and wait for it.

    `args` is the argument vector; empty, the image's own command runs. Without `image` or `rootfs` the image is `host`:
    the running system, read-only. Every other flag of `jubako run` that says how a container is made is a keyword.

    `input` (text or bytes) is fed to the program; else `stdin` is DEVNULL, None (the caller's own), a descriptor or a
    file. `stdout` and `stderr` are captured (PIPE) unless they say otherwise; `stderr=STDOUT` joins them. Captured
    output is text (UTF-8, what is not is replaced), or bytes with `text=False`. `output_limit` is the most bytes kept
    of each stream; a program that writes more is killed. `timeout` is in seconds.

    A program's exit code is a value. Raises `ProgramNotFoundError` and `NotExecutableError` for a program that cannot
    be started, `TimeLimitError` when the time is up (the container is killed), with `check=True` `ProgramError` for an
    exit code other than 0, `UsageError` for options that cannot be, and `JubakoError` for all else.
    """
    call = {name: options.pop(name) for name in _CALL if name in options}  # type: ignore[misc]
    names, request = _request(args, options)
    return _run(_shared_launcher(), names, request, text=text, **call)


def start(args: Arguments = (), **options: Unpack[StartArguments]) -> Container:
    """Start a program in a fresh container, and return when it runs.

    Options are those of `run`. Streams are DEVNULL unless they are PIPE, None, a pipe or a socket. Raises as `run` does
    for what cannot be started.
    """
    streams = [options.pop(name, DEVNULL) for name in ("stdin", "stdout", "stderr")]  # type: ignore[misc]
    names, request = _request(args, options)
    return _start(_shared_launcher(), names, request, Streams(*streams, relay=False))


def _request(args: Arguments, options: Options) -> tuple[tuple[str, ...], Request]:
    names, arguments = encode_arguments(args)
    template, environment = build_template(options, command=bool(arguments))
    return names, Request(template, arguments, environment)


def _shared_launcher() -> Launcher:
    global _shared
    if _shared is None:
        with _lock:
            if _shared is None:
                _shared = Launcher()
    return _shared


# --- one call ---------------------------------------------------------------------------------------------------------


def _run(
    launcher: Launcher,
    names: tuple[str, ...],
    request: Request,
    *,
    text: bool,
    input: str | bytes | None = None,
    stdin: Stream = DEVNULL,
    stdout: Stream = PIPE,
    stderr: Stream = PIPE,
    timeout: float | None = None,
    check: bool = False,
    output_limit: int | None = None,
) -> Result[str] | Result[bytes]:
    data = input.encode("utf-8", "surrogateescape") if isinstance(input, str) else input
    deadline = None if timeout is None else time.monotonic() + timeout
    streams = Streams(stdin, stdout, stderr, data=data, limit=output_limit)
    try:
        running = launcher.launch(request, streams.theirs)
        try:
            streams.close_theirs()
            code = streams.exchange(running, deadline)
            if code is None:
                running.signal(SIGKILL)
                streams.exchange(running, time.monotonic() + _PATIENCE)
        finally:
            running.close()
    finally:
        streams.close()
    output, error = _kept(streams, "output"), _kept(streams, "error")
    command = " ".join(names)
    if text:
        said = (output.decode(errors="replace"), error.decode(errors="replace"))
        if code is None:
            raise TimeLimitError(command, timeout or 0.0, *said)
        result: Result[str] | Result[bytes] = Result(names, code, *said, streams.truncated)
    else:
        if code is None:
            raise TimeLimitError(command, timeout or 0.0, output, error)
        result = Result(names, code, output, error, streams.truncated)
    return result.check() if check else result


def _kept(streams: Streams, name: str) -> bytes:
    sink = streams.output if name == "output" else streams.error
    return b"".join(sink.kept) if sink is not None else b""


def _start(launcher: Launcher, names: tuple[str, ...], request: Request, streams: Streams) -> Container:
    try:
        announced = Request(request.template, request.arguments, request.environment, announce=True)
        running = launcher.launch(announced, streams.theirs)
    except BaseException:
        streams.close()
        raise
    try:
        streams.close_theirs()
        running.wait_until_started()
        return Container(names, running, streams)
    except BaseException:
        running.close()
        streams.close()
        raise


def close_shared() -> None:
    """End the launcher that `run` and `start` share; the next call starts another."""
    global _shared
    with _lock:
        launcher, _shared = _shared, None
    if launcher is not None:
        launcher.close()


__all__ = ["JubakoError", "Sandbox", "close_shared", "run", "start"]
