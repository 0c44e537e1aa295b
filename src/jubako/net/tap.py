"""Devices inside the network namespace: tap devices (the kernel's networking/tuntap.rst), addresses and the way out.

Everything here works on the current network namespace: call it through `jubako.net.enter.inside`. A tap device is gone
as soon as its descriptor is closed everywhere.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
from _struct import pack, unpack_from

from jubako.linux import rtnetlink
from jubako.record import record

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_SIOCGIFMTU = 0x8921


@record
class Interface:
    """How a device is to be: its address with the prefix length, its router; MTU 0 and empty texts change nothing."""

    device: str
    address: str = ""
    prefix: int = 0
    gateway: str = ""
    mtu: int = 0
    hardware_address: bytes = b""


def open_tap(name: str) -> int:
    """Make a tap device and return the descriptor from which frames are read and to which they are written, one a call
    and without blocking. Raises `OSError`."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    except OSError as failure:
        os.close(fd)
        failure.filename = name
        raise
    return fd


def configure(interface: Interface) -> None:
    """Make the device so, bring it up, and send what has no other way through its router. Raises `OSError`."""
    name = interface.device
    index = rtnetlink.device_index(name)
    if interface.hardware_address:
        rtnetlink.set_hardware_address(index, interface.hardware_address, name)
    if interface.mtu:
        rtnetlink.set_mtu(index, interface.mtu, name)
    if interface.address:
        rtnetlink.add_address(index, rtnetlink.ipv4(interface.address, interface.prefix))
    rtnetlink.set_up(index, name)
    if interface.gateway:
        rtnetlink.set_default_route(index, interface.gateway, not _is_near(interface))


def _is_near(interface: Interface) -> bool:
    """Whether the router is in the network of the address."""
    both = (_socket.inet_aton(text) for text in (interface.address or "0.0.0.0", interface.gateway))
    one, other = (int.from_bytes(address, "big") >> (32 - interface.prefix) for address in both)
    return one == other


def device_mtu(name: str) -> int:
    """The device's MTU (netdevice(7)). Raises `OSError`."""
    with_name = pack("16s24x", name.encode())
    socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        (mtu,) = unpack_from("=i", fcntl.ioctl(socket.fileno(), _SIOCGIFMTU, with_name), 16)
        return int(mtu)
    except OSError as failure:
        if failure.errno == errno.ENODEV:
            failure.filename = name
        raise
    finally:
        socket.close()
