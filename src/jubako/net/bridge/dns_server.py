"""The name server of the bridges: a process without rights that answers on every network's own address.

It gets its sockets, already bound, and what it is to know from the router through one socket pair, and ends with that.
What containers send is hostile: every question is counted against its sender, and what is kept for anybody is bounded.
"""

from __future__ import annotations

import select
import socket
import time
from _struct import pack, unpack

from jubako import jsontext
from jubako.linux import scm
from jubako.net.bridge import dns_message
from jubako.net.bridge.dns_forward import Forwarder
from jubako.net.bridge.dns_loop import Loop
from jubako.net.bridge.dns_message import FORMERR, UDP_MOST, Malformed, parse_question
from jubako.net.bridge.dns_zones import Member, Zone, Zones, packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Source = tuple[str, bytes]  # the network and the address that somebody asks from

RATE = 500.0
"""Questions a second that one address may ask for long."""
BURST = 1000.0
CONNECTIONS = 128
CONNECTIONS_OF_ONE = 8
IDLE_SECONDS = 10.0
_AT_ONCE = 64
_DATAGRAM = 4096
_BUCKETS = 8192


def serve(control: scm.Socket, complain: Callable[[str], None]) -> None:
    """Answer until the other end of `control` is closed."""
    server = Server(control, complain)
    while server.loop.turn(first=control.fileno()):
        pass


class Server:
    """The loop's callbacks and what they share."""

    def __init__(self, control: scm.Socket, complain: Callable[[str], None]) -> None:
        self.control = control
        self.loop = Loop(complain)
        self.zones = Zones()
        self.forwarder = Forwarder(self.loop)
        self.servers: tuple[str, ...] = ()
        self.sockets: dict[str, list[socket.socket]] = {}
        self.buckets: dict[Source, tuple[float, float]] = {}
        self.connections: dict[Source, int] = {}
        self.count = 0
        control.setblocking(False)
        self.loop.watch(control.fileno(), select.EPOLLIN, self._on_control)

    # --- what the router says -----------------------------------------------------------------------------------------

    def _on_control(self, _event: int) -> None:
        while True:
            try:
                data, descriptors = scm.receive(self.control)
            except BlockingIOError:
                return
            if not data:
                raise EOFError
            self.learn(jsontext.loads(data), descriptors)

    def learn(self, document: dict[str, Any], descriptors: tuple[int, ...]) -> None:
        """A network comes or goes, a container does, or the servers outside are others."""
        what, network = document["what"], str(document.get("network", ""))
        if what == "open":
            self.zones.zones[network] = Zone(document)
            self.sockets[network] = [socket.socket(fileno=fd) for fd in descriptors]
            for each in self.sockets[network]:
                self._listen(network, each)
        elif what == "close":
            self.zones.zones.pop(network, None)
            for each in self.sockets.pop(network, []):
                self.loop.forget(each.fileno())
                each.close()
        elif what == "member":
            self.zones.zones[network].put(document["id"], Member(document["names"], document["addresses"]))
        elif what == "gone":
            self.zones.zones[network].drop(document["id"])
        elif what == "uplink":
            self.servers = tuple(document["servers"])
            self.zones.host = list(document["host"])

    def _listen(self, network: str, each: socket.socket) -> None:
        each.setblocking(False)
        if each.type == socket.SOCK_DGRAM:
            self.loop.watch(each.fileno(), select.EPOLLIN, lambda _event: self._on_datagrams(network, each))
        else:
            self.loop.watch(each.fileno(), select.EPOLLIN, lambda _event: self._on_connection(network, each))

    # --- questions ----------------------------------------------------------------------------------------------------

    def _on_datagrams(self, network: str, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, address = listener.recvfrom(_DATAGRAM)
            except BlockingIOError:
                return
            source = network, packed(address[0])
            if self.may_ask(source):

                def reply(message: bytes, address: Any = address) -> None:
                    try:
                        if message:
                            listener.sendto(message, address)
                    except OSError:  # its port is 0, it is gone, the network is, or it does not take what it asked for
                        pass

                self.ask(source, data, reply, tcp=False)

    def may_ask(self, source: Source) -> bool:
        """Whether the sender has a question left: a bucket with `BURST` of them, filled with `RATE` a second."""
        now = time.monotonic()
        if len(self.buckets) >= _BUCKETS and source not in self.buckets:
            self.buckets.clear()
        left, since = self.buckets.get(source, (BURST, now))
        left = min(BURST, left + (now - since) * RATE)
        self.buckets[source] = (left - 1 if left >= 1 else left), now
        return left >= 1

    def ask(self, source: Source, data: bytes, reply: Callable[[bytes], None], *, tcp: bool) -> None:
        """Answer the message, from what is known here or from outside; nothing is answered to what is no question."""
        try:
            question = parse_question(data)
        except Malformed as failure:
            reply(dns_message.refuse(data, FORMERR) if failure.answerable else b"")
            return
        network, address = source
        zones = self.zones.seen_by(network, address)
        found = self.zones.look_up(question, zones)
        if found is None:
            servers = next((zone.servers for zone in zones if zone.servers), ()) or self.servers
            self.forwarder.ask(source, question, data, servers, reply, tcp=tcp)
        else:
            code, records = found
            most = dns_message.MESSAGE_MOST if tcp else UDP_MOST
            reply(dns_message.answer(question, code, records, most=most))

    def _on_connection(self, network: str, listener: socket.socket) -> None:
        connection, address = listener.accept()
        source = network, packed(address[0])
        if self.count >= CONNECTIONS or self.connections.get(source, 0) >= CONNECTIONS_OF_ONE:
            connection.close()
            return
        _Stream(self, source, connection)


class _Stream:
    """A TCP connection (RFC 7766): one question at a time, and nothing more is read before that is answered."""

    def __init__(self, server: Server, source: Source, connection: socket.socket) -> None:
        self.server = server
        self.source = source
        self.socket: socket.socket | None = connection
        self.received = b""
        self.unsent = b""
        self.busy = False
        self.taking = False
        self.turns = 0
        server.count += 1
        server.connections[source] = server.connections.get(source, 0) + 1
        connection.setblocking(False)
        self._expect()

    def _expect(self) -> None:
        """Wait for the next question, but not for ever."""
        assert self.socket is not None
        self.busy = False
        self.turns += 1
        self.server.loop.watch(self.socket.fileno(), select.EPOLLIN, self._on_data)
        self.server.loop.end_after(IDLE_SECONDS, _Patience(self, self.turns))

    def _on_data(self, _event: int) -> None:
        assert self.socket is not None
        try:
            data = self.socket.recv(65537 - len(self.received))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self.received += data
        self._take()

    def _take(self) -> None:
        """Ask what has come, one question after the other; a loop, since thousands may have come at once."""
        if self.taking:
            return
        self.taking = True
        try:
            while self.socket is not None and not self.busy and self._take_one():
                pass
        finally:
            self.taking = False

    def _take_one(self) -> bool:
        if len(self.received) < 2:
            return False
        (length,) = unpack("!H", self.received[:2])
        message, rest = self.received[2 : 2 + length], self.received[2 + length :]
        if len(message) < length:
            return False
        if not self.server.may_ask(self.source):
            self.close()
            return False
        self.received = rest
        self.busy = True
        assert self.socket is not None
        # Until it is answered nothing is read, and its end is not looked for either: the answer finds that out.
        self.server.loop.forget(self.socket.fileno())
        self.server.ask(self.source, message, self._reply, tcp=True)
        return True

    def _reply(self, message: bytes) -> None:
        if self.socket is None:
            return
        if not message:
            self.close()
            return
        self.unsent = pack("!H", len(message)) + message
        self._write(0)

    def _write(self, _event: int) -> None:
        assert self.socket is not None
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if not self.unsent:
            self._expect()
            self._take()
        elif self.socket.fileno() not in self.server.loop.callbacks:
            self.turns += 1
            self.server.loop.end_after(IDLE_SECONDS, _Patience(self, self.turns))
            self.server.loop.watch(self.socket.fileno(), select.EPOLLOUT, self._write)

    def close(self) -> None:
        """Let go of it."""
        if self.socket is None:
            return
        self.server.loop.forget(self.socket.fileno())
        self.socket.close()
        self.socket = None
        self.server.count -= 1
        left = self.server.connections[self.source] - 1
        if left:
            self.server.connections[self.source] = left
        else:
            del self.server.connections[self.source]


class _Patience:
    """The time that a connection has for one turn of its conversation."""

    def __init__(self, stream: _Stream, turn: int) -> None:
        self.stream = stream
        self.turn = turn

    def over(self) -> None:
        if self.stream.turns == self.turn and not (self.stream.busy and not self.stream.unsent):
            self.stream.close()
