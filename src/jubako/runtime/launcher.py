"""The caller's side of the launcher: start a small clean interpreter, and have it make containers.

The caller's own process may have threads, gigabytes and signal handlers, so it is never forked: the interpreter is
started with posix_spawn(3), which copies no page table and runs no Python in the child. The two are connected by one
packet socket; when the caller's end is closed, in whatever way, the launcher ends, and with it all of its containers.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys
from _thread import allocate_lock

from jubako.errors import JubakoError
from jubako.linux import scm
from jubako.runtime.messages import Exited, Signal, Started, decode, encode
from jubako.runtime.requests import PROCESS, READY, Request, decode_refusal, send_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from jubako.linux.scm import Socket

PROGRAM = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/sandbox/launcher_main.py"
CHANNEL = 3
"""The number that the launcher's end of the socket has in the launcher."""

# What decides where jubako keeps things, and how newuidmap is found; nothing else of the caller's is the launcher's.
_VARIABLES = (
    "HOME", "PATH", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME",
    "LD_LIBRARY_PATH", "JUBAKO_ROOT", "JUBAKO_RUN", "JUBAKO_DEBUG",
)  # fmt: skip
_SIGNALS = tuple(range(1, 32))
_PATIENCE = 60.0
_GOODBYE = 5.0


class Launcher:
    """One launcher process, started at the first use. Any number of threads may call `launch` at once.

    After a fork of the caller the child's copy is closed (`forget`): the launcher belongs to who started it.
    """

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._socket: Socket | None = None
        self._process = -1
        self._owner = 0
        self._closed = False

    def launch(self, request: Request, streams: tuple[int, int, int]) -> Running:
        """Have `request` started with these standard streams. Raises `JubakoError` if there is no launcher to be had.

        Whether the program could be started is told by the result. The caller keeps its descriptors and closes them.
        """
        for attempt in (1, 2):
            socket = self._connected()
            ours, theirs = scm.pair()
            try:
                send_request(socket, request, (theirs.fileno(), *streams))
            except OSError as failure:
                ours.close()
                if failure.errno not in (errno.EPIPE, errno.ECONNRESET, errno.EBADF, errno.ENOTCONN):
                    raise JubakoError.from_os_error("ask the launcher", "", failure) from failure
                # It was killed and this request never left, so another one can have it.
                self._discard(socket)
                if attempt == 2:
                    raise _gone() from failure
                continue
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
            return Running(ours)
        raise _gone()

    def start(self) -> None:
        """Start the launcher now, so that what prevents it is known, and the first container does not wait for it."""
        self._connected()

    def close(self) -> None:
        """End the launcher and all of its containers, and wait until they are gone."""
        with self._lock:
            self._closed = True
            self._end()
        if self in _launchers:
            _launchers.remove(self)

    def forget(self) -> None:
        """Let go of a launcher that belongs to the process this one was forked from."""
        self._lock = allocate_lock()  # another thread may have held it when the process was forked
        if self._socket is not None:
            self._socket.close()
        if self._process >= 0:
            os.close(self._process)
        self._socket, self._process = None, -1

    @property
    def pid(self) -> int:
        """The launcher's pid, 0 when none runs."""
        from jubako.linux.pidfd import host_pid

        return max(host_pid(self._process), 0) if self._process >= 0 else 0

    def _connected(self) -> Socket:
        socket = self._socket
        if socket is not None and self._owner == os.getpid():
            return socket
        with self._lock:
            if self._closed:
                raise JubakoError("run a container", reason="the sandbox is closed")
            if self._socket is not None and self._owner != os.getpid():
                self.forget()
                return self._connected()
            if self._socket is None:
                self._socket, self._process = _start()
                self._owner = os.getpid()
                _remember(self)
            return self._socket

    def _discard(self, socket: Socket) -> None:
        """Let go of a launcher that has ended; another thread may have done so already."""
        with self._lock:
            if self._socket is socket:
                self._end()

    def _end(self) -> None:
        socket, process = self._socket, self._process
        self._socket, self._process = None, -1
        if socket is None or self._owner != os.getpid():
            return
        # Other threads may still wait in sendmsg on this socket: shutting it down wakes them, closing would not.
        try:
            socket.shutdown(2)
        except OSError:
            pass
        socket.close()
        if not _has_ended(process, _GOODBYE):
            _kill(process)
            _has_ended(process, _GOODBYE)
        os.close(process)


class Running:
    """A container that was asked for: the answers about it. Closing it ends the container. Not for several threads."""

    def __init__(self, answers: Socket) -> None:
        self._answers = answers
        self._code: int | None = None
        self.started = False
        self.pid = 0
        """The first process as the host counts it, once it is `started` (and that was to be announced)."""

    def fileno(self) -> int:
        """Readable when there is an answer to `receive`."""
        return self._answers.fileno()

    def receive(self) -> int | None:
        """Take one answer, waiting for it: the exit code, or None when it said that the program runs.

        Raises the `JubakoError` of a container that could not be made, or when the launcher is gone.
        """
        if self._code is not None:
            return self._code
        packet = self._receive()
        if not packet:
            self._code = 137
            raise _gone()
        refusal = decode_refusal(packet) if packet.startswith(b"Refused") else None
        if refusal is not None:
            self._code = refusal.exit_code
            raise refusal.error()
        message = decode(packet)
        if isinstance(message, Started):
            self.started, self.pid = True, message.pid
        elif isinstance(message, Exited):
            self._code = message.code
        return self._code

    def _receive(self) -> bytes:
        try:
            return self._answers.recv(1 << 16)
        except ConnectionResetError:  # the launcher had a signal of ours unread when it closed; its answer comes next
            return self._answers.recv(1 << 16)

    def wait_until_started(self) -> None:
        """Wait until the program runs (or has run already). Raises as `receive` does."""
        while not self.started and self.receive() is None:
            continue

    def signal(self, number: int) -> None:
        """Send a signal to the container's first process; nothing happens if it has ended."""
        try:
            self._answers.send(encode(Signal(number)))
        except OSError:
            pass

    def close(self) -> None:
        """Let go; a container that still runs is killed."""
        self._answers.close()


def _gone() -> JubakoError:
    return JubakoError(
        "run a container", reason="the launcher process has ended", hint="it was killed; the next call starts another"
    )


# --- starting one -----------------------------------------------------------------------------------------------------


def _start() -> tuple[Socket, int]:
    """A launcher that is ready: its socket and its pidfd."""
    interpreter = find_interpreter()
    ours, theirs = scm.pair()
    try:
        said = os.memfd_create("jubako-launcher-stderr", os.MFD_CLOEXEC)
        try:
            process = _wait_until_ready(_spawn(interpreter, theirs, said), ours, theirs, said)
        finally:
            os.close(said)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return ours, process


def find_interpreter() -> str:
    """The Python to start: the one that runs here, or where that is unknown (an embedded one) the one on PATH."""
    for path in (sys.executable, getattr(sys, "_base_executable", "")):
        if path and os.access(path, os.X_OK):
            return path
    for directory in os.environ.get("PATH", os.defpath).split(":"):
        path = f"{directory}/python3"
        if directory.startswith("/") and os.access(path, os.X_OK):
            return path
    raise JubakoError(
        "start the launcher",
        reason="no Python interpreter was found",
        hint="sys.executable is empty, and PATH has no python3",
    )


def _spawn(interpreter: str, channel: Socket, said: int) -> int:
    options = ["-I", "-S", "-B"] if sys.dont_write_bytecode else ["-I", "-S"]
    error = 2 if os.environ.get("JUBAKO_DEBUG") and _is_open(2) else said
    # Above the numbers that are about to be overwritten: a caller may have closed its own standard streams.
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, CHANNEL + 1) for fd in (channel.fileno(), error)]
    actions = (
        (os.POSIX_SPAWN_DUP2, copies[0], CHANNEL),
        (os.POSIX_SPAWN_DUP2, copies[1], 2),
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
    )
    try:
        return os.posix_spawn(
            interpreter, [interpreter, *options, PROGRAM], _environment(os.environ),
            file_actions=actions, setsid=True, setsigmask=(), setsigdef=_SIGNALS,
        )  # fmt: skip
    except OSError as failure:
        raise JubakoError.from_os_error("start the launcher", interpreter, failure) from failure
    finally:
        for fd in copies:
            os.close(fd)


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in _VARIABLES if name in environment}


def _wait_until_ready(pid: int, ours: Socket, theirs: Socket, said: int) -> int:
    """The launcher's pidfd, once it serves. `pid` is the process that starts it, and ends as soon as it has."""
    theirs.close()
    process, ready = -1, False
    try:
        while not ready or process < 0:  # the two say so independently of each other
            if not _is_readable(ours.fileno(), _PATIENCE):
                raise JubakoError("start the launcher", reason=f"it was not ready within {_PATIENCE:.0f} seconds")
            try:
                packet, descriptors = scm.receive(ours)
            except ConnectionResetError:
                packet, descriptors = b"", ()
            if packet == PROCESS and descriptors:
                process = descriptors[0]
            elif packet == READY:
                ready = True
            else:
                refusal = decode_refusal(packet) if packet.startswith(b"Refused") else None
                raise refusal.error() if refusal else _start_failed(said)
        return process
    except BaseException:
        if process >= 0:
            _kill(process)
            os.close(process)
        else:
            _kill_child(pid)
        raise
    finally:
        _wait_for_child(pid)


def _start_failed(said: int) -> JubakoError:
    text = os.pread(said, 1 << 16, 0).decode(errors="replace").strip()
    last = text.splitlines()[-1] if text else "it ended without a word"
    return JubakoError("start the launcher", PROGRAM, reason=last, hint="JUBAKO_DEBUG=1 shows all that it says")


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# --- processes and forks ----------------------------------------------------------------------------------------------


def _is_readable(fd: int, seconds: float) -> bool:
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def _has_ended(process: int, seconds: float) -> bool:
    return _is_readable(process, seconds)


def _kill(process: int) -> None:
    import _signal

    try:
        _signal.pidfd_send_signal(process, 9)
    except ProcessLookupError:
        pass


def _kill_child(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass


def _wait_for_child(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:  # the caller ignores SIGCHLD, or waits for whatever child there is
        pass


_launchers: list[Launcher] = []
_hooked = False


def _remember(launcher: Launcher) -> None:
    """Note a launcher that runs, so that it can be let go of after a fork and ended at exit."""
    global _hooked
    if not _hooked:
        import atexit

        _hooked = True
        os.register_at_fork(after_in_child=_forget_all)
        atexit.register(_close_all)
    if launcher not in _launchers:
        _launchers.append(launcher)


def _forget_all() -> None:
    for launcher in _launchers:
        launcher.forget()


def _close_all() -> None:
    for launcher in tuple(_launchers):
        launcher.close()
