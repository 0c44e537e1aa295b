"""More processes that move bytes, made when there is more than one connection to share out among the CPUs.

The first process takes all connections. One that it hands over it forgets but for a number; the worker tells the number
when the connection is closed. A worker that is not used for a while is sent away; one that crashes takes its own
connections along, and nothing else.
"""

from __future__ import annotations

import _socket
import gc
import os

from jubako.linux import caps, scm
from jubako.linux.descriptors import close_all_but
from jubako.net.ports.loop import Loop
from jubako.net.ports.pipes import Budget, Pipes
from jubako.net.ports.pump import Pump
from jubako.net.ports.wire import Mailbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.linux.scm import Socket

_SHARE = 2
"""Connections of the least busy process that make another one worth while."""
_IDLE_SECONDS = 30.0
_MOST = 16


class Workers:
    """The pump of this process, and those of workers."""

    def __init__(self, loop: Loop, pump: Pump, limit: int, closed: Callable[[int], None], most: int = 0) -> None:
        self.loop = loop
        self.pump = pump
        self.limit = limit
        """Descriptors of one process."""
        self.closed = closed
        self.workers: list[_Worker] = []
        self.most = most or min(len(os.sched_getaffinity(0)), _MOST)

    def start(self, number: int, one: Socket, other: Socket) -> None:
        """Move the bytes of this pair, in the process that has the fewest; `closed(number)` says when it is over."""
        least = min(self.workers, key=_count, default=None)
        if (least is None or least.count >= _SHARE) and self.pump.count >= _SHARE and len(self.workers) + 1 < self.most:
            least = self._make() or least
        if least is None or least.count >= self.pump.count or least.count * 4 > self.limit:
            self.pump.start(number, one, other)
        else:
            least.start(number, one, other)

    def _make(self) -> _Worker | None:
        here, there = scm.pair()
        try:
            pid = os.fork()
        except OSError:  # no more processes: as many as there are will do
            here.close()
            there.close()
            return None
        if pid == 0:
            code = 1
            try:
                gc.freeze()  # what was the parent's is never cleaned up here: its descriptors have new owners
                close_all_but((0, 1, 2, there.fileno()))
                run_worker(there, self.limit)
                code = 0
            except BaseException as failure:
                os.write(2, f"a worker has failed: {failure!r}\n".encode(errors="replace"))
            finally:
                os._exit(code)
        there.close()
        worker = _Worker(self, here)
        self.workers.append(worker)
        return worker


class _Worker:
    def __init__(self, workers: Workers, socket: Socket) -> None:
        self.workers = workers
        self.numbers: set[int] = set()
        self.mailbox = Mailbox(workers.loop, socket, self._take, self._ended)

    @property
    def count(self) -> int:
        return len(self.numbers)

    def start(self, number: int, one: Socket, other: Socket) -> None:
        self.numbers.add(number)

        def sent() -> None:
            one.close()
            other.close()

        self.mailbox.send(("start", number), (one.fileno(), other.fileno()), sent)

    def _take(self, words: list[str], _descriptors: tuple[int, ...]) -> None:
        number = int(words[0])
        self.numbers.discard(number)
        self.workers.closed(number)
        if not self.numbers:
            self.workers.loop.at(self, _IDLE_SECONDS, self._dismiss)

    def _dismiss(self) -> None:
        if not self.numbers:
            self.mailbox.close()
            self._ended()

    def _ended(self) -> None:
        self.workers.workers.remove(self)
        for number in self.numbers:
            self.workers.closed(number)


def _count(worker: _Worker) -> int:
    return worker.count


def run_worker(socket: Socket, limit: int) -> None:
    """Move the bytes of the pairs that come through `socket`, until its end."""
    caps.capset(0, 0, 0)
    loop = Loop()
    budget = Budget(loop, limit)

    def closed(number: int) -> None:
        mailbox.send((number,))

    def take(words: list[str], descriptors: tuple[int, ...]) -> None:
        number = int(words[1])
        if len(descriptors) != 2:  # there was no room for them
            for fd in descriptors:
                os.close(fd)
            closed(number)
            return
        one, other = (_socket.socket(-1, -1, -1, fileno=fd) for fd in descriptors)
        pump.start(number, one, other)

    def ended() -> None:
        loop.over = True

    pump = Pump(loop, Pipes(budget), closed)
    mailbox = Mailbox(loop, socket, take, ended)
    loop.run()
