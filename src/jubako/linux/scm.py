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


def listen(directory: str, name: str) -> Socket:
    """A listening packet socket at `directory/name`. The address goes through a descriptor of the directory, since a
    socket's address holds no more than 107 bytes."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        socket = _packet_socket()
        socket.bind(f"/proc/self/fd/{fd}/{name}")
        socket.listen(16)
        return socket
    finally:
        os.close(fd)


def connect(directory: str, name: str) -> Socket:
    """A connection to who listens at `directory/name`."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    socket = _packet_socket()
    try:
        socket.connect(f"/proc/self/fd/{fd}/{name}")
    except OSError:
        socket.close()
        raise
    finally:
        os.close(fd)
    return socket


def adopt(fd: int) -> Socket:
    """The packet socket that came as the descriptor `fd`."""
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fileno=fd)


def accept(listener: Socket) -> Socket:
    """The next connection, close-on-exec."""
    fd, _address = listener._accept()  # type: ignore[attr-defined]
    return adopt(fd)


def _packet_socket() -> Socket:
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
