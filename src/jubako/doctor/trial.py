"""Running one trial: in a forked child, with a deadline, its outcome as a value.

What is to be tried stands in `jubako.doctor.trials`. The child is killed when its time is over, and with it, through
parent-death signals, whatever it forked.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time

from jubako.linux import prctl
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 2.0
"""How long one trial may take: a dead network file system must not hang the doctor."""

MESSAGE = 4096
"""Bytes of an answer; pipes pass on so many at once, whole."""


@record
class Trial:
    """How an attempt ended: `errno` 0 is success; `detail` is what the trial had to tell."""

    errno: int
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether it worked."""
        return self.errno == 0

    @property
    def code(self) -> str:
        """The errno's name ("EPERM"), or "ok"."""
        return errno.errorcode.get(self.errno, str(self.errno)) if self.errno else "ok"

    def __str__(self) -> str:
        return self.detail or ("works" if self.ok else f"{os.strerror(self.errno)} ({self.code})")


def attempt(function: Callable[..., str], *arguments: object, seconds: float = SECONDS) -> Trial:
    """Run `function` in a child and report how it ended; after `seconds` the child is killed and it is ETIMEDOUT."""
    reader, writer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _be_the_child(function, arguments, writer, parent)
    os.close(writer)
    try:
        ready = _wait_readable(reader, seconds)
        message = os.read(reader, MESSAGE) if ready else b""
    finally:
        os.close(reader)
        _end(pid)
    if not ready:
        return Trial(errno.ETIMEDOUT, f"no answer within {seconds:g} s")
    number, _, detail = message.decode(errors="replace").partition("\0")
    if not number:
        return Trial(errno.EIO, "the trial ended without an answer")
    return Trial(int(number), detail)


def _be_the_child(function: Callable[..., str], arguments: tuple[object, ...], writer: int, parent: int) -> None:
    try:
        prctl.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() == parent:
            answer = f"0\0{function(*arguments)}"
            os.write(writer, answer.encode(errors="replace")[:MESSAGE])
    except OSError as failure:
        os.write(writer, f"{failure.errno or errno.EIO}\0{described(failure)}".encode(errors="replace")[:MESSAGE])
    except BaseException as failure:  # a trial must never return into the caller's program
        os.write(writer, f"{errno.EIO}\0{type(failure).__name__}: {failure}".encode(errors="replace")[:MESSAGE])
    finally:
        os._exit(0)


def _wait_readable(fd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(seconds * 1000))


def _end(pid: int) -> None:
    """Kill and reap the child; one that hangs in the kernel is left to its parent's end."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 1.0
    while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.0005)


def described(failure: OSError) -> str:
    """The failure as "mount /proc: Operation not permitted (EPERM)"."""
    number = failure.errno or 0
    what = " ".join(str(part) for part in (getattr(failure, "call", ""), failure.filename or "") if part)
    text = f"{failure.strerror or failure} ({errno.errorcode.get(number, number)})"
    return f"{what}: {text}" if what else text
