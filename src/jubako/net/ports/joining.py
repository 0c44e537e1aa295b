"""Connections on their way in: taken on the host, asked of the connector, joined with what comes back.

Where packets to a client's own address do not come back (a packet filter inside that sends the connection on to
somebody else) a connection that has it never comes about. So as long as none has on a port, one that is on its way for
a moment gets two more beside it, one with the address and right after it one without. If that is there at once and the
other one is not, it is taken. If neither is, the server is just busy: nobody shall get rid of his address by keeping
the server busy.
"""

from __future__ import annotations

import _socket
import errno
import time
from select import EPOLLOUT

from jubako.net.ports.connector import Answer, Request
from jubako.net.ports.pump import reset
from jubako.net.ports.wire import Mailbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.linux.scm import Socket
    from jubako.net.ports.loop import Loop
    from jubako.net.ports.spec import PortSpec

MOST_ASKED = 64
"""Requests on their way at a time: their answers fit into the socket's buffer, so neither end waits for the other."""
_DOUBT_SECONDS, _DOUBT_AGAIN_SECONDS = 0.5, 2.0
_PATIENCE_SECONDS = 60.0
_AGAIN_SECONDS = 60.0
"""How long a port goes without clients' addresses after they did not work."""


class Asking:
    """The connector, as the first process sees it."""

    def __init__(self, loop: Loop, link: Socket, ended: Callable[[], None]) -> None:
        self.asked: dict[int, Callable[[Answer, Socket | None], None]] = {}
        self.waiting: list[Callable[[], None]] = []
        self.number = 0
        self.mailbox = Mailbox(loop, link, self._take, ended)
        self.loop = loop

    def has_room(self) -> bool:
        """Whether one more request may be made; if not, `waiting` is called when it may."""
        return len(self.asked) < MOST_ASKED

    def ask(
        self,
        port: PortSpec,
        client: tuple[object, ...],
        keep: bool,
        first: int,
        take: Callable[[Answer, Socket | None], None],
        doubt: bool = False,
    ) -> None:
        """Ask for a socket for `client` to what `port` leads to; `take` gets it."""
        self.number += 1
        kind, family = port.protocol[:3], port.protocol[3:]
        address, number = str(client[0]), int(str(client[1]))
        request = Request(self.number, kind, family, port.address, port.port, address, number, keep, first, doubt)
        self.asked[self.number] = take
        self.mailbox.send(request.words())

    def release(self, target: str, client: str) -> None:
        """A connection that kept its client's address is closed."""
        self.mailbox.send(("release", target, client))

    def forget(self, kind: str, port: int) -> None:
        """Nothing is published from this port inside any more."""
        self.mailbox.send(("forget", kind, port))

    def _take(self, words: list[str], descriptors: tuple[int, ...]) -> None:
        answer = Answer.read(words)
        take = self.asked.pop(answer.number)
        socket = _socket.socket(-1, -1, -1, fileno=descriptors[0]) if descriptors else None
        take(answer, socket)
        if self.waiting and self.has_room():
            self.loop.soon += self.waiting
            self.waiting = []


class Joining:
    """One client of a TCP port, until it is joined with a socket inside or turned away."""

    def __init__(
        self,
        asking: Asking,
        port: PortSpec,
        client: Socket,
        address: tuple[object, ...],
        keep: Keeping,
        done: Callable[[Socket | None, Answer | None], None],
    ) -> None:
        self.asking = asking
        self.port = port
        self.client = client
        self.address = address
        self.keep = keep
        self.done = done
        self.attempt: tuple[Socket, Answer] | None = None
        """One that is on its way."""
        self.asked = False
        self.over = False
        self.since = time.monotonic()
        self.doubt = _DOUBT_SECONDS
        self._ask(keep.now(), 0)

    def look(self) -> None:
        """Begin a second attempt, or give up, when it is time."""
        age = time.monotonic() - self.since
        if age > _PATIENCE_SECONDS:
            self._finish(None, None)
        elif age > self.doubt and self.attempt and not self.asked and not self.keep.proven:
            answer = self.attempt[1]
            if answer.kept:
                self.doubt = age + _DOUBT_AGAIN_SECONDS
                self._ask(True, answer.index, doubt=True)

    def _ask(self, keep: bool, first: int, doubt: bool = False) -> None:
        self.asked = True
        self.asking.ask(self.port, self.address, keep, first, self._take, doubt)

    def _take(self, answer: Answer, socket: Socket | None) -> None:
        self.asked = False
        if self.over:
            self._drop(socket, answer)
        elif self.attempt:
            if socket is None or answer.pending:
                self._drop(socket, answer)
            else:
                if not answer.kept:
                    self.keep.failed(self.port)
                self._finish(socket, answer)
        elif socket is None:
            self._finish(None, None)
        elif answer.pending:
            self.attempt = (socket, answer)
            self.asking.loop.add(socket.fileno(), EPOLLOUT, self._on_event)
        else:
            self._finish(socket, answer)

    def _on_event(self, _events: int) -> None:
        if not self.attempt:
            return
        socket, answer = self.attempt
        self.attempt = None
        self.asking.loop.remove(socket.fileno())
        error = socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if not error:
            self._finish(socket, answer)
            return
        self._drop(socket, answer)
        if self.asked:
            return  # a second attempt is being made: its outcome is the first one's, too
        if error in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH):
            self._ask(answer.kept, answer.index + 1)
        else:
            self._finish(None, None)

    def _finish(self, socket: Socket | None, answer: Answer | None) -> None:
        self.over = True
        if self.attempt:
            self.asking.loop.remove(self.attempt[0].fileno())
            self._drop(*self.attempt)
            self.attempt = None
        if socket is None:
            reset(self.client)
        elif answer and answer.kept:
            self.keep.proven = True
        self.done(socket, answer)

    def _drop(self, socket: Socket | None, answer: Answer) -> None:
        if socket is not None:
            socket.close()
            if answer.kept:
                self.asking.release(answer.target, str(self.address[0]))


class Keeping:
    """Whether the clients of a port keep their addresses; not for a while after that did not work."""

    def __init__(self, wanted: bool, say: Callable[[str], None]) -> None:
        self.wanted = wanted
        self.say = say
        self.until = 0.0
        self.proven = False
        """A connection has come about with its client's address."""

    def now(self) -> bool:
        """Whether to try."""
        return self.wanted and time.monotonic() >= self.until

    def failed(self, port: PortSpec) -> None:
        """A connection came about only without."""
        self.until = time.monotonic() + _AGAIN_SECONDS
        self.say(f"port {port}: answers to a client's own address do not come back: it is not kept for a while")
