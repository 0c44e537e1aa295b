"""Many conversations in one process: generators that wait for descriptors, over epoll(7).

A task yields what it waits for, a mapping from descriptor to events, and until when; it is sent the descriptors that
are ready, or none at all when the time is over. Each task does a bounded piece of work between two yields, so all get
their turn. asyncio would do as well, and takes five times as long to import as all of the proxy.
"""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeVar

    Events = dict[int, int]
    Wait = tuple[Events, float]
    """Descriptors with `READ` or `WRITE`, and the `now()` at which to give up."""
    T = TypeVar("T")
    Task = Generator[Wait, Events, T]

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
BROKEN = select.EPOLLERR | select.EPOLLHUP
"""Comes without being asked for: a reset, or both directions closed."""
NEVER = float("inf")
now = time.monotonic
_GRAIN = 0.1
"""Seconds between two looks at who has waited too long."""


class TimedOut(Exception):
    """What was waited for did not come in time."""


class Loop:
    """Runs tasks; `failed` is told of one that ended with an exception that it should have caught."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._epoll = select.epoll()
        self._failed = failed
        self._owners: dict[int, Task[None]] = {}
        self._masks: dict[int, int] = {}
        self._waits: dict[Task[None], Wait] = {}
        self._next_look = NEVER

    def __len__(self) -> int:
        return len(self._waits)

    def start(self, task: Task[None]) -> None:
        """Run the task to its first wait, and from now on."""
        self._resume(task, None)

    def turn(self, until: float = NEVER) -> None:
        """Wait for something to happen, at most `until` then, and let everybody whom it concerns do a piece of work."""
        end = min(until, self._next_look)
        pause = -1.0 if end == NEVER else max(end - now(), 0.0)
        ready: dict[Task[None], Events] = {}
        for fd, events in self._epoll.poll(pause, 256):
            owner = self._owners.get(fd)
            if owner is not None:
                ready.setdefault(owner, {})[fd] = events
        for task, happened in ready.items():
            if task in self._waits:
                self._resume(task, happened)
        if now() >= self._next_look:
            self._look()

    def release(self, fd: int) -> None:
        """Watch the descriptor no more: whoever closes one says so first, since its number comes back at once."""
        self._owners.pop(fd, None)
        if self._masks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Drop all tasks: their `finally` blocks run."""
        for task in list(self._waits):
            self._forget(task, {})
            task.close()
        self._epoll.close()

    def _look(self) -> None:
        time = now()
        for task, (_wanted, deadline) in list(self._waits.items()):
            if deadline <= time and task in self._waits:
                self._resume(task, {})
        earliest = min((deadline for _wanted, deadline in self._waits.values()), default=NEVER)
        self._next_look = max(earliest, time + _GRAIN)

    def _resume(self, task: Task[None], events: Events | None) -> None:
        try:
            # A generator that has not begun takes nothing but None.
            wait = next(task) if events is None else task.send(events)
        except StopIteration:
            self._forget(task, {})
            return
        except Exception as failure:
            self._forget(task, {})
            self._failed(failure)
            return
        self._forget(task, wait[0])
        self._waits[task] = wait
        for fd, mask in wait[0].items():
            self._watch(fd, mask, task)
        self._next_look = min(self._next_look, max(wait[1], now() + _GRAIN))

    def _watch(self, fd: int, mask: int, task: Task[None]) -> None:
        self._owners[fd] = task
        known = self._masks.get(fd)
        if known == mask:
            return
        self._masks[fd] = mask
        if known is None:
            self._epoll.register(fd, mask)
        else:
            self._epoll.modify(fd, mask)

    def _forget(self, task: Task[None], kept: Events) -> None:
        """Watch no more what the task waited for, but for `kept`."""
        for fd in self._waits.pop(task, (kept, 0.0))[0]:
            if fd not in kept and self._owners.get(fd) is task:
                self.release(fd)


def wait(fd: int, mask: int, deadline: float) -> Task[None]:
    """Wait for one descriptor. Raises `TimedOut`."""
    if not (yield {fd: mask}, deadline):
        raise TimedOut
