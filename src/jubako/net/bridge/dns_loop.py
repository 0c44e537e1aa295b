"""The name server's event loop: descriptors with a callback each, and things that end when their time is up."""

from __future__ import annotations

import select
import time
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Timed(Protocol):
        """What has a time: `over` is called once it is up, unless it has been let go of."""

        def over(self) -> None: ...


_MOST_EVENTS = 64
_COMPLAINTS = 20


class Loop:
    """epoll(7), level-triggered. What a callback raises ends that callback only: `complain` is told, a few times."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self.epoll = select.epoll()
        self.callbacks: dict[int, Callable[[int], None]] = {}
        self.queues: dict[float, deque[tuple[float, Timed]]] = {}
        self.complain = complain
        self.complaints = 0

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback` with the events of the descriptor; in place of an earlier one."""
        if fd in self.callbacks:
            self.epoll.modify(fd, events)
        else:
            self.epoll.register(fd, events)
        self.callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Watch the descriptor no longer; before it is closed."""
        if self.callbacks.pop(fd, None) is not None:
            self.epoll.unregister(fd)

    def end_after(self, seconds: float, thing: Timed) -> None:
        """Call `thing.over()` when the time is up. Things of the same span wait in one queue."""
        self.queues.setdefault(seconds, deque()).append((time.monotonic() + seconds, thing))

    def turn(self, first: int = -1) -> bool:
        """Wait for events and serve them, those of the descriptor `first` before all others; False if `first` says
        that it is over."""
        events = dict(self.epoll.poll(self._span(), _MOST_EVENTS))
        if first >= 0 and not self._serve_first(first):
            return False
        for fd, event in events.items():
            callback = self.callbacks.get(fd)
            if callback is not None and fd != first:
                self._call(callback, event)
        self._end_what_is_due()
        return True

    def _serve_first(self, fd: int) -> bool:
        try:
            self.callbacks[fd](0)
        except EOFError:
            return False
        return True

    def _call(self, callback: Callable[[int], None], event: int) -> None:
        try:
            callback(event)
        except Exception as failure:  # whatever a container may have brought about, the others are served
            if self.complaints < _COMPLAINTS:
                self.complaints += 1
                self.complain(f"the name server could not serve: {type(failure).__name__}: {failure}")

    def _span(self) -> float:
        times = [queue[0][0] for queue in self.queues.values() if queue]
        return max(min(times) - time.monotonic(), 0.0) + 0.001 if times else -1

    def _end_what_is_due(self) -> None:
        now = time.monotonic()
        for queue in self.queues.values():
            while queue and queue[0][0] <= now:
                _, thing = queue.popleft()
                self._call(lambda _event, thing=thing: thing.over(), 0)  # type: ignore[misc]
