"""Sockets in a network namespace that have the address of somebody outside: `IP_TRANSPARENT`, ip(7).

Binding one is easy; the answers have to come back to it, and not go out to where that address really is. So what is
sent *from a published port* looks first into a table of ours (ip-rule(8)), which has one route for each client's
address that is in use: it is the namespace's own, through lo. All else that the container sends, to the same client
too, goes its usual way. There are no marks, no packet filter and no sysctl in it.

A program that is bound to all addresses and answers a datagram lets the kernel choose its own address, which would be
the client's: the route says which one it is instead. For each address inside there is a table.
"""

from __future__ import annotations

import _socket
import errno
import time

from jubako.linux import rtnetlink

FIRST_TABLE = 0x6A75
"""Also the priority of the rules: after `local`, before `main`."""
_MOST_TABLES = 64
_KEPT_SECONDS = 90.0
"""How long a route stays after the last connection from there: its last packets are still answered."""
_MOST_UNUSED = 1024

IP_TRANSPARENT = 19
IPV6_TRANSPARENT = 75
PROTOCOLS = {"tcp": _socket.IPPROTO_TCP, "udp": _socket.IPPROTO_UDP}


def can_be_kept(family: int, address: str) -> bool:
    """Whether an address may stand for a client inside: those of loopback, links and groups mean something else."""
    packed = _socket.inet_pton(family, address)
    if family == _socket.AF_INET:
        return packed[0] not in (0, 127) and packed[0] < 224
    return packed != bytes(16) and packed != bytes(15) + b"\1" and packed[0] != 255 and packed[:2] < b"\xfe\x80"


def make_transparent(socket: _socket.socket, family: int) -> None:
    """Let it be bound to any address. Wants CAP_NET_ADMIN or CAP_NET_RAW over the namespace."""
    if family == _socket.AF_INET:
        socket.setsockopt(_socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    else:
        socket.setsockopt(_socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)


class Clients:
    """The rules and routes of the current network namespace. What fails raises `OSError`."""

    def __init__(self) -> None:
        self.tables: dict[tuple[int, str], _Table] = {}

    def keep(self, family: int, kind: str, target: str, port: int, client: str) -> None:
        """Lead answers from `target` and `port` to `client` back here, until `release`."""
        key = (family, target)
        if key not in self.tables:
            if len(self.tables) >= _MOST_TABLES:
                raise OSError(errno.ENOSPC, "too many addresses inside", target)
            self.tables[key] = _Table(family, target, FIRST_TABLE + len(self.tables))
        table = self.tables[key]
        table.cover(kind, port)
        table.hold(client)

    def release(self, family: int, target: str, client: str) -> None:
        """One connection fewer from `client`."""
        table = self.tables.get((family, target))
        if table:
            table.release(client)

    def forget_port(self, kind: str, port: int) -> None:
        """Nothing is published from `port` any more."""
        for table in self.tables.values():
            table.uncover(kind, port)


class _Table:
    def __init__(self, family: int, target: str, number: int) -> None:
        self.family = family
        self.source = _socket.inet_pton(family, target)
        self.number = number
        self.ports: dict[str, set[int]] = {"tcp": set(), "udp": set()}
        self.rules: dict[str, set[tuple[int, int]]] = {"tcp": set(), "udp": set()}
        self.used: dict[str, int] = {}
        self.unused: dict[str, float] = {}

    def cover(self, kind: str, port: int) -> None:
        if port not in self.ports[kind]:
            self.ports[kind].add(port)
            self._set_rules(kind)

    def uncover(self, kind: str, port: int) -> None:
        if port in self.ports[kind]:
            self.ports[kind].discard(port)
            self._set_rules(kind)

    def hold(self, client: str) -> None:
        if client in self.used:
            self.used[client] += 1
            return
        if client not in self.unused:
            self._tidy()
            self._add_route(_socket.inet_pton(self.family, client))
        self.unused.pop(client, None)
        self.used[client] = 1

    def release(self, client: str) -> None:
        count = self.used.get(client, 0)
        if count > 1:
            self.used[client] = count - 1
        elif count:
            del self.used[client]
            self.unused[client] = time.monotonic()

    def _add_route(self, client: bytes) -> None:
        try:
            rtnetlink.add_local_route(self.family, client, self.number, self.source)
        except OSError as failure:
            if failure.errno not in (errno.EINVAL, errno.EADDRNOTAVAIL):
                raise
            # The target is not an address of this namespace: it is routed on, and answers with its own.
            rtnetlink.add_local_route(self.family, client, self.number)

    def _tidy(self) -> None:
        """Remove the routes that were used last the longest time ago."""
        now = time.monotonic()
        for client, since in list(self.unused.items()):
            if now - since < _KEPT_SECONDS and len(self.unused) <= _MOST_UNUSED:
                return
            del self.unused[client]
            try:
                rtnetlink.remove_local_route(self.family, _socket.inet_pton(self.family, client), self.number)
            except OSError:  # whoever is root inside may have been faster
                pass

    def _set_rules(self, kind: str) -> None:
        """One rule for each run of neighbouring ports, since every packet of the namespace goes through all rules."""
        wanted = set(_runs(self.ports[kind]))
        protocol = PROTOCOLS[kind]
        for ports in wanted - self.rules[kind]:
            try:
                rtnetlink.add_port_rule(self.family, protocol, ports, self.number, FIRST_TABLE)
            except FileExistsError:
                pass
        for ports in self.rules[kind] - wanted:
            try:
                rtnetlink.remove_port_rule(self.family, protocol, ports, self.number, FIRST_TABLE)
            except OSError:
                pass
        self.rules[kind] = wanted


def _runs(ports: set[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for port in sorted(ports):
        if runs and runs[-1][1] == port - 1:
            runs[-1] = (runs[-1][0], port)
        else:
            runs.append((port, port))
    return runs
