"""Run a function inside the user's base user namespace, where files of subordinate ids can be made and removed.

A child process enters the base, runs one function with descriptors and plain values, and reports its result or its
failure as data. A single-threaded caller is forked; one with threads gets a clean interpreter instead, since a fork
would inherit locks that nobody will release.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from jubako import errors, jsontext
from jubako.errors import JubakoError
from jubako.paths import Paths
from jubako.record import as_dict

_ROOM = "jubako.image."
_START = "import sys; sys.path.insert(0, sys.argv[1]); from jubako.image.inbase import main; main(sys.argv[2:])"


class BaseChild:
    """A function at work inside the base; `result()` waits for it."""

    def __init__(self, pid: int, report: int) -> None:
        self._pid = pid
        self._report = report

    def result(self) -> Any:
        """What the function returned. Raises the `JubakoError` that it raised."""
        parts = []
        try:
            while part := os.read(self._report, 1 << 16):
                parts.append(part)
        except BaseException:
            self.end()
            raise
        status = self.end(kill=False)
        if not parts:
            code = os.waitstatus_to_exitcode(status)
            cause = f"it was killed by signal {-code}" if code < 0 else f"it ended with status {code}"
            raise JubakoError("work in the base user namespace", reason=f"{cause} before it could answer")
        answer = jsontext.loads(b"".join(parts))
        if "error" in answer:
            raise _revive(answer["error"])
        return answer["value"]

    def end(self, kill: bool = True) -> int:
        """Make sure that the child is gone; its wait status."""
        if self._pid == 0:
            return 0
        if kill:
            os.kill(self._pid, 9)  # not reaped yet, so the number is still its own
        pid, self._pid = self._pid, 0
        os.close(self._report)
        return os.waitpid(pid, 0)[1]


def start_in_base(paths: Paths, function: str, arguments: dict[str, Any], keep: Iterable[int] = ()) -> BaseChild:
    """Begin `function` ("module:name" of this room, called with `arguments`) inside the base.

    Arguments and result are what JSON can hold; `keep` lists the descriptors that the function uses by their numbers.
    All others are closed in the child.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        if len(os.listdir("/proc/self/task")) > 1:
            pid = _start_interpreter(paths, function, arguments, tuple(keep), write_end)
        else:
            pid = os.fork()
            if pid == 0:
                _child(paths, function, arguments, tuple(keep), write_end)
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    return BaseChild(pid, read_end)


def run_in_base(paths: Paths, function: str, arguments: dict[str, Any], keep: Iterable[int] = ()) -> Any:
    """`start_in_base`, and wait for the result."""
    return start_in_base(paths, function, arguments, keep).result()


def own_as_base(paths: Paths, directory: int) -> None:
    """Give the new `directory` to the root of the base. For an ordinary user that is the user; root's base has other
    ids.
    """
    if os.geteuid() == 0:
        os.chown(directory, *base_owner(paths))


def base_owner(paths: Paths) -> tuple[int, int]:
    """The uid and gid that the base's root has out here."""
    from jubako.runtime.base import open_base

    base = open_base(paths)
    os.close(base.fd)
    return base.ids.uids.to_outside(0) or 0, base.ids.gids.to_outside(0) or 0


def main(arguments: list[str]) -> None:
    """The clean interpreter's entry: a request as JSON, the descriptors to keep, the descriptor of the report."""
    request = jsontext.loads(arguments[0])
    _child(
        Paths(**request["paths"]), request["function"], request["arguments"], tuple(request["keep"]), request["report"]
    )


def _start_interpreter(
    paths: Paths, function: str, arguments: dict[str, Any], keep: tuple[int, ...], report: int
) -> int:
    request = {"paths": as_dict(paths), "function": function, "arguments": arguments, "keep": keep, "report": report}
    tree = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    command = [sys.executable, "-I", "-S", "-c", _START, tree, jsontext.dumps(request)]
    import subprocess

    child = subprocess.Popen(command, pass_fds=(*keep, report), stdin=subprocess.DEVNULL)
    child.returncode = 0  # it is waited for here, not by Popen
    return child.pid


def _child(paths: Paths, function: str, arguments: dict[str, Any], keep: tuple[int, ...], report: int) -> None:
    status = 1
    try:
        import signal

        from jubako.linux.descriptors import close_all_but

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        close_all_but((0, 1, 2, *keep, report))
        answer = _answer(paths, function, arguments)
        data = jsontext.dumps(answer).encode()
        while data:
            data = data[os.write(report, data) :]
        status = 0
    finally:
        os._exit(status)


def _answer(paths: Paths, function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        from jubako.runtime.base import enter_base

        enter_base(paths)
        module, _, name = function.partition(":")
        if not module.startswith(_ROOM):
            raise ValueError(function)
        __import__(module)
        return {"value": getattr(sys.modules[module], name)(**arguments)}
    except JubakoError as error:
        return _told(error)
    except OSError as failure:
        subject = os.fsdecode(failure.filename) if isinstance(failure.filename, str | bytes) else ""
        return _told(JubakoError.from_os_error("work in the base user namespace on", subject, failure))
    except MemoryError:
        return _told(JubakoError("work in the base user namespace", reason="out of memory"))


def _told(error: JubakoError) -> dict[str, Any]:
    fields = {key: getattr(error, key) for key in ("operation", "subject", "errno", "reason", "hint")}
    return {"error": {"type": type(error).__name__, **fields}}


def _revive(fields: dict[str, Any]) -> JubakoError:
    kind = getattr(errors, fields["type"], JubakoError)
    error: JubakoError = kind(
        fields["operation"], fields["subject"], errno=fields["errno"], reason=fields["reason"], hint=fields["hint"]
    )
    return error
