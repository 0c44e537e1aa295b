"""Bridges, pairs of devices, their addresses and routes: rtnetlink(7), veth(4).

A netlink socket belongs to the network namespace in which it was made, so `Links` works on that one, wherever its
process is; the kernel looks at the rights of whoever made the socket and of whoever sends.
"""

from __future__ import annotations

import _socket
import errno
import os
from _struct import pack, unpack_from

from jubako.linux.rtnetlink import _attribute as attribute
from jubako.linux.rtnetlink import _Connection

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_NEWROUTE, _RTM_NEWNEIGH = 16, 17, 18, 20, 24, 28
_REQUEST, _ACK, _REPLACE, _EXCL, _CREATE = 0x1, 0x4, 0x100, 0x200, 0x400
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA, _IFLA_BRPORT_LEARNING = 4, 5, 8
_IFLA_BR_FORWARD_DELAY, _IFLA_BR_MCAST_SNOOPING = 1, 23
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD, _IFA_F_PERMANENT = 0x02, 0x80
_RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 4, 5, 6
_RT_TABLE_MAIN, _RTPROT_STATIC, _RTN_UNICAST = 254, 4, 1
_NDA_LLADDR, _NUD_NOARP, _NTF_MASTER = 2, 0x40, 0x04
_NESTED = 0x8000
_IFF_UP = 1
_AF_BRIDGE = 7
_ETH_ALEN = 6


def open_socket() -> int:
    """A netlink socket of the network namespace that this process is in now; for `Links`, here or elsewhere."""
    return _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, 0).detach()


class Links(_Connection):
    """The devices of one network namespace: the one that the socket `fd` is of, or the process's own."""

    def __init__(self, fd: int = -1) -> None:
        self.socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, 0, fileno=fd if fd >= 0 else open_socket())
        self.sequence = 0

    def __enter__(self) -> Links:
        return self

    def find(self, name: str) -> int:
        """The number of the device `name`; `OSError` ENODEV if there is none."""
        body = _link() + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        for answer in self.ask(_RTM_GETLINK, _REQUEST | _ACK, body):
            (index,) = unpack_from("=i", answer, 4)
            return int(index)
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)

    def has(self, name: str) -> bool:
        """Whether there is a device of this name."""
        try:
            self.find(name)
        except OSError as failure:
            if failure.errno != errno.ENODEV:
                raise
            return False
        return True

    def add_bridge(self, name: str, hardware: bytes, mtu: int) -> int:
        """Make a bridge that is up; its number. It learns and forwards at once: it is in no loop, and what a container
        may say of multicast groups is not listened to."""
        data = attribute(_IFLA_BR_FORWARD_DELAY, pack("=I", 0)) + attribute(_IFLA_BR_MCAST_SNOOPING, b"\0")
        body = _link(up=True) + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        body += attribute(_IFLA_ADDRESS, hardware) + attribute(_IFLA_MTU, pack("=I", mtu)) + _kind("bridge", data)
        self.tell(_RTM_NEWLINK, _CREATE | _EXCL, body, name)
        return self.find(name)

    def add_pair(self, name: str, bridge: int, namespace: int, peer: str, hardware: bytes, mtu: int) -> int:
        """Make a pair of devices: `name` here, up and a port of the bridge, and `peer` in the network namespace of the
        descriptor, with this hardware address. The number of the one here."""
        other = _link() + attribute(_IFLA_IFNAME, peer.encode() + b"\0") + attribute(_IFLA_ADDRESS, hardware)
        other += attribute(_IFLA_MTU, pack("=I", mtu)) + attribute(_IFLA_NET_NS_FD, pack("=I", namespace))
        body = _link(up=True) + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        body += attribute(_IFLA_MTU, pack("=I", mtu)) + attribute(_IFLA_MASTER, pack("=I", bridge))
        body += _kind("veth", attribute(_VETH_INFO_PEER | _NESTED, other))
        self.tell(_RTM_NEWLINK, _CREATE | _EXCL, body, name)
        return self.find(name)

    def pin(self, index: int, hardware: bytes) -> None:
        """Let a bridge's port have this hardware address and learn no other: what is behind it can neither draw away
        what is meant for others, nor fill the bridge's table with addresses that it makes up."""
        learning = attribute(_IFLA_BRPORT_LEARNING, b"\0")
        slave = attribute(_IFLA_INFO_SLAVE_KIND, b"bridge") + attribute(_IFLA_INFO_SLAVE_DATA | _NESTED, learning)
        self.tell(_RTM_NEWLINK, 0, _link(index) + attribute(_IFLA_LINKINFO | _NESTED, slave), f"device {index}")
        entry = pack("=BBHiHBB", _AF_BRIDGE, 0, 0, index, _NUD_NOARP, _NTF_MASTER, 0)
        entry += attribute(_NDA_LLADDR, hardware)
        self.tell(_RTM_NEWNEIGH, _CREATE | _REPLACE, entry, f"address of device {index}")

    def remove(self, index: int) -> None:
        """Take a device away, with the other end of its pair; one that is gone is no error."""
        try:
            self.tell(_RTM_DELLINK, 0, _link(index), f"device {index}")
        except OSError as failure:
            if failure.errno != errno.ENODEV:
                raise

    def set_up(self, index: int) -> None:
        """Bring a device up."""
        self.tell(_RTM_NEWLINK, 0, _link(index, up=True), f"device {index}")

    def give_address(self, index: int, address: str) -> None:
        """Give a device the address `ADDRESS/PREFIX`, usable at once: nobody is asked whether it is another's."""
        host, _, prefix = address.partition("/")
        family, binary = parse_address(host)
        body = pack("=BBBBI", family, int(prefix), 0, 0, index)
        body += attribute(_IFA_LOCAL, binary) + attribute(_IFA_ADDRESS, binary)
        if family == _socket.AF_INET and int(prefix) < 31:
            last = int.from_bytes(binary, "big") | ((1 << (32 - int(prefix))) - 1)
            body += attribute(_IFA_BROADCAST, last.to_bytes(4, "big"))
        body += attribute(_IFA_FLAGS, pack("=I", _IFA_F_NODAD | _IFA_F_PERMANENT))
        self.tell(_RTM_NEWADDR, _CREATE | _EXCL, body, address)

    def route_default(self, index: int, gateway: str, metric: int) -> None:
        """Send what has no other way through `gateway`; of several such routes the lowest metric counts."""
        family, binary = parse_address(gateway)
        body = pack("=BBBBBBBBI", family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, 0, _RTN_UNICAST, 0)
        body += attribute(_RTA_GATEWAY, binary) + attribute(_RTA_OIF, pack("=i", index))
        body += attribute(_RTA_PRIORITY, pack("=I", metric))
        self.tell(_RTM_NEWROUTE, _CREATE | _EXCL, body, f"default via {gateway}")


def parse_address(text: str) -> tuple[int, bytes]:
    """The family and the bytes of a numeric address."""
    family = _socket.AF_INET6 if ":" in text else _socket.AF_INET
    return family, _socket.inet_pton(family, text)


def parse_hardware(text: str) -> bytes:
    """The six bytes of `02:00:0a:…`. Raises `ValueError` for what is no address that one device may have."""
    parts = text.replace("-", ":").split(":")
    if len(parts) != _ETH_ALEN or any(not 1 <= len(part) <= 2 for part in parts):
        raise ValueError(f"{text!r} is not six pairs of hexadecimal digits")
    try:
        binary = bytes(int(part, 16) for part in parts)
    except ValueError:
        raise ValueError(f"{text!r} is not six pairs of hexadecimal digits") from None
    if binary[0] & 1 or not any(binary):
        raise ValueError(f"{text!r} is no device's address but a group's, or nobody's")
    return binary


def hardware_text(binary: bytes) -> str:
    """A hardware address as people write it."""
    return ":".join(f"{byte:02x}" for byte in binary)


def random_hardware() -> bytes:
    """A hardware address of local administration, for one device."""
    chosen = bytearray(os.urandom(_ETH_ALEN))
    chosen[0] = chosen[0] & 0xFC | 0x02
    return bytes(chosen)


def _link(index: int = 0, *, up: bool = False) -> bytes:
    flags = _IFF_UP if up else 0
    return pack("=BBHiII", 0, 0, 0, index, flags, flags)


def _kind(kind: str, data: bytes) -> bytes:
    inside = attribute(_IFLA_INFO_KIND, kind.encode()) + attribute(_IFLA_INFO_DATA | _NESTED, data)
    return attribute(_IFLA_LINKINFO | _NESTED, inside)
