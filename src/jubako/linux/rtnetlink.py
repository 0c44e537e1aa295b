"""Network devices, their addresses, routes and rules: rtnetlink(7), netlink(7), ip-rule(8).

As much of it as moving a device takes, giving one an IPv4 address, and keeping the addresses of clients.
"""

from __future__ import annotations

import _socket
import errno
import os
from _struct import pack, unpack_from

from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_ROUTE = 0  # NETLINK_ROUTE
_ERROR, _DONE = 2, 3
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_NEWRULE, _RTM_DELRULE = 24, 25, 32, 33
_REQUEST, _ACK, _REPLACE, _EXCL, _CREATE, _DUMP = 0x1, 0x4, 0x100, 0x200, 0x400, 0x300
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 7, 15
_RTN_UNICAST, _RTN_LOCAL, _RTPROT_BOOT, _RTPROT_STATIC, _SCOPE_HOST = 1, 2, 3, 4, 254
_RT_TABLE_MAIN, _RTNH_F_ONLINK = 254, 4
_FRA_PRIORITY, _FRA_TABLE, _FRA_IP_PROTO, _FRA_SPORT_RANGE, _FR_ACT_TO_TBL = 6, 15, 22, 23, 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_NET_NS_FD = 1, 3, 4, 28
_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL, _IFA_BROADCAST, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 3, 4, 6, 8
_IFA_F_TENTATIVE, _IFA_F_PERMANENT = 0x40, 0x80
_SCOPE_UNIVERSE = 0
_IFF_UP = 1
_HEADER, _LINK, _ADDRESS = 16, 16, 8


@record
class Address:
    """One address of a device, as the kernel tells it: what to say again to have it elsewhere."""

    family: int
    prefix: int
    flags: int
    scope: int
    attributes: tuple[tuple[int, bytes], ...]


def device_index(name: str) -> int:
    """The number of the device `name` in the current network namespace; `OSError` ENODEV if there is none."""
    try:
        return _socket.if_nametoindex(name)
    except OSError as failure:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name) from failure


def free_name(name: str) -> str:
    """`name`, with the first number that is free in the current network namespace for a `%d`, as the kernel has it.

    `OSError` EEXIST where the name is taken.
    """
    for number in range(4096):
        candidate = name.replace("%d", str(number), 1)
        try:
            device_index(candidate)
        except OSError:
            return candidate
        if candidate == name:
            break
    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def list_addresses(index: int) -> tuple[Address, ...]:
    """The lasting global addresses of a device."""
    with _Connection() as connection:
        found = []
        for body in connection.ask(_RTM_GETADDR, _REQUEST | _DUMP, pack("=BBBBI", 0, 0, 0, 0, 0)):
            family, prefix, flags, scope, owner = unpack_from("=BBBBI", body)
            attributes = tuple(_attributes(body[_ADDRESS:]))
            for kind, value in attributes:
                if kind == _IFA_FLAGS:
                    (flags,) = unpack_from("=I", value)
            if owner == index and scope == _SCOPE_UNIVERSE and flags & _IFA_F_PERMANENT:
                kept = tuple(one for one in attributes if one[0] not in (_IFA_LABEL, _IFA_CACHEINFO, _IFA_FLAGS))
                found.append(Address(family, prefix, flags & ~_IFA_F_TENTATIVE, scope, kept))
        return tuple(found)


def move_device(index: int, namespace: int, name: str) -> None:
    """Move a device of the current network namespace into the one of the descriptor `namespace`, as `name` there."""
    body = pack("=BBHiII", 0, 0, 0, index, 0, 0)
    body += _attribute(_IFLA_NET_NS_FD, pack("=I", namespace)) + _attribute(_IFLA_IFNAME, name.encode() + b"\0")
    with _Connection() as connection:
        connection.tell(_RTM_NEWLINK, 0, body, name)


def add_address(index: int, address: Address) -> None:
    """Give a device of the current network namespace an address; one that it has already is no error."""
    body = pack("=BBBBI", address.family, address.prefix, address.flags & 0xFF, address.scope, index)
    body += b"".join(_attribute(kind, value) for kind, value in address.attributes)
    body += _attribute(_IFA_FLAGS, pack("=I", address.flags))
    with _Connection() as connection:
        try:
            connection.tell(_RTM_NEWADDR, _CREATE | _EXCL, body, "address")
        except FileExistsError:
            pass


def set_up(index: int, name: str) -> None:
    """Bring a device of the current network namespace up."""
    with _Connection() as connection:
        connection.tell(_RTM_NEWLINK, 0, pack("=BBHiII", 0, 0, 0, index, _IFF_UP, _IFF_UP), name)


def add_local_route(family: int, address: bytes, table: int, source: bytes = b"") -> None:
    """In `table`, take packets for the one address (in network order) as the namespace's own, through lo.

    Who sends there without an address of his own gets `source`, which has to be one of the namespace's.
    """
    body = _local_route(family, address, table)
    body += _attribute(_RTA_OIF, pack("=I", device_index("lo")))
    if source:
        body += _attribute(_RTA_PREFSRC, source)
    with _Connection() as connection:
        connection.tell(_RTM_NEWROUTE, _CREATE | _REPLACE, body, "route")


def remove_local_route(family: int, address: bytes, table: int) -> None:
    """Undo `add_local_route`. `OSError` ESRCH where there is none."""
    with _Connection() as connection:
        connection.tell(_RTM_DELROUTE, 0, _local_route(family, address, table), "route")


def add_port_rule(family: int, protocol: int, ports: tuple[int, int], table: int, priority: int) -> None:
    """Look into `table` for what is sent from one of `ports` (first and last; Linux 4.17). `OSError` EEXIST."""
    with _Connection() as connection:
        body = _port_rule(family, protocol, ports, table, priority)
        connection.tell(_RTM_NEWRULE, _CREATE | _EXCL, body, "rule")


def remove_port_rule(family: int, protocol: int, ports: tuple[int, int], table: int, priority: int) -> None:
    """Undo `add_port_rule`. `OSError` ENOENT where there is none."""
    with _Connection() as connection:
        connection.tell(_RTM_DELRULE, 0, _port_rule(family, protocol, ports, table, priority), "rule")


def _local_route(family: int, address: bytes, table: int) -> bytes:
    header = pack("=8BI", family, len(address) * 8, 0, 0, 0, _RTPROT_STATIC, _SCOPE_HOST, _RTN_LOCAL, 0)
    return header + _attribute(_RTA_DST, address) + _attribute(_RTA_TABLE, pack("=I", table))


def _port_rule(family: int, protocol: int, ports: tuple[int, int], table: int, priority: int) -> bytes:
    body = pack("=8BI", family, 0, 0, 0, 0, 0, 0, _FR_ACT_TO_TBL, 0)
    body += _attribute(_FRA_PRIORITY, pack("=I", priority)) + _attribute(_FRA_TABLE, pack("=I", table))
    return body + _attribute(_FRA_IP_PROTO, bytes((protocol,))) + _attribute(_FRA_SPORT_RANGE, pack("=HH", *ports))


def set_down(index: int, name: str) -> None:
    """Take a device of the current network namespace down."""
    with _Connection() as connection:
        connection.tell(_RTM_NEWLINK, 0, pack("=BBHiII", 0, 0, 0, index, 0, _IFF_UP), name)


def set_hardware_address(index: int, address: bytes, name: str) -> None:
    """Give a device of the current network namespace its hardware address."""
    with _Connection() as connection:
        body = pack("=BBHiII", 0, 0, 0, index, 0, 0) + _attribute(_IFLA_ADDRESS, address)
        connection.tell(_RTM_NEWLINK, 0, body, name)


def set_mtu(index: int, mtu: int, name: str) -> None:
    """Set the longest packet that a device of the current network namespace sends, in bytes."""
    with _Connection() as connection:
        body = pack("=BBHiII", 0, 0, 0, index, 0, 0) + _attribute(_IFLA_MTU, pack("=I", mtu))
        connection.tell(_RTM_NEWLINK, 0, body, name)


def remove_device(index: int, name: str) -> None:
    """Delete a device of the current network namespace; of a veth pair the other end goes too."""
    with _Connection() as connection:
        connection.tell(_RTM_DELLINK, 0, pack("=BBHiII", 0, 0, 0, index, 0, 0), name)


def ipv4(address: str, prefix: int) -> Address:
    """The lasting IPv4 address `address`/`prefix`, for `add_address`."""
    local = _socket.inet_aton(address)
    host = (1 << (32 - prefix)) - 1
    broadcast = (int.from_bytes(local, "big") | host).to_bytes(4, "big")
    attributes = [(_IFA_LOCAL, local), (_IFA_ADDRESS, local)]
    if prefix < 31:
        attributes.append((_IFA_BROADCAST, broadcast))
    return Address(_socket.AF_INET, prefix, _IFA_F_PERMANENT, _SCOPE_UNIVERSE, tuple(attributes))


def remove_address(index: int, address: Address) -> None:
    """Take an address from a device of the current network namespace; one that is not there is no error."""
    body = pack("=BBBBI", address.family, address.prefix, 0, address.scope, index)
    body += b"".join(_attribute(kind, value) for kind, value in address.attributes if kind != _IFA_BROADCAST)
    with _Connection() as connection:
        try:
            connection.tell(_RTM_DELADDR, 0, body, "address")
        except OSError as failure:
            if failure.errno != errno.EADDRNOTAVAIL:
                raise


def set_default_route(index: int, gateway: str, on_link: bool = False) -> None:
    """Send what has no other way through an IPv4 router on the device, in place of an earlier such route; `on_link`
    where the router's address is in no network of the device."""
    flags = _RTNH_F_ONLINK if on_link else 0
    body = pack("=BBBBBBBBI", _socket.AF_INET, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, 0, _RTN_UNICAST, flags)
    body += _attribute(_RTA_GATEWAY, _socket.inet_aton(gateway)) + _attribute(_RTA_OIF, pack("=i", index))
    with _Connection() as connection:
        connection.tell(_RTM_NEWROUTE, _CREATE | _REPLACE, body, f"default via {gateway}")


class _Connection:
    """A netlink socket of the current network namespace."""

    def __init__(self) -> None:
        self.socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _ROUTE)
        self.sequence = 0

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.socket.close()

    def tell(self, kind: int, flags: int, body: bytes, subject: str) -> None:
        """Send a request and wait until it is done. Raises the kernel's `OSError`."""
        try:
            for _answer in self.ask(kind, _REQUEST | _ACK | flags, body):
                pass
        except OSError as failure:
            failure.filename = subject
            raise

    def ask(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        """Send a request; the bodies of the answers."""
        self.sequence += 1
        self.socket.send(pack("=IHHII", _HEADER + len(body), kind, flags, self.sequence, 0) + body)
        while True:
            data = self.socket.recv(1 << 16)
            place = 0
            while place + _HEADER <= len(data):
                length, answer, _flags, sequence, _port = unpack_from("=IHHII", data, place)
                inside = data[place + _HEADER : place + length]
                place += max(_aligned(length), _HEADER)
                if sequence != self.sequence:
                    continue
                if answer == _ERROR:
                    (number,) = unpack_from("=i", inside)
                    if number:
                        raise OSError(-number, os.strerror(-number))
                    return
                if answer == _DONE:
                    return
                yield inside


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return pack("=HH", length, kind) + value + bytes(_aligned(length) - length)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + 4 <= len(data):
        length, kind = unpack_from("=HH", data, place)
        if length < 4:
            return
        yield kind, data[place + 4 : place + length]
        place += _aligned(length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
