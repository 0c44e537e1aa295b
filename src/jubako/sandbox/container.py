"""A container that runs beside the caller: what `start` returns, as `subprocess.Popen` is for processes."""

from __future__ import annotations

import select
import time
from _thread import allocate_lock

from jubako.errors import JubakoError
from jubako.sandbox.errors import TimeLimitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO

    from jubako.runtime.launcher import Running
    from jubako.sandbox.streams import Streams

SIGKILL = 9


class Container:
    """A running container. `stdin`, `stdout` and `stderr` are unbuffered binary files where PIPE was asked for.

    As a context manager it is killed at the end, if it still runs. Several threads may wait for it and signal it.
    """

    def __init__(self, args: tuple[str, ...], running: Running, streams: Streams) -> None:
        self.args = args
        self.pid = running.pid
        """The program's pid as the host counts it."""
        self._running = running
        self._lock = allocate_lock()
        self._code: int | None = None
        self.stdin: BinaryIO | None = None
        self.stdout: BinaryIO | None = None
        self.stderr: BinaryIO | None = None
        if streams.feed is not None:
            self.stdin = _open(streams.feed.fd, "wb")
        if streams.output is not None:
            self.stdout = _open(streams.output.fd, "rb")
        if streams.error is not None:
            self.stderr = _open(streams.error.fd, "rb")

    @property
    def exit_code(self) -> int | None:
        """The exit code as shells count it; None while it runs."""
        return self._code

    def poll(self) -> int | None:
        """Look whether it has ended, without waiting."""
        return self._wait(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends; the exit code. After `timeout` seconds `TimeLimitError`; it runs on then."""
        code = self._wait(timeout)
        if code is None:
            failure = TimeLimitError(" ".join(self.args), timeout or 0.0, None, None)
            failure.reason = f"it still runs after {timeout or 0.0:g} seconds"
            failure.hint = ""
            raise failure
        return code

    def kill(self) -> None:
        """Kill all of its processes (SIGKILL to its first process: the kernel ends the rest)."""
        self.send_signal(SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal to its program, which as PID 1 gets only what it handles (and SIGKILL and SIGSTOP)."""
        if self._code is None:
            self._running.signal(number)

    def close(self) -> None:
        """Kill it if it still runs, wait for its end and close the streams."""
        if self._code is None:
            self.kill()
            try:
                self._wait(None)
            except JubakoError:  # the launcher is gone, and the container with it
                pass
        self._running.close()
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                try:
                    file.close()
                except OSError:
                    continue

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, timeout: float | None) -> int | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._code is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            # Several threads may wait here; whoever holds the lock takes the answer, the others see the code soon.
            if not self._lock.acquire(timeout=-1 if left is None else left) and self._code is None:
                return None
            try:
                if self._code is None:
                    waiting = select.poll()
                    waiting.register(self._running.fileno(), select.POLLIN)
                    if not waiting.poll(None if left is None else left * 1000):
                        return None
                    try:
                        self._code = self._running.receive()
                    except JubakoError:
                        self._code = 128 + SIGKILL
                        raise
            finally:
                self._lock.release()
        return self._code


def _open(fd: int, mode: str) -> BinaryIO:
    import os

    os.set_blocking(fd, True)
    return open(fd, mode, buffering=0)  # type: ignore[return-value]
