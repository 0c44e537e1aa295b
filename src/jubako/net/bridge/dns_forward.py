"""Questions that go on to the name servers outside: bounded in number, each from a port and under a number of its own.

An answer counts only if it comes from the server that was asked, to that port, under that number and with the same
question (RFC 5452). What the container had sent goes on as it is, so that EDNS and DNSSEC work.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from _struct import pack, unpack

from jubako.net.bridge.dns_message import SERVFAIL, Question, answer, is_answer_to, with_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.net.bridge.dns_loop import Loop

    Reply = Callable[[bytes], None]

MOST = 512
"""Questions that are outside at one time."""
MOST_OF_ONE = 64
"""And those of one container."""
SECONDS = 2.0
"""How long one server has."""
TRIES = 3
"""How often one question is sent, to one server after the other."""
DEAF_SECONDS = 60.0
_PORT = 53


class Forwarder:
    """Asks the servers outside, one after the other."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.count = 0
        self.of: dict[object, int] = {}
        self.deaf: dict[str, float] = {}
        """Servers that have not answered over TCP, and until when they are asked by datagrams alone."""

    def ask(
        self, asker: object, question: Question, data: bytes, servers: tuple[str, ...], reply: Reply, *, tcp: bool
    ) -> None:
        """Have `data` answered by one of the servers; `reply` is called once, with SERVFAIL where nobody answers."""
        if not servers or self.count >= MOST or self.of.get(asker, 0) >= MOST_OF_ONE:
            reply(answer(question, SERVFAIL))
            return
        self.count += 1
        self.of[asker] = self.of.get(asker, 0) + 1
        _Errand(self, asker, question, data, servers, reply, tcp).go_on()

    def done(self, asker: object) -> None:
        """One of this asker's questions is answered."""
        self.count -= 1
        left = self.of[asker] - 1
        if left:
            self.of[asker] = left
        else:
            del self.of[asker]


class _Errand:
    """One question on its way; at any time at most one socket is open for it."""

    def __init__(
        self,
        owner: Forwarder,
        asker: object,
        question: Question,
        data: bytes,
        servers: tuple[str, ...],
        reply: Reply,
        tcp: bool,
    ) -> None:
        self.owner = owner
        self.asker = asker
        self.question = question
        self.data = data
        self.servers = servers
        self.reply = reply
        self.tcp = tcp
        self.tries = 0
        self.id = 0
        self.server = ""
        self.stream = False
        self.socket: socket.socket | None = None
        self.received = b""
        self.unsent = b""
        self.attempt: _Attempt | None = None

    def go_on(self) -> None:
        """Ask the next server, if there is a try left."""
        self._close()
        while self.tries < TRIES:
            self.server = self.servers[self.tries % len(self.servers)]
            self.stream = self.tcp and self.owner.deaf.get(self.server, 0.0) < time.monotonic()
            self.tries += 1
            try:
                self._send()
            except OSError:
                self.give_up()
                continue
            return
        self._finish(answer(self.question, SERVFAIL))

    def give_up(self) -> None:
        """This try has failed. Some name servers, pasta's say, answer datagrams alone."""
        self._close()
        if self.stream:
            self.owner.deaf[self.server] = time.monotonic() + DEAF_SECONDS

    def _send(self) -> None:
        server = self.server
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        kind = socket.SOCK_STREAM if self.stream else socket.SOCK_DGRAM
        self.socket = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self.id = int.from_bytes(os.urandom(2), "big")
        self.received = b""
        message = with_id(self.data, self.id)
        fd = self.socket.fileno()
        # Connected, so that the kernel takes answers from this server alone; it has chosen a random port.
        if self.stream:
            self.unsent = pack("!H", len(message)) + message
            failure = self.socket.connect_ex((server, _PORT))
            if failure not in (0, errno.EINPROGRESS):
                raise OSError(failure, os.strerror(failure))
            self.owner.loop.watch(fd, select.EPOLLOUT, self._on_stream)
        else:
            self.socket.connect((server, _PORT))
            self.socket.send(message)
            self.owner.loop.watch(fd, select.EPOLLIN, self._on_datagram)
        self.attempt = _Attempt(self)
        self.owner.loop.end_after(SECONDS, self.attempt)

    def _on_datagram(self, _event: int) -> None:
        assert self.socket is not None
        try:
            data = self.socket.recv(65535)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there
            self.give_up()
            self.go_on()
            return
        if is_answer_to(data, self.id, self.question.section):
            self._finish(with_id(data, self.question.id))

    def _on_stream(self, event: int) -> None:
        assert self.socket is not None
        try:
            if self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
                if not self.unsent:
                    self.owner.loop.watch(self.socket.fileno(), select.EPOLLIN, self._on_stream)
                return
            data = self.socket.recv(65537)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.received += data
        if len(self.received) >= 2:
            (length,) = unpack("!H", self.received[:2])
            message = self.received[2 : 2 + length]
            if len(message) == length:
                if is_answer_to(message, self.id, self.question.section):
                    self._finish(with_id(message, self.question.id))
                    return
                data = b""
        if not data:
            self.give_up()
            self.go_on()

    def _finish(self, data: bytes) -> None:
        self._close()
        self.owner.done(self.asker)
        self.reply(data)

    def _close(self) -> None:
        if self.attempt is not None:
            self.attempt.errand = None
            self.attempt = None
        if self.socket is not None:
            self.owner.loop.forget(self.socket.fileno())
            self.socket.close()
            self.socket = None


class _Attempt:
    """The time of one try; let go of when that has ended otherwise."""

    def __init__(self, errand: _Errand) -> None:
        self.errand: _Errand | None = errand

    def over(self) -> None:
        if self.errand is not None:
            errand = self.errand
            errand.give_up()
            errand.go_on()
