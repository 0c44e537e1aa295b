"""Names looked up on the host's side: getaddrinfo(3) in a few threads, since it blocks.

Who asks waits for a descriptor, like for everything else. However many names somebody asks for, there are only so many
threads and so many waiting; who asks for a name that is being looked up waits for the same answer, and answers are kept
for some seconds. What comes of it is a set of addresses, which are then connected to as they are: nothing is looked up
twice, so no answer can change between its check and its use.
"""

from __future__ import annotations

import _socket
import _thread
import os

from jubako.net.proxy.loop import READ, now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.net.proxy.loop import Loop, Task

    Place = tuple[int, tuple[str, int] | tuple[str, int, int, int]]
    """An address family, and what connect(2) takes."""
    Resolve = Callable[[str], list[Place]]

KEPT, KEPT_FAILURE = 10.0, 2.0
"""Seconds for which an answer is used again."""
_LONGEST_ANSWER = 32


class LookupFailed(Exception):
    """The name has no address, or nobody can say it now."""


def ask_system(name: str) -> list[Place]:
    """The stream addresses that this host has for a name. Raises `OSError` (`gaierror`)."""
    # Bytes, since the standard library would take text through its IDNA codec, which is much to import.
    found = _socket.getaddrinfo(name.encode(), 0, _socket.AF_UNSPEC, _socket.SOCK_STREAM)
    return [(family, address) for family, _kind, _protocol, _canonical, address in found]  # type: ignore[misc]


class _Question:
    """One name that is being looked up, and who waits for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: list[int] = []
        self.answer: list[Place] | str = "no answer"
        self.is_answered = False


class Resolver:
    """Looks names up, each with a deadline."""

    def __init__(self, resolve: Resolve = ask_system, threads: int = 8, most: int = 128, remembered: int = 256) -> None:
        self._resolve = resolve
        self._threads = threads
        self._most = most
        self._remembered = remembered
        self._lock = _thread.allocate_lock()
        self._questions: dict[str, _Question] = {}
        self._queue: list[_Question] = []
        self._running = 0
        self._answers: dict[str, tuple[float, list[Place] | str]] = {}

    def look_up(self, loop: Loop, name: str, deadline: float) -> Task[list[Place]]:
        """The addresses of `name`. Raises `LookupFailed`."""
        bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        question = None
        try:
            question = self._ask(name, bell)
            if not question.is_answered:
                yield {bell: READ}, deadline
        finally:
            loop.release(bell)
            with self._lock:
                if question is not None and not question.is_answered:
                    question.waiting.remove(bell)
                os.close(bell)
        if not question.is_answered:
            raise LookupFailed("its name server does not answer")
        return _given(question.answer)

    def _ask(self, name: str, bell: int) -> _Question:
        with self._lock:
            known = self._answers.get(name)
            if known is not None and known[0] > now():
                answered = _Question(name)
                answered.answer, answered.is_answered = known[1], True
                return answered
            question = self._questions.get(name)
            if question is None:
                if len(self._questions) >= self._most:
                    raise LookupFailed("too many names are being looked up")
                question = self._questions[name] = _Question(name)
                self._queue.append(question)
                if self._running < self._threads:
                    self._running += 1
                    _thread.start_new_thread(self._work, ())
            question.waiting.append(bell)
            return question

    def _work(self) -> None:
        """A thread: answers questions until there are none."""
        while True:
            with self._lock:
                if not self._queue:
                    self._running -= 1
                    return
                question = self._queue.pop(0)
            answer: list[Place] | str
            try:
                answer = self._resolve(question.name)[:_LONGEST_ANSWER]
            except OSError as failure:
                answer = failure.strerror or str(failure)
            except Exception as failure:
                answer = f"{type(failure).__name__}: {failure}"
            with self._lock:
                del self._questions[question.name]
                question.answer, question.is_answered = answer, True
                self._remember(question.name, answer)
                for bell in question.waiting:
                    os.eventfd_write(bell, 1)

    def _remember(self, name: str, answer: list[Place] | str) -> None:
        if len(self._answers) >= self._remembered:
            self._answers.pop(next(iter(self._answers)))
        self._answers.pop(name, None)
        self._answers[name] = (now() + (KEPT_FAILURE if isinstance(answer, str) else KEPT), answer)


def _given(answer: list[Place] | str) -> list[Place]:
    if isinstance(answer, str):
        raise LookupFailed(answer)
    return answer
