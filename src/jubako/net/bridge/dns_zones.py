"""The names of containers, network by network, and what a name server's question about them is answered.

A container that asks sees the names of all networks that it is on, whichever of their name servers it asks; so its
resolv.conf may list them in any order. Names of one label are containers' alone: an unknown one is never asked outside.
"""

from __future__ import annotations

import ipaddress
import random
import socket

from jubako.net.bridge.dns_message import (
    AAAA,
    ANY,
    IN,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    PTR,
    REFUSED,
    A,
    Question,
    address_of_reverse,
    encode_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Records = list[tuple[int, bytes]]

HOST_NAMES = ("host.containers.internal", "host.docker.internal")
_OWN_DOMAINS = (("containers", "internal"), ("docker", "internal"))


class Member:
    """A container on one network: the names that it has there, the first of them its own, and its addresses."""

    def __init__(self, names: list[str], addresses: list[str]) -> None:
        self.names = [name.lower() for name in names]
        self.addresses = [packed(address) for address in addresses]


class Zone:
    """One network."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.outside = bool(document["outside"])
        """Whether what is not known here may be asked outside."""
        self.servers = tuple(str(server) for server in document["servers"])
        self.subnets = [ipaddress.ip_network(cidr) for cidr in document["subnets"]]
        self.members: dict[str, Member] = {}
        self.by_name: dict[str, set[str]] = {}
        self.by_address: dict[bytes, str] = {}

    def put(self, identifier: str, member: Member) -> None:
        """A container comes, or has other names now."""
        self.drop(identifier)
        self.members[identifier] = member
        for name in member.names:
            self.by_name.setdefault(name, set()).add(identifier)
        for address in member.addresses:
            self.by_address[address] = identifier

    def drop(self, identifier: str) -> None:
        """A container goes."""
        member = self.members.pop(identifier, None)
        if member is None:
            return
        for name in member.names:
            holders = self.by_name.get(name, set())
            holders.discard(identifier)
            if not holders:
                self.by_name.pop(name, None)
        for address in member.addresses:
            self.by_address.pop(address, None)


class Zones:
    """All networks, and the answers. `host` is the address at which the host is reached, empty where it is not."""

    def __init__(self) -> None:
        self.zones: dict[str, Zone] = {}
        self.host: list[str] = []

    def seen_by(self, network: str, source: bytes) -> list[Zone]:
        """The networks whose names the container of this address sees; the one in which it asks comes first."""
        zone = self.zones[network]
        asker = zone.by_address.get(source)
        if asker is None:
            return [zone]
        return [zone, *(other for other in self.zones.values() if other is not zone and asker in other.members)]

    def look_up(self, question: Question, zones: list[Zone]) -> tuple[int, Records] | None:
        """The code and the records for the question; None if it is to be asked outside."""
        if question.opcode:
            return NOTIMP, []
        if question.cls not in (IN, ANY):
            return REFUSED, []
        name = question.name
        known = self._addresses(name, zones)
        if known:
            return NOERROR, _chosen(known, question.kind)
        if len(question.labels) == 1 or tuple(name.split(".")[-2:]) in _OWN_DOMAINS:
            return NXDOMAIN, []
        address = address_of_reverse(question.labels)
        if address is not None:
            found = self._reverse(address, question.kind, zones)
            if found is not None:
                return found
        return None if any(zone.outside for zone in zones) else (NXDOMAIN, [])

    def _addresses(self, name: str, zones: list[Zone]) -> list[bytes]:
        if name in HOST_NAMES:
            return [packed(address) for address in self.host]
        found: list[bytes] = []
        for zone in zones:
            holders = [zone.members[identifier] for identifier in zone.by_name.get(name, ())]
            found += [address for member in holders for address in member.addresses]
        random.shuffle(found)  # containers that share an alias share what is asked of them
        return found

    def _reverse(self, address: bytes, kind: int, zones: list[Zone]) -> tuple[int, Records] | None:
        text = ipaddress.ip_address(address)
        for zone in zones:
            if not any(text in subnet for subnet in zone.subnets):
                continue
            identifier = zone.by_address.get(address)
            if identifier is None:
                return NXDOMAIN, []
            wanted = kind in (PTR, ANY)
            return NOERROR, [(PTR, encode_name(zone.members[identifier].names[0]))] if wanted else []
        return None


def packed(address: str) -> bytes:
    """The bytes of a numeric address; a scope (`fe80::1%eth0`) is left out."""
    address = address.partition("%")[0]
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _chosen(addresses: list[bytes], kind: int) -> Records:
    records = [(A if len(address) == 4 else AAAA, address) for address in addresses]
    return [one for one in records if kind in (one[0], ANY)]
