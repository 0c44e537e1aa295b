"""A bridge network: what is known of it, what may be asked for, and which subnet it gets.

Its document, one JSON object, has podman's words (`podman network inspect`). Subnets overlap neither one another nor
anything that the host has a route to, nor the network of the uplink.
"""

from __future__ import annotations

import ipaddress
import os

from jubako.errors import UsageError
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Net = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_NETWORK = "jubako"
OTHER_NAMES = ("bridge", "podman", "default")
"""What docker's and podman's users call the default network."""
RESERVED = (
    *("none", "host", "private", "container", "ns", "pod", "pasta", "slirp4netns", "vpnkit", "lxc-user-nic", "proxy"),
    *OTHER_NAMES,
)
"""Words that mean something else after `--network`."""
UPLINK_NETWORKS = ("10.0.2.0/24", "fd00::/64")
MTU_LEAST, MTU_MOST = 68, 65520
MTU_LEAST_IPV6 = 1280
_MTU_OPTIONS = ("mtu", "com.docker.network.driver.mtu")
_LONGEST_NAME = 63
_V4_LONGEST, _V6_LONGEST = 30, 125
_V4_SHORTEST, _V6_SHORTEST = 8, 32


@record
class Subnet:
    """Addresses of a network: `cidr`, the bridge's own address, and the first and last that containers may get, empty
    for all that there are."""

    cidr: str
    gateway: str
    first: str = ""
    last: str = ""


@record
class Network:
    """One network. `servers` answer what its name server does not know, in place of the uplink's."""

    name: str
    id: str
    subnets: tuple[Subnet, ...]
    internal: bool = False
    dns: bool = True
    servers: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    created: str = ""

    @property
    def mtu(self) -> int:
        """The longest packet that was asked for; 0 is the uplink's."""
        return next((int(value) for name, value in self.options if name == "mtu"), 0)

    @property
    def ipv6(self) -> bool:
        """Whether it has a subnet of IPv6."""
        return any(":" in subnet.cidr for subnet in self.subnets)


def dump_network(network: Network) -> dict[str, Any]:
    """The network's document."""
    subnets = []
    for subnet in network.subnets:
        entry: dict[str, Any] = {"subnet": subnet.cidr, "gateway": subnet.gateway}
        if subnet.first:
            entry["lease_range"] = {"start_ip": subnet.first, "end_ip": subnet.last}
        subnets.append(entry)
    return {
        "name": network.name,
        "id": network.id,
        "driver": "bridge",
        "created": network.created,
        "subnets": subnets,
        "ipv6_enabled": network.ipv6,
        "internal": network.internal,
        "dns_enabled": network.dns,
        "network_dns_servers": list(network.servers),
        "labels": dict(network.labels),
        "options": dict(network.options),
        "ipam_options": {"driver": "host-local"},
    }


def load_network(document: dict[str, Any]) -> Network:
    """The network of a document. Raises `ValueError` or `KeyError` for one that is damaged."""
    subnets = []
    for entry in document["subnets"]:
        network = ipaddress.ip_network(entry["subnet"])
        gateway = ipaddress.ip_address(entry["gateway"])
        lease = entry.get("lease_range", {})
        if gateway not in network:
            raise ValueError(f"the gateway {gateway} is not in {network}")
        subnets.append(Subnet(str(network), str(gateway), lease.get("start_ip", ""), lease.get("end_ip", "")))
    return Network(
        check_network_name(str(document["name"]), reserved=False),
        str(document["id"]),
        tuple(subnets),
        bool(document["internal"]),
        bool(document["dns_enabled"]),
        tuple(str(ipaddress.ip_address(server)) for server in document.get("network_dns_servers", ())),
        tuple((str(name), str(value)) for name, value in document.get("labels", {}).items()),
        _check_options(document.get("options", {}).items(), ipv6=False),
        str(document.get("created", "")),
    )


def make_network(
    name: str,
    taken: Iterable[Net],
    *,
    subnets: tuple[str, ...] = (),
    gateways: tuple[str, ...] = (),
    ranges: tuple[str, ...] = (),
    ipv6: bool = False,
    internal: bool = False,
    dns: bool = True,
    servers: tuple[str, ...] = (),
    labels: tuple[tuple[str, str], ...] = (),
    options: tuple[tuple[str, str], ...] = (),
    created: str = "",
) -> Network:
    """The network that was asked for, with subnets that overlap none of `taken`. Raises `UsageError`."""
    from jubako.digest import sha256

    check_network_name(name)
    taken = [*taken, *(ipaddress.ip_network(cidr) for cidr in UPLINK_NETWORKS)]
    wanted = [_parse_subnet(text) for text in subnets]
    for number, network in enumerate(wanted):
        _refuse_overlap(network, (*taken, *wanted[:number]))
    if not any(network.version == 4 for network in wanted) and not (wanted and wanted[0].version == 6):
        wanted.insert(0, _free_ipv4([*taken, *wanted], name))
    if ipv6 and not any(network.version == 6 for network in wanted):
        wanted.append(_free_ipv6([*taken, *wanted]))
    made = _with_gateways(wanted, gateways, ranges)
    for server in servers:
        _parse_address("the name server", server)
    digest = sha256()
    digest.update(name.encode())
    has_ipv6 = any(network.version == 6 for network in wanted)
    return Network(
        name, digest.hexdigest(), made, internal, dns, servers, labels, _check_options(options, has_ipv6), created
    )


def check_network_name(name: str, *, reserved: bool = True) -> str:
    """`name`, if a network may have it. Raises `UsageError`."""
    plain = name.replace("_", "a").replace(".", "a").replace("-", "a")
    if not plain.isascii() or not plain.isalnum() or not name[0].isalnum() or len(name) > _LONGEST_NAME:
        raise UsageError(
            "name the network",
            repr(name),
            reason=f"a name has letters, digits, _ . - and begins with one of the first two; at most {_LONGEST_NAME}",
        )
    if reserved and name in RESERVED:
        raise UsageError("name the network", name, reason="after --network this word means something else")
    return name


def host_routes() -> list[Net]:
    """What the host has a route to, the default routes left out (`/proc/net/route`, `/proc/net/ipv6_route`)."""
    found: list[Net] = []
    for line in _lines("/proc/net/route")[1:]:
        fields = line.split()
        address = int.from_bytes(bytes.fromhex(fields[1]), "little")
        mask = int.from_bytes(bytes.fromhex(fields[7]), "little")
        if mask:
            found.append(ipaddress.ip_network((address & mask, mask.bit_count())))
    for line in _lines("/proc/net/ipv6_route"):
        fields = line.split()
        length = int(fields[1], 16)
        if 0 < length < 128 and not fields[0].startswith(("fe8", "ff")):
            found.append(ipaddress.ip_network((int(fields[0], 16), length), strict=False))
    return found


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _parse_subnet(text: str) -> Net:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as failure:
        raise UsageError("make the network", f"--subnet {text}", reason=str(failure)) from failure
    shortest, longest = (_V4_SHORTEST, _V4_LONGEST) if network.version == 4 else (_V6_SHORTEST, _V6_LONGEST)
    reason = ""
    if "/" not in text:
        reason = "the length of the prefix is missing, such as /24"
    elif not shortest <= network.prefixlen <= longest:
        reason = f"the length of the prefix must be between {shortest} and {longest}"
    elif network.is_loopback or network.is_multicast or network.is_link_local or network.is_unspecified:
        reason = "these addresses are for something else"
    if reason:
        raise UsageError("make the network", f"--subnet {text}", reason=reason)
    return network


def _refuse_overlap(network: Net, taken: Iterable[Net]) -> None:
    for other in taken:
        if _overlap(network, other):
            raise UsageError(
                "make the network",
                f"--subnet {network}",
                reason=f"it overlaps {other}, of another network, of the host or of the uplink",
            )


def _overlap(one: Net, other: Net) -> bool:
    return one.version == other.version and one.overlaps(other)


def _free_ipv4(taken: list[Net], name: str) -> Net:
    places = ((second, third) for second in range(89, 256) for third in range(256))
    first = ((88, 0),) if name == DEFAULT_NETWORK else ()
    for second, third in (*first, *places):
        network = ipaddress.IPv4Network((0x0A000000 | second << 16 | third << 8, 24))
        if not any(_overlap(network, other) for other in taken):
            return network
    raise UsageError("make the network", name, reason="no subnet is free in 10.89.0.0 to 10.255.255.0", hint="--subnet")


def _free_ipv6(taken: list[Net]) -> Net:
    """A unique local one (RFC 4193): fd and 40 random bits."""
    while True:
        network = ipaddress.IPv6Network((0xFD << 120 | int.from_bytes(os.urandom(5), "big") << 80, 64))
        if not any(_overlap(network, other) for other in taken):
            return network


def _parse_address(what: str, text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as failure:
        raise UsageError("make the network", what, reason=str(failure)) from failure


def _with_gateways(networks: list[Net], gateways: tuple[str, ...], ranges: tuple[str, ...]) -> tuple[Subnet, ...]:
    left = [_parse_address(f"--gateway {text}", text) for text in gateways]
    leases = [_parse_subnet_range(text) for text in ranges]
    made = []
    for network in networks:
        mine = [address for address in left if address in network]
        if len(mine) > 1:
            raise UsageError("make the network", f"--gateway {mine[1]}", reason=f"{network} has one already")
        gateway = mine[0] if mine else network[1]
        if gateway == network[0] or (network.version == 4 and gateway == network[-1]):
            raise UsageError("make the network", f"--gateway {gateway}", reason=f"nobody may have it in {network}")
        left = [address for address in left if address not in mine]
        lease = [one for one in leases if one.version == network.version and one.subnet_of(network)]  # type: ignore[arg-type]
        leases = [one for one in leases if one not in lease]
        bounds = (str(lease[0][0]), str(lease[0][-1])) if lease else ("", "")
        made.append(Subnet(str(network), str(gateway), *bounds))
    for text in (*(f"--gateway {address}" for address in left), *(f"--ip-range {lease}" for lease in leases)):
        raise UsageError("make the network", text, reason="it is in no subnet of the network", hint="add --subnet")
    return tuple(made)


def _parse_subnet_range(text: str) -> Net:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as failure:
        raise UsageError("make the network", f"--ip-range {text}", reason=str(failure)) from failure


def _check_options(options: Iterable[tuple[str, str]], ipv6: bool) -> tuple[tuple[str, str], ...]:
    return tuple(_checked(name, value, ipv6) for name, value in options)


def _checked(name: str, value: str, ipv6: bool) -> tuple[str, str]:
    subject = f"--opt {name}={value}"
    if name in _MTU_OPTIONS:
        least = MTU_LEAST_IPV6 if ipv6 else MTU_LEAST
        if not (value.isascii() and value.isdigit() and least <= int(value) <= MTU_MOST):
            raise UsageError("make the network", subject, reason=f"it must be a number from {least} to {MTU_MOST}")
        return "mtu", value
    if name == "isolate" and value in ("true", "1", "strict"):
        return name, "true"
    if name == "isolate":
        raise UsageError("make the network", subject, reason="networks are always kept apart")
    raise UsageError("make the network", subject, reason="unknown option", hint="there are mtu and isolate")
