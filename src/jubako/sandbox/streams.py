"""Standard streams between a caller and a container, without threads: one poll(2) loop feeds and reads all three.

What a container gets is a pipe, a socket or the null device, never more: through `/proc/self/fd` a program may open
a *file* again with other rights, list the host from a *directory*, and type into a *terminal* (`TIOCSTI`). So files
and terminals are relayed through a pipe, and directories are refused.
"""

from __future__ import annotations

import os
import select
import stat
import time

from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from jubako.runtime.launcher import Running

    class HasFileno(Protocol):
        """A file object."""

        def fileno(self) -> int: ...

    Stream = int | HasFileno | None

PIPE, STDOUT, DEVNULL = -1, -2, -3
"""As in `subprocess`: capture or feed, send errors where output goes, nothing. None is the caller's own stream."""
SIGKILL = 9
_CHUNK = 1 << 16
_NAMES = ("input", "output", "error")


class Sink:
    """Where one output goes: kept (up to a limit), or written on to a descriptor of the caller's."""

    __slots__ = ("copy_to", "fd", "kept", "room", "truncated")

    def __init__(self, fd: int, copy_to: int = -1, limit: int | None = None) -> None:
        self.fd = fd
        self.copy_to = copy_to
        self.kept: list[bytes] = []
        self.room = limit
        self.truncated = False

    def read(self) -> bool:
        """Take what is there; False at the end."""
        try:
            data = os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return True
        if not data:
            return False
        if self.copy_to >= 0:
            write_all(self.copy_to, data)
            return True
        if self.room is not None:
            self.truncated = self.truncated or len(data) > self.room
            data = data[: self.room]
            self.room -= len(data)
        if data:
            self.kept.append(data)
        return True

    def drain(self) -> None:
        """Take the rest: whoever wrote is dead, so what is not there now will never be."""
        try:
            while data := os.read(self.fd, _CHUNK):
                if self.copy_to >= 0:
                    write_all(self.copy_to, data)
                elif self.room is None:
                    self.kept.append(data)
                else:
                    self.truncated = self.truncated or len(data) > self.room
                    self.kept.append(data[: self.room])
                    self.room -= len(self.kept[-1])
        except BlockingIOError:
            return


class Feed:
    """What one container is fed: bytes, or what a descriptor of the caller's has, until that ends."""

    __slots__ = ("fd", "pending", "source")

    def __init__(self, fd: int, data: bytes = b"", source: int = -1) -> None:
        self.fd = fd
        self.pending = memoryview(data)
        self.source = source

    @property
    def waits_for(self) -> tuple[int, int]:
        """The descriptor and the event to wait for."""
        return (self.fd, select.POLLOUT) if self.pending or self.source < 0 else (self.source, select.POLLIN)

    def go_on(self) -> bool:
        """Pass on some; False when all is said, or nobody listens any more."""
        if not self.pending and self.source >= 0:
            self.pending = memoryview(os.read(self.source, _CHUNK))
            return bool(self.pending)
        try:
            self.pending = self.pending[os.write(self.fd, self.pending[:_CHUNK]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return bool(self.pending) or self.source >= 0


class Streams:
    """The three streams of one container. `theirs` are handed over, and then closed with `close_theirs`.

    With `relay` files and terminals are relayed by the loop of `exchange`; without it (nobody is there to run the
    loop) they are refused. Raises `UsageError`.
    """

    def __init__(
        self,
        stdin: Stream = DEVNULL,
        stdout: Stream = PIPE,
        stderr: Stream = PIPE,
        *,
        data: bytes | None = None,
        relay: bool = True,
        limit: int | None = None,
    ) -> None:
        self.feed: Feed | None = None
        self.output: Sink | None = None
        self.error: Sink | None = None
        self._owned: list[int] = []
        self._relay = relay
        self._limit = limit
        try:
            first = self._input(stdin, data)
            second, self.output = self._output(1, stdout)
            if _number(stderr, 2) == STDOUT:
                third = second
            else:
                third, self.error = self._output(2, stderr)
        except BaseException:
            self.close()
            raise
        self.theirs = (first, second, third)

    def close_theirs(self) -> None:
        """Close the container's ends here, once it has them (or will never)."""
        for fd in self._owned:
            os.close(fd)
        self._owned = []

    def close(self) -> None:
        """Close everything on this side."""
        self.close_theirs()
        self._end_feed()
        for sink in (self.output, self.error):
            if sink is not None and sink.fd >= 0:
                os.close(sink.fd)
                sink.fd = -1

    def exchange(self, running: Running, deadline: float | None = None) -> int | None:
        """Feed and read until the container ends; its exit code, or None when `deadline` (monotonic) has come."""
        sinks = {sink.fd: sink for sink in (self.output, self.error) if sink is not None and sink.fd >= 0}
        answers = running.fileno()
        killed = False
        while True:
            waiting = select.poll()
            waiting.register(answers, select.POLLIN)
            for fd in sinks:
                waiting.register(fd, select.POLLIN)
            wanted = self.feed.waits_for if self.feed is not None else (-1, 0)
            if wanted[0] >= 0:
                waiting.register(*wanted)
            changed = False
            while not changed:
                events = waiting.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000)
                if not events:
                    return None
                for fd, _event in events:
                    if fd == answers:
                        code = running.receive()
                        if code is not None:
                            for sink in sinks.values():
                                sink.drain()
                            return code
                    elif fd == wanted[0]:
                        changed = True
                        if self.feed is not None and not self.feed.go_on():
                            self._end_feed()
                    elif not sinks[fd].read():
                        del sinks[fd]
                        changed = True
                        break
                if self.truncated and not killed:
                    killed = True
                    running.signal(SIGKILL)

    @property
    def truncated(self) -> bool:
        """Whether there was more output than may be kept."""
        return any(sink is not None and sink.truncated for sink in (self.output, self.error))

    def _input(self, stdin: Stream, data: bytes | None) -> int:
        number = _number(stdin, 0)
        if data is not None:
            reader, writer = self._pipe(ours_is_reader=False)
            self.feed = Feed(writer, data)
            if not data:
                self._end_feed()
            return reader
        if number == PIPE:
            reader, writer = self._pipe(ours_is_reader=False)
            self.feed = Feed(writer)
            return reader
        if number == DEVNULL:
            return self._null()
        if self._passes(number, 0):
            return number
        reader, writer = self._pipe(ours_is_reader=False)
        self.feed = Feed(writer, source=number)
        return reader

    def _output(self, which: int, stream: Stream) -> tuple[int, Sink | None]:
        number = _number(stream, which)
        if number == DEVNULL:
            return self._null(), None
        if number != PIPE and self._passes(number, which):
            return number, None
        reader, writer = self._pipe(ours_is_reader=True)
        return writer, Sink(reader, -1 if number == PIPE else number, self._limit)

    def _passes(self, fd: int, which: int) -> bool:
        """Whether the container may have the descriptor itself."""
        name = f"standard {_NAMES[which]}"
        try:
            status = os.fstat(fd)
        except (OSError, OverflowError):
            raise UsageError(f"use as {name}", f"descriptor {fd}", reason="it is not open") from None
        if stat.S_ISDIR(status.st_mode):
            raise UsageError(
                f"use as {name}", f"descriptor {fd}", reason="it is a directory",
                hint="a program inside could list the host through it: give a file, a pipe or DEVNULL",
            )  # fmt: skip
        if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode):
            return True
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3):
            return True
        if not self._relay:
            raise UsageError(
                f"use as {name}", f"descriptor {fd}", reason="a file or a terminal is never handed over as it is",
                hint="give PIPE or DEVNULL, or use run(), which relays",
            )  # fmt: skip
        return False

    def _pipe(self, *, ours_is_reader: bool) -> tuple[int, int]:
        reader, writer = os.pipe()
        self._owned.append(writer if ours_is_reader else reader)
        os.set_blocking(reader if ours_is_reader else writer, False)
        return reader, writer

    def _null(self) -> int:
        fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._owned.append(fd)
        return fd

    def _end_feed(self) -> None:
        if self.feed is not None and self.feed.fd >= 0:
            os.close(self.feed.fd)
        self.feed = None


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, waiting where the other end is slow."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            waiting = select.poll()
            waiting.register(fd, select.POLLOUT)
            waiting.poll()


def _number(stream: Stream, default: int) -> int:
    if stream is None:
        return default
    if isinstance(stream, int):
        return stream
    flush = getattr(stream, "flush", None)
    if flush is not None:
        flush()
    return stream.fileno()
