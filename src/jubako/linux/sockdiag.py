"""Which socket would get a datagram: sock_diag(7), of the current network namespace."""

from __future__ import annotations

import _socket
import errno
import os
from _struct import pack, unpack_from

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_NO_COOKIE = b"\xff" * 8


def takes_datagrams(family: int, address: bytes, port: int) -> bool:
    """Whether a UDP socket is bound that would take a datagram to `address` (in network order) and `port`.

    Raises `OSError`; a kernel without `CONFIG_INET_UDP_DIAG` answers no to everything.
    """
    body = pack("=BBBBI", family, _socket.IPPROTO_UDP, 0, 0, 0xFFFFFFFF)
    # For a single socket the kernel takes "source" as the sender of the datagram, and "destination" as our address.
    body += pack(">HH", 0, port) + bytes(16) + address.ljust(16, b"\0") + pack("=I", 0) + _NO_COOKIE
    kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
    socket = _socket.socket(_socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG)
    try:
        socket.send(pack("=IHHII", 16 + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body)
        answer = socket.recv(4096)
    finally:
        socket.close()
    _length, what = unpack_from("=IH", answer)
    if what != _NLMSG_ERROR:
        return True
    (number,) = unpack_from("=i", answer, 16)
    if -number == errno.ENOENT:
        return False
    raise OSError(-number, os.strerror(-number), "sock_diag")
