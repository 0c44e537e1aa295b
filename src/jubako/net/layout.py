"""What the drivers with a device of their own have in common: its name, MTU and addresses, and what they refuse."""

from __future__ import annotations

import _socket
import fcntl
from _struct import pack

from jubako.errors import UsageError
from jubako.linux import rtnetlink
from jubako.net import addresses
from jubako.net.link import Link
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.link import NetworkOptions

LEAST_MTU, GREATEST_MTU = 68, 65521
"""RFC 791 for the least; the greatest is that of slirp4netns and pasta: one Ethernet frame of 64 KiB."""
LEAST_MTU6 = 1280
"""RFC 8200, section 5."""
FAST_MTU = 65520
"""The default where the other end of the device is a process, which is cheaper the fewer the packets."""

_LONGEST_NAME = 15

_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NO_DETECTION, _PERMANENT = 0x02, 0x80
_SIOCADDRT, _RTF_UP, _RTF_GATEWAY, _METRIC = 0x890B, 1, 2, 512
"""A route of in6_rtmsg; better than the one of router advertisements, whose metric is 1024."""


@record
class Layout:
    """What a driver configures inside."""

    device: str
    mtu: int
    network: addresses.Ipv4Network
    ipv6: bool

    @classmethod
    def of(cls, driver: str, options: NetworkOptions, mtu: int = FAST_MTU) -> Layout:
        """The layout that `options` ask for. Raises `UsageError` for what cannot be."""
        check_mtu(options.mtu, ipv6=options.ipv6, operation=f"read mtu of {driver}")
        device = options.device or "tap0"
        if not is_device_name(device):
            raise UsageError(f"read the device name of {driver}", device, reason="no network device can be called so")
        try:
            network = addresses.read_cidr(options.cidr or addresses.DEFAULT_CIDR)
        except ValueError as wrong:
            raise UsageError(
                f"read cidr of {driver}", options.cidr, reason=str(wrong), hint="cidr=10.0.2.0/24"
            ) from None
        return cls(device, options.mtu or mtu, network, options.ipv6)

    def link(self, driver: str, *, host: bool) -> Link:
        """The link with this layout; `host` says whether the gateway's address stands for the host's loopback."""
        network = self.network
        return Link(
            driver,
            device=self.device,
            addresses=(
                f"{network.host(addresses.INSIDE)}/{network.prefix}",
                *((f"{addresses.INSIDE6}/{addresses.PREFIX6}",) if self.ipv6 else ()),
            ),
            gateways=(network.host(addresses.GATEWAY), *((addresses.GATEWAY6,) if self.ipv6 else ())),
            dns=(network.host(addresses.DNS),),
            mtu=self.mtu,
            host=network.host(addresses.GATEWAY) if host else "",
        )


def add_route_to_ipv6(device: str) -> None:
    """In the current network namespace, give the device the address and the router of IPv6, to be used at once."""
    index = rtnetlink.device_index(device)
    own, router = (_socket.inet_pton(_socket.AF_INET6, text) for text in (addresses.INSIDE6, addresses.GATEWAY6))
    said = ((_IFA_ADDRESS, own), (_IFA_LOCAL, own))
    rtnetlink.add_address(
        index, rtnetlink.Address(_socket.AF_INET6, addresses.PREFIX6, _PERMANENT | _NO_DETECTION, 0, said)
    )
    route = bytes(32) + router + pack("@IHHILIi", 0, 0, 0, _METRIC, 0, _RTF_UP | _RTF_GATEWAY, index)
    socket = _socket.socket(_socket.AF_INET6, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        fcntl.ioctl(socket.fileno(), _SIOCADDRT, route)
    finally:
        socket.close()


def check_mtu(mtu: int, *, ipv6: bool, operation: str) -> None:
    """Raises `UsageError` unless `mtu` is 0 (the default) or one that a device can have."""
    if mtu and not LEAST_MTU <= mtu <= GREATEST_MTU:
        reason = f"it is not between {LEAST_MTU} and {GREATEST_MTU} bytes"
    elif mtu and ipv6 and mtu < LEAST_MTU6:
        reason = f"IPv6 needs at least {LEAST_MTU6} bytes"
    else:
        return
    raise UsageError(operation, str(mtu), reason=reason, hint="0 is the driver's default")


def is_device_name(name: str) -> bool:
    """Whether the kernel takes it for a device (dev_valid_name)."""
    return (
        0 < len(name) <= _LONGEST_NAME
        and name.isascii()
        and name.isprintable()
        and not set(name) & set(" /:%")
        and (name not in (".", "..", "lo", "all", "default") and not name.startswith("-"))
    )


def refuse(driver: str, options: NetworkOptions, fields: tuple[str, ...], ports: tuple[str, ...]) -> None:
    """Raises `UsageError` if one of the options is given that this driver does not have, or a port driver other than
    those of `ports`."""
    if options.ports and options.ports not in ports:
        raise UsageError(
            f"forward ports of {driver}",
            options.ports,
            reason="this port driver does not go with that network",
            hint=f"one of {', '.join(ports)}",
        )
    for field in fields:
        if getattr(options, field):
            raise UsageError(
                f"read the options of {driver}",
                field,
                reason="this network driver has no such option",
                hint="see jubako run --help for each driver's options",
            )
