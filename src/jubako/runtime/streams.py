"""What flows between a container and those who watch it: sources, sinks, and a log that nobody can stall.

A *source* is a descriptor that the container writes to (a pipe's read end, a pty's master); a *sink* is where it
goes: the caller's own standard output, a client that attached, the log. Output is not lost: while a sink of the
caller's is full, its source is not read, and the container feels it as it would without us.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 1 << 16
PIPE_BUF = 4096
STDOUT, STDERR = 1, 2


class Sink:
    """One place where output goes, with what it has not taken yet. It gives up silently once its reader is gone; a full
    disk it tells. `client` is a pipe made for somebody who attached."""

    def __init__(self, fd: int, *, owned: bool, client: bool = False) -> None:
        self.fd = fd
        self.owned = owned
        self.client = client
        self.pending = b""
        patient = os.get_blocking(fd) and not stat.S_ISREG(os.fstat(fd).st_mode)
        self.portion = PIPE_BUF if patient else CHUNK

    def put(self, data: bytes) -> None:
        """Queue `data`; `drain` writes it."""
        self.pending += data

    def drain(self) -> bool:
        """Write what poll(2) says fits; False when the reader is gone.

        At most PIPE_BUF bytes go out at once where a write could wait: the descriptor may be the caller's own, which
        must not be made non-blocking, and a pipe that is ready takes that much.
        """
        try:
            written = os.write(self.fd, self.pending[: self.portion])
        except BlockingIOError:
            return True
        except OSError as failure:
            if failure.errno not in (errno.EPIPE, errno.EIO):
                _tell(f"jubako: warning: output is lost: {os.strerror(failure.errno or 0)}\n")
            self.close()
            return False
        self.pending = self.pending[written:]
        return True

    def close(self) -> None:
        """Let go of the descriptor, if it is ours; again is no harm, since by then the number may be another's."""
        self.pending = b""
        if self.owned and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _tell(text: str) -> None:
    try:
        os.write(2, text.encode())
    except OSError:  # nobody can be told
        return


class Source:
    """One stream of the container. `kind` is STDOUT or STDERR; a terminal has STDOUT only."""

    def __init__(self, fd: int, kind: int, log: Callable[[int, bytes], None] | None) -> None:
        self.fd = fd
        self.kind = kind
        self.log = log
        self.sinks: list[Sink] = []
        os.set_blocking(fd, False)

    @property
    def stalled(self) -> bool:
        """Whether somebody has yet to take what was read before."""
        return any(sink.pending for sink in self.sinks)

    def pump(self) -> int:
        """Read once and hand it on: how many bytes, 0 where there are none now, -1 at the end."""
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return 0
        except OSError:  # EIO: the last one has closed the terminal
            return -1
        if not data:
            return -1
        if self.log is not None:
            self.log(self.kind, data)
        for sink in self.sinks:
            sink.put(data)
        return len(data)

    def drain(self) -> None:
        """Let every sink take a portion, and forget those whose reader is gone."""
        self.sinks = [sink for sink in self.sinks if not sink.pending or sink.drain()]

    def close(self) -> None:
        """End the stream and its sinks."""
        os.close(self.fd)
        for sink in self.sinks:
            sink.close()
        self.sinks = []


class Input:
    """What clients send to the container's standard input (a pipe's write end or a pty's master)."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.pending = b""
        self.clients: list[int] = []
        os.set_blocking(fd, False)

    def take(self, client: int) -> bool:
        """Read from one client; False when it has closed its end."""
        try:
            data = os.read(client, CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        self.pending += data
        return bool(data)

    def drain(self) -> bool:
        """Write what fits; False when the container has closed its standard input."""
        try:
            written = os.write(self.fd, self.pending)
        except BlockingIOError:
            return True
        except OSError:
            self.pending = b""
            return False
        self.pending = self.pending[written:]
        return True
