"""Connections to the outside: only where a rule allows it, and to the very address that was checked."""

from __future__ import annotations

import _socket
import os

from jubako.net.proxy import socks
from jubako.net.proxy.addresses import MAPPED, Address, parse_address
from jubako.net.proxy.lookup import LookupFailed
from jubako.net.proxy.loop import WRITE, TimedOut, now, wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.proxy.lookup import Place, Resolver
    from jubako.net.proxy.loop import Loop, Task
    from jubako.net.proxy.rules import Rules

_PATIENCE = 4.0
"""Seconds for one address where there are others to try."""


class NotConnected(Exception):
    """No connection; the answer's code in HTTP and in SOCKS. `is_refused` says that the rules are why."""

    def __init__(self, reason: str, status: int, code: int, is_refused: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.is_refused = is_refused


class Connector:
    """Connects to hosts as the rules allow it."""

    def __init__(self, loop: Loop, rules: Rules, resolver: Resolver, seconds: float, lookup_seconds: float) -> None:
        self._loop = loop
        self._rules = rules
        self._resolver = resolver
        self._seconds = seconds
        self._lookup_seconds = lookup_seconds

    def connect(self, host: Address | str, port: int) -> Task[_socket.socket]:
        """A connected socket that does not block. Raises `NotConnected`."""
        if isinstance(host, Address):
            places = self._check_address(host, port)
        else:
            places = yield from self._check_name(host, port)
        deadline = now() + self._seconds
        failure: NotConnected | None = None
        for number, place in enumerate(places, 1):
            patience = deadline if number == len(places) else min(deadline, now() + _PATIENCE)
            try:
                return (yield from self._reach(place, patience))
            except OSError as error:
                failure = _not_connected(error.errno or 0)
            except TimedOut:
                failure = NotConnected("it does not answer", 504, socks.EXPIRED)
            if now() >= deadline:
                break
        raise failure or NotConnected("it has no address", 502, socks.NO_HOST)

    def _check_address(self, address: Address, port: int) -> list[Place]:
        if not self._rules.allow_address(address, port) or (
            _is_own(address) and not self._rules.allow_address(address, port, is_own=True)
        ):
            raise NotConnected("no --allow names this address and port", 403, socks.NOT_ALLOWED, True)
        family = _socket.AF_INET if address.bits == 32 else _socket.AF_INET6
        return [(family, (str(address), port))]

    def _check_name(self, name: str, port: int) -> Task[list[Place]]:
        if not self._rules.allow_name(name, port):  # and so it is not even looked up
            raise NotConnected("no --allow names this host and port", 403, socks.NOT_ALLOWED, True)
        try:
            found = yield from self._resolver.look_up(self._loop, name, now() + self._lookup_seconds)
        except LookupFailed as failure:
            raise NotConnected(str(failure), 502, socks.NO_HOST) from None
        allowed = [(kind, (place[0], port, *place[2:])) for kind, place in found if self._is_allowed(place[0], port)]
        if not allowed:
            reason = "its address is not a public one, and no --allow names the address"
            raise NotConnected(reason, 403, socks.NOT_ALLOWED, True)
        return allowed

    def _is_allowed(self, text: str, port: int) -> bool:
        """Whether a name server's answer may be connected to."""
        address = parse_address(text.partition("%")[0])
        if address is None or address in MAPPED or not self._rules.allow_answer(address, port):
            return False
        return not _is_own(address) or self._rules.allow_answer(address, port, is_own=True)

    def _reach(self, place: Place, deadline: float) -> Task[_socket.socket]:
        family, address = place
        kind = _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
        socket = _socket.socket(family, kind)
        try:
            try:
                socket.connect(address)
            except BlockingIOError:
                yield from wait(socket.fileno(), WRITE, deadline)
                error = socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
                if error:
                    raise OSError(error, os.strerror(error)) from None
            socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
        except BaseException:
            self._loop.release(socket.fileno())
            socket.close()
            raise
        return socket


def _is_own(address: Address) -> bool:
    """Whether the address is one of this host's: the kernel would take it as the source too (nothing is sent)."""
    family = _socket.AF_INET if address.bits == 32 else _socket.AF_INET6
    probe = _socket.socket(family, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        probe.connect((str(address), 9))
        return parse_address(probe.getsockname()[0].partition("%")[0]) == address
    except OSError:  # no way there at all
        return False
    finally:
        probe.close()


def _not_connected(number: int) -> NotConnected:
    from errno import ECONNREFUSED, ENETUNREACH, ETIMEDOUT

    code = {ECONNREFUSED: socks.REFUSED, ENETUNREACH: socks.NO_NETWORK, ETIMEDOUT: socks.EXPIRED}
    return NotConnected(os.strerror(number), 504 if number == ETIMEDOUT else 502, code.get(number, socks.NO_HOST))
