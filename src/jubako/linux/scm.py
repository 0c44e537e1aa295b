"""Messages with descriptors over a unix socket: unix(7), `SCM_RIGHTS`. A packet is one message (`SOCK_SEQPACKET`)."""

from __future__ import annotations

import _socket
import os
from _struct import pack, unpack  # `array` would import all of `collections`

MAX_MESSAGE = 1 << 17
MAX_DESCRIPTORS = 64

Socket = _socket.socket


def pair() -> tuple[Socket, Socket]:
    """Two connected packet sockets, closed on exec."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def send(socket: Socket, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Send one packet; the receiver gets copies of `descriptors`."""
    rights = pack(f"{len(descriptors)}i", *descriptors)
    control = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if descriptors else []
    socket.sendmsg([data], control, _socket.MSG_NOSIGNAL)


def receive(socket: Socket, size: int = MAX_MESSAGE) -> tuple[bytes, tuple[int, ...]]:
    """The next packet and the descriptors that came with it, close-on-exec; empty data when the peer has closed."""
    data, control, flags, _address = socket.recvmsg(
        size, _socket.CMSG_SPACE(MAX_DESCRIPTORS * 4), _socket.MSG_CMSG_CLOEXEC
    )
    descriptors: tuple[int, ...] = ()
    for level, kind, payload in control:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            count = len(payload) // 4
            descriptors += unpack(f"{count}i", payload[: count * 4])
    if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
        for fd in descriptors:
            os.close(fd)
        raise OSError(90, "message too long", "recvmsg")
    return data, descriptors
