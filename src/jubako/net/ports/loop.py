"""The event loop of the builtin port driver: epoll(7), a few timers, and work that goes on in the next turn."""

from __future__ import annotations

import os
import time
from select import epoll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_EVENTS = 512


class Loop:
    """Calls `handler(events)` for descriptors; one thread, until `over`."""

    def __init__(self) -> None:
        self.epoll = epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.soon: list[Callable[[], None]] = []
        self.timers: dict[object, tuple[float, Callable[[], None]]] = {}
        self.over = False
        self._among_events = False
        self._closing: list[int] = []

    def add(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler` for `events`; errors and hang-ups always come."""
        self.epoll.register(fd, events)
        self.handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        """Wait for other events."""
        self.epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget a descriptor, which is still open."""
        if self.handlers.pop(fd, None):
            self.epoll.unregister(fd)

    def close_fd(self, fd: int) -> None:
        """Close a descriptor; when all events of this turn are done, so that none meets its number's next owner."""
        if self._among_events:
            self._closing.append(fd)
        else:
            os.close(fd)

    def at(self, key: object, seconds: float, work: Callable[[], None]) -> None:
        """Do `work` once, in `seconds`; one that was set under the same key is replaced."""
        self.timers[key] = (time.monotonic() + seconds, work)

    def at_first(self, key: object, seconds: float, work: Callable[[], None]) -> None:
        """As `at`, unless something is set under the key already."""
        if key not in self.timers:
            self.at(key, seconds, work)

    def run(self) -> None:
        """Until `over`."""
        handlers, poll = self.handlers, self.epoll.poll
        while not self.over:
            found = poll(self._patience(), _EVENTS)
            self._among_events = True
            for fd, events in found:
                handler = handlers.get(fd)
                if handler is not None:
                    handler(events)
            self._among_events = False
            if self._closing:
                for fd in self._closing:
                    os.close(fd)
                self._closing.clear()
            if self.soon:
                work, self.soon = self.soon, []
                for each in work:
                    each()
            if self.timers:
                self._ring()

    def _patience(self) -> float:
        if self.soon:
            return 0.0
        if not self.timers:
            return -1
        return max(0.0, min(due for due, _work in self.timers.values()) - time.monotonic())

    def _ring(self) -> None:
        now = time.monotonic()
        for key, (due, work) in list(self.timers.items()):
            if due <= now and self.timers.get(key, (0, None))[1] is work:
                del self.timers[key]
                work()
