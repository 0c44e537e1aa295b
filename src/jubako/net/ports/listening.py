"""Sockets of the host that a published port is bound to, and taking connections from them.

All addresses of the host are two sockets, one a family, as Docker has it; both or none. On a machine without IPv6 one.
"""

from __future__ import annotations

import _socket
import errno
from select import EPOLLIN

from jubako.errors import JubakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.linux.scm import Socket
    from jubako.net.ports.loop import Loop
    from jubako.net.ports.spec import PortSpec

_BACKLOG = 4096
_AT_ONCE = 32
_TRIES = 32
"""For a port that is free in both families."""
_RETRY_SECONDS = 0.2
_KEEPALIVE = ((_socket.TCP_KEEPIDLE, 120), (_socket.TCP_KEEPINTVL, 30), (_socket.TCP_KEEPCNT, 4))
_HINTS = {
    errno.EADDRINUSE: "something listens there already; choose another port, or leave it out for any free one",
    errno.EADDRNOTAVAIL: "this host has no such address",
}
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def bind(spec: PortSpec) -> list[Socket]:
    """Bound sockets for a port, those of TCP listening. Raises `OSError`, and then there are none."""
    addresses = _addresses(spec)
    for _turn in range(_TRIES):
        sockets: list[Socket] = []
        number = spec.host_port
        try:
            for family, address in addresses:
                try:
                    sockets.append(_bound(spec.protocol[:3], family, address, number))
                except OSError as failure:
                    if sockets and failure.errno in _NO_IPV6 and not spec.host_address:
                        continue
                    raise
                number = sockets[0].getsockname()[1]
        except OSError as failure:
            again = sockets and not spec.host_port and failure.errno == errno.EADDRINUSE
            for socket in sockets:
                socket.close()
            if again:
                continue
            raise
        return sockets
    raise OSError(errno.EADDRINUSE, "no port is free in both families")


def check_free(spec: PortSpec) -> int:
    """The host's port of `spec`, or a free one for 0, which nobody has at the moment. Raises `JubakoError`."""
    try:
        sockets = bind(spec)
    except OSError as failure:
        raise refusal("publish", spec, failure.errno or errno.EIO) from failure
    number = sockets[0].getsockname()[1]
    for socket in sockets:
        socket.close()
    return int(number)


def refusal(operation: str, spec: PortSpec, number: int) -> JubakoError:
    """The error for the errno `number` of a port's sockets, with what may help."""
    hint = _HINTS.get(number, "")
    if number in (errno.EACCES, errno.EPERM) and spec.host_port < 1024:
        hint = (
            "ports below net.ipv4.ip_unprivileged_port_start are not for ordinary users: choose one from 1024 on, or "
            f"have root allow it: sysctl net.ipv4.ip_unprivileged_port_start={spec.host_port}"
        )
    return JubakoError(operation, str(spec), errno=number, hint=hint)


def _addresses(spec: PortSpec) -> list[tuple[int, str]]:
    if spec.host_address:
        return [(_socket.AF_INET6 if ":" in spec.host_address else _socket.AF_INET, spec.host_address)]
    every = [(_socket.AF_INET, "0.0.0.0"), (_socket.AF_INET6, "::")]
    return {"4": every[:1], "6": every[1:]}.get(spec.protocol[3:], every)


def _bound(kind: str, family: int, address: str, port: int) -> Socket:
    what = _socket.SOCK_STREAM if kind == "tcp" else _socket.SOCK_DGRAM
    socket = _socket.socket(family, what | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        if family == _socket.AF_INET6:
            socket.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        if kind == "tcp":
            socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)  # what is taken from it inherits these
            socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                socket.setsockopt(_socket.IPPROTO_TCP, option, value)
        socket.bind((address, port))
        if kind == "tcp":
            socket.listen(_BACKLOG)
    except OSError:
        socket.close()
        raise
    return socket


class Listening:
    """Takes connections as long as `may_accept(resume)` lets it."""

    def __init__(
        self,
        loop: Loop,
        socket: Socket,
        may_accept: Callable[[Callable[[], None]], bool],
        accepted: Callable[[Socket, tuple[object, ...]], None],
    ) -> None:
        self.loop = loop
        self.socket = socket
        self.may_accept = may_accept
        self.accepted = accepted
        self.paused = False
        self.closed = False
        loop.add(socket.fileno(), EPOLLIN, self._on_event)

    def close(self) -> None:
        """Take no more; those in the kernel's queue are reset."""
        self.closed = True
        self.loop.timers.pop(self, None)
        self.loop.remove(self.socket.fileno())
        self.loop.close_fd(self.socket.detach())

    def _on_event(self, _events: int) -> None:
        for _turn in range(_AT_ONCE):
            if self.closed or self.paused:
                return
            if not self.may_accept(self._resume):
                self._pause()
                return
            try:
                fd, address = self.socket._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as failure:
                if failure.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause()
                    self.loop.at(self, _RETRY_SECONDS, self._resume)
                    return
                continue  # that connection has failed before it was taken
            client = _socket.socket(self.socket.family, _socket.SOCK_STREAM, 0, fileno=fd)
            client.setblocking(False)
            self.accepted(client, address)

    def _pause(self) -> None:
        self.paused = True
        self.loop.modify(self.socket.fileno(), 0)

    def _resume(self) -> None:
        if self.paused and not self.closed:
            self.paused = False
            self.loop.modify(self.socket.fileno(), EPOLLIN)
