"""Pipes through which splice(2) moves bytes from socket to socket, and how many descriptors may be open.

A pipe belongs to a direction of a connection only while there are bytes in it, so a thousand quiet connections hold
none. Pipes start at the kernel's 64 KiB; the busiest get larger ones (`F_SETPIPE_SZ`, fcntl(2)) as long as the kernel
lets an ordinary user (`fs.pipe-user-pages-soft`), and live with what they have otherwise.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.net.ports.loop import Loop

_F_SETPIPE_SZ = 1031
LARGE = (1 << 18, 1 << 17)
MOST_LARGE = 32
"""Of one process: 8 MiB of the 64 that all pipes of a user may have."""
_MOST_FREE = 32
_RETRY_SECONDS = 0.2


class Budget:
    """How many descriptors a process still may open; when some are given back, those that wait try again."""

    def __init__(self, loop: Loop, limit: int) -> None:
        self.loop = loop
        self.limit = limit
        self.used = 0
        self.waiting: list[Callable[[], None]] = []

    def has(self, count: int) -> bool:
        """Whether `count` more descriptors can be had."""
        return self.used + count <= self.limit

    def take(self, count: int = 1) -> None:
        """Count descriptors that have been opened."""
        self.used += count

    def give(self, count: int = 1) -> None:
        """Count descriptors that have been closed."""
        self.used -= count
        if self.waiting:
            self.wake()

    def wait(self, work: Callable[[], None]) -> None:
        """Do `work` when there are descriptors again; after a while in any case, since others use them up too."""
        self.waiting.append(work)
        self.loop.at_first("descriptors", _RETRY_SECONDS, self.wake)

    def wake(self) -> None:
        """Let those that wait try, in the next turn."""
        self.loop.soon += self.waiting
        self.waiting = []


class Pipe:
    """An empty pipe, to begin with; both ends do not block."""

    __slots__ = ("large", "reader", "writer")

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.large = False

    def grow(self) -> bool:
        """Make room, as much as may be had."""
        for size in LARGE:
            try:
                fcntl.fcntl(self.writer, _F_SETPIPE_SZ, size)
            except OSError:  # EPERM above the user's limit, EBUSY, ENOMEM
                continue
            self.large = True
            return True
        return False

    def close(self) -> None:
        """Close both ends, and lose what is in it."""
        os.close(self.reader)
        os.close(self.writer)


class Pipes:
    """The pipes of one process. Empty ones are kept for the next who asks, a bounded number."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.free: tuple[list[Pipe], list[Pipe]] = ([], [])
        self.large = 0
        self.may_grow = True

    def take(self, large: bool) -> Pipe | None:
        """An empty pipe, large if there may be one; None where no descriptors are left."""
        kept = self.free[large] or self.free[not large]
        pipe = kept.pop() if kept else self._make()
        if pipe and large and not pipe.large and self.may_grow and self.large < MOST_LARGE:
            self.may_grow = pipe.grow()
            self.large += pipe.large
        return pipe

    def give(self, pipe: Pipe, empty: bool = True) -> None:
        """Take a pipe back; one that still holds bytes is closed."""
        kept = self.free[pipe.large]
        if empty and len(kept) < _MOST_FREE and not self.budget.waiting:
            kept.append(pipe)
            return
        self.large -= pipe.large
        pipe.close()
        self.budget.give(2)

    def close_free(self) -> None:
        """Close those that nobody uses."""
        for kept in self.free:
            while kept:
                pipe = kept.pop()
                self.large -= pipe.large
                pipe.close()
                self.budget.give(2)
        self.may_grow = True

    def _make(self) -> Pipe | None:
        if not self.budget.has(2):
            return None
        try:
            pipe = Pipe()
        except OSError:  # EMFILE, ENFILE
            return None
        self.budget.take(2)
        return pipe
