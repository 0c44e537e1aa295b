"""The proxy itself: takes connections on its listening sockets, reads what each wants, and carries it there or refuses.

The first octet tells SOCKS 5 (RFC 1928) from HTTP. Whoever is on the other side may be hostile: every wait has an end,
everything that is kept has a bound, and a conversation's failure is its own.
"""

from __future__ import annotations

import _socket
import os

from jubako.linux.rlimit import get_rlimit, set_rlimit
from jubako.net.proxy import http, socks
from jubako.net.proxy.addresses import Address
from jubako.net.proxy.connect import Connector, NotConnected
from jubako.net.proxy.http import BadMessage
from jubako.net.proxy.lookup import Resolver
from jubako.net.proxy.loop import READ, WRITE, Loop, TimedOut, now, wait
from jubako.net.proxy.relay import Broken, Exchange, tunnel
from jubako.net.proxy.tally import Tally
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from jubako.net.proxy.loop import Task
    from jubako.net.proxy.rules import Rules

    Socket = _socket.socket

_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


@record
class Limits:
    """How many connections there may be at once, and how long things may take, in seconds."""

    connections: int = 512
    head: float = 15.0
    """From the connection to the end of its request's head."""
    lookup: float = 10.0
    connect: float = 15.0
    answer: float = 900.0
    """Without an octet of an HTTP exchange."""
    idle: float = 3600.0
    """Without an octet in a tunnel."""
    half: float = 120.0
    """The same when one side has closed its direction."""
    linger: float = 2.0
    """For a refused client to read why."""


def prepare(listeners: tuple[int, ...], rules: Rules, tally: Tally) -> Server:
    """A server for these listening sockets, in a process that is for nothing else."""
    soft, hard = get_rlimit("RLIMIT_NOFILE")
    wanted = 3 * Limits.connections + 64
    if 0 <= soft < wanted:
        soft = wanted if hard < 0 else min(wanted, hard)
        set_rlimit("RLIMIT_NOFILE", soft, hard)
    most = Limits.connections if soft < 0 else min(Limits.connections, max(soft - 64, 3) // 3)
    # A name server that does not answer holds a thread for this long, unless the host's own settings say otherwise.
    os.environ["RES_OPTIONS"] = os.environ.get("RES_OPTIONS") or "timeout:3 attempts:2"
    # And a name is that name: no search domain is put behind it, or another host would answer for one that is gone.
    os.environ["LOCALDOMAIN"] = "."
    return Server(listeners, rules, tally, limits=Limits(connections=most))


class Server:
    """Connections, each a task."""

    def __init__(
        self,
        listeners: tuple[int, ...],
        rules: Rules,
        tally: Tally,
        resolver: Resolver | None = None,
        limits: Limits = Limits(),
    ) -> None:
        self._limits = limits
        self._tally = tally
        self._loop = Loop(lambda failure: tally.refused("", f"{type(failure).__name__} in the proxy"))
        self._connector = Connector(self._loop, rules, resolver or Resolver(), limits.connect, limits.lookup)
        for fd in listeners:
            os.set_blocking(fd, False)
            self._loop.start(self._accept(_socket.socket(fileno=fd)))

    def run(self) -> NoReturn:
        """Serve for ever."""
        while True:
            self.turn()

    def turn(self) -> None:
        """Do what there is to do, and wait where there is nothing."""
        self._loop.turn(self._tally.next_writing())
        self._tally.write()

    def close(self) -> None:
        """Drop all connections and the listeners."""
        self._loop.close()

    def _accept(self, listener: Socket) -> Task[None]:
        """Take connections while there is room; the others wait in the kernel's queue, which has a bound too."""
        try:
            while True:
                if self._tally.connections >= self._limits.connections:
                    yield {}, now() + 0.1
                    continue
                yield {listener.fileno(): READ}, float("inf")
                try:
                    fd, _address = listener._accept()  # type: ignore[attr-defined]
                except (BlockingIOError, ConnectionAbortedError):
                    continue
                except OSError:  # no descriptor or no memory is free
                    yield {}, now() + 0.1
                    continue
                os.set_blocking(fd, False)
                self._loop.start(self._converse(_socket.socket(fileno=fd)))
        finally:
            listener.close()

    def _converse(self, client: Socket) -> Task[None]:
        self._tally.connections += 1
        self._tally.changed()
        try:
            client.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            yield from self._serve(client)
        except (OSError, TimedOut, Broken):  # it is gone, or too slow to be told anything
            pass
        finally:
            self._loop.release(client.fileno())
            client.close()
            self._tally.connections -= 1
            self._tally.changed()

    def _serve(self, client: Socket) -> Task[None]:
        deadline = now() + self._limits.head
        data = yield from _read_more(client, b"", deadline)
        if data[0] == socks.VERSION:
            yield from self._serve_socks(client, data, deadline)
        elif data[0] in _LETTERS:
            yield from self._serve_http(client, data, deadline)
        else:
            self._tally.refused("", "neither HTTP nor SOCKS 5")

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    def _serve_http(self, client: Socket, data: bytes, deadline: float) -> Task[None]:
        try:
            request, early = yield from _read_http(client, data, deadline)
        except BadMessage as failure:
            self._tally.refused("", str(failure))
            yield from self._answer(client, http.refusal(failure.code, str(failure)))
            return
        except TimedOut:
            self._tally.refused("", "a head that takes too long")
            yield from self._answer(client, http.refusal(408, "the request takes too long"))
            return
        try:
            server = yield from self._connect(request.host, request.port)
        except NotConnected as failure:
            told = f"{_where(request.host, request.port)}: {failure}"
            yield from self._answer(client, http.refusal(failure.status, told))
            return
        try:
            if request.is_tunnel:
                yield from self._send(client, http.TUNNEL)
                yield from tunnel(client, server, early, self._limits.idle, self._limits.half)
            else:
                yield from self._exchange(client, server, request, early)
        finally:
            self._loop.release(server.fileno())
            server.close()

    def _exchange(self, client: Socket, server: Socket, request: http.Request, early: bytes) -> Task[None]:
        exchange = None
        try:
            exchange = Exchange(client, server, request, early)
            yield from exchange.run(self._limits.answer, self._limits.half)
        except BadMessage as failure:
            code, reason = failure.code, str(failure)
        except TimedOut:
            code, reason = 504, "the server does not answer"
        except ConnectionError:
            code, reason = 502, "the server has broken the connection"
        else:
            yield from self._answer(client, b"")
            return
        self._tally.failed(_where(request.host, request.port), reason)
        if exchange is None or not exchange.is_answered:
            yield from self._answer(client, http.refusal(code, reason))

    # --- SOCKS --------------------------------------------------------------------------------------------------------

    def _serve_socks(self, client: Socket, data: bytes, deadline: float) -> Task[None]:
        while (greeting := socks.read_greeting(data)) is None:
            data = yield from _read_more(client, data, deadline)
        answer, length = greeting
        yield from self._send(client, answer)
        if answer == socks.NO_METHOD:
            self._tally.refused("", "SOCKS with a password")
            yield from self._answer(client, b"")
            return
        data = data[length:]
        try:
            while (request := socks.read_request(data)) is None:
                data = yield from _read_more(client, data, deadline)
        except socks.BadRequest as failure:
            self._tally.refused("", str(failure))
            yield from self._answer(client, socks.reply(failure.code))
            return
        try:
            server = yield from self._connect(request.host, request.port)
        except NotConnected as failure:
            yield from self._answer(client, socks.reply(failure.code))
            return
        try:
            yield from self._send(client, socks.reply(socks.GRANTED))
            yield from tunnel(client, server, data[request.length :], self._limits.idle, self._limits.half)
        finally:
            self._loop.release(server.fileno())
            server.close()

    # --- both ---------------------------------------------------------------------------------------------------------

    def _connect(self, host: Address | str, port: int) -> Task[Socket]:
        where = _where(host, port)
        try:
            server = yield from self._connector.connect(host, port)
        except NotConnected as failure:
            if failure.is_refused:
                self._tally.refused(where, str(failure))
            else:
                self._tally.failed(where, str(failure))
            raise
        self._tally.allowed(where)
        return server

    def _send(self, client: Socket, data: bytes) -> Task[None]:
        deadline = now() + self._limits.head
        while data:
            try:
                data = data[client.send(data, _socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                yield from wait(client.fileno(), WRITE, deadline)

    def _answer(self, client: Socket, data: bytes) -> Task[None]:
        """The last words to a client. A socket that is closed with something unread in it takes them back, so what
        still comes is read for a moment."""
        yield from self._send(client, data)
        client.shutdown(_socket.SHUT_WR)
        deadline = now() + self._limits.linger
        while now() < deadline:
            yield from wait(client.fileno(), READ, deadline)
            try:
                if not client.recv(65536):
                    return
            except BlockingIOError:
                pass


def _read_http(client: Socket, data: bytes, deadline: float) -> Task[tuple[http.Request, bytes]]:
    """The request and what has come behind its head."""
    while not (end := http.find_head(data)):
        data = yield from _read_more(client, data, deadline)
    return http.read_request(data[:end]), data[end:]


def _read_more(client: Socket, data: bytes, deadline: float) -> Task[bytes]:
    """`data` and what comes next. Raises `Broken` at the end, and `TimedOut`."""
    while True:
        yield from wait(client.fileno(), READ, deadline)
        try:
            more = client.recv(16384)
        except BlockingIOError:
            continue
        if not more:
            raise Broken
        return data + more


def _where(host: Address | str, port: int) -> str:
    return f"[{host}]:{port}" if isinstance(host, Address) and host.bits == 128 else f"{host}:{port}"
