"""The one thing every new network namespace needs: its loopback device brought up (netdevice(7))."""

from __future__ import annotations

import _socket
import fcntl

SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1


def set_link_up(name: str) -> None:
    """Bring the network device `name` of the current network namespace up."""
    socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        request = bytearray(name.encode().ljust(16, b"\0") + bytes(24))
        fcntl.ioctl(socket.fileno(), SIOCGIFFLAGS, request)
        flags = int.from_bytes(request[16:18], "little") | IFF_UP
        request[16:18] = flags.to_bytes(2, "little")
        fcntl.ioctl(socket.fileno(), SIOCSIFFLAGS, request)
    finally:
        socket.close()
