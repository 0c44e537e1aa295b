"""Forwarding UDP: a socket on the host for each published port, and one inside for each client (udp(7)).

A client is forgotten when nothing has passed for a while, or when there are too many and it was quiet the longest.
Nothing is kept for those who cannot take it: a datagram that does not fit into a socket's buffer is lost, as on any
network. Answers leave from the address that the client has sent to, also on a machine that has several (`IP_PKTINFO`).
"""

from __future__ import annotations

import _socket
import time
from _struct import unpack_from
from select import EPOLLIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.linux.scm import Socket
    from jubako.net.ports.loop import Loop
    from jubako.net.ports.pipes import Budget

IDLE_SECONDS = 90.0
MOST_CLIENTS = 1024
"""Of one published port."""
_MOST_WAITING = 8
"""Datagrams of a new client, until there is a socket for it inside."""
_DEAF_SECONDS = 5.0
"""Without an answer for so long, who sends on is led anew: the server may listen at another address by now, and the
kernel's word that nobody is at the old one goes out to where the client's address really is."""
_AT_ONCE = 64
_LONGEST = 1 << 16
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 8, 49, 50
_ROOM = 1 << 20


class Client:
    """One sender, and the socket inside that stands for it once there is one."""

    __slots__ = ("address", "control", "heard", "key", "last", "release", "socket", "waiting")

    def __init__(self, key: tuple[object, ...], address: tuple[object, ...], control: list[tuple[int, int, bytes]]):
        self.key = key
        self.address = address
        self.control = control
        """What sends answers from the right address."""
        self.socket: Socket | None = None
        self.waiting: list[bytes] = []
        self.last = 0.0
        self.heard = 0.0
        """When something has come from inside, or its socket was made."""
        self.release: Callable[[], None] | None = None


class Datagrams:
    """One UDP socket of the host. `connect(client)` asks for a socket inside, which comes by `joined` or `refused`."""

    def __init__(self, loop: Loop, budget: Budget, socket: Socket, connect: Callable[[Client], bool]) -> None:
        self.loop = loop
        self.budget = budget
        self.socket = socket
        self.connect = connect
        self.clients: dict[tuple[object, ...], Client] = {}
        self.inet6 = socket.family == _socket.AF_INET6
        if self.inet6:
            socket.setsockopt(_socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        else:
            socket.setsockopt(_socket.IPPROTO_IP, _IP_PKTINFO, 1)
        socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, _ROOM)
        socket.setblocking(False)
        loop.add(socket.fileno(), EPOLLIN, self._on_outside)

    def close(self) -> None:
        """Close the socket of the host, and forget all clients."""
        for client in list(self.clients.values()):
            self.forget(client)
        self.loop.timers.pop(self, None)
        self.loop.remove(self.socket.fileno())
        self.loop.close_fd(self.socket.detach())

    def joined(self, client: Client, socket: Socket, release: Callable[[], None] | None) -> None:
        """The socket for a client, connected; `release` is called when it has been closed."""
        if self.clients.get(client.key) is not client:  # forgotten meanwhile
            socket.close()
            if release:
                release()
            return
        self.budget.take()
        client.socket, client.release = socket, release
        client.heard = time.monotonic()
        socket.setblocking(False)
        self.loop.add(socket.fileno(), EPOLLIN, lambda _events: self._on_inside(client))
        waiting, client.waiting = client.waiting, []
        for data in waiting:
            if client.socket is not None:
                self._pass_in(client, data)

    def refused(self, client: Client) -> None:
        """There is nobody inside who would take it; the next datagram asks again."""
        if self.clients.get(client.key) is client:
            self.forget(client)

    def forget(self, client: Client) -> None:
        """Close a client's socket; its next datagram makes it a new client."""
        del self.clients[client.key]
        if client.socket is not None:
            self.loop.remove(client.socket.fileno())
            self.loop.close_fd(client.socket.detach())
            client.socket = None
            self.budget.give()
        if client.release:
            client.release()

    def _on_outside(self, _events: int) -> None:
        receive, clients, now = self.socket.recvmsg, self.clients, time.monotonic()
        for _turn in range(_AT_ONCE):
            try:
                data, control, _flags, address = receive(_LONGEST, 64)
            except BlockingIOError:
                return
            except OSError:  # an error that came back for something sent before
                continue
            key = (address[0], address[1], control[0][2] if control else b"")
            client = clients.get(key)
            if client is not None and client.socket is not None and now - client.heard > _DEAF_SECONDS:
                self.forget(client)
                client = None
            if client is None:
                client = self._welcome(key, address)
                if client is None:
                    continue
            client.last = now
            if client.socket is not None:
                self._pass_in(client, data)
            elif len(client.waiting) < _MOST_WAITING:
                client.waiting.append(data)

    def _on_inside(self, client: Client) -> None:
        socket, send = client.socket, self.socket.sendmsg
        if socket is None:
            return
        client.last = client.heard = time.monotonic()
        for _turn in range(_AT_ONCE):
            try:
                data = socket.recv(_LONGEST)
            except BlockingIOError:
                return
            except OSError:  # nobody is there any more: ask again with the next datagram
                self.forget(client)
                return
            try:
                send([data], client.control, 0, client.address)
            except OSError:  # no room, no route, a filter's refusal: lost
                pass

    def _pass_in(self, client: Client, data: bytes) -> None:
        assert client.socket is not None
        try:
            client.socket.send(data)
        except BlockingIOError:
            pass
        except OSError:
            self.forget(client)

    def _welcome(self, key: tuple[object, ...], address: tuple[object, ...]) -> Client | None:
        if len(self.clients) >= MOST_CLIENTS or not self.budget.has(1):
            if not self.clients:
                return None
            self.forget(min(self.clients.values(), key=_last))
        client = Client(key, address, self._answer_from(key[2]))
        self.clients[key] = client
        if not self.connect(client):
            del self.clients[key]
            return None
        self.loop.at_first(self, IDLE_SECONDS / 9, self._tidy)
        return client

    def _answer_from(self, info: object) -> list[tuple[int, int, bytes]]:
        """The control message that sends from where the datagram of the control message `info` has come to."""
        assert isinstance(info, bytes)
        if self.inet6 and len(info) >= 20:
            return [(_socket.IPPROTO_IPV6, _IPV6_PKTINFO, info[:20])]
        if not self.inet6 and len(info) >= 12:
            _index, local = unpack_from("=i4s", info)
            return [(_socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + local + bytes(4))]
        return []

    def _tidy(self) -> None:
        since = time.monotonic() - IDLE_SECONDS
        for client in [client for client in self.clients.values() if client.last < since]:
            self.forget(client)
        if self.clients:
            self.loop.at(self, IDLE_SECONDS / 9, self._tidy)


def _last(client: Client) -> float:
    return client.last
