"""Hosts as they stand in a rule or a request, and which addresses are somewhere on the public Internet.

An address is written in one way only: four decimal numbers, or RFC 4291's text. What the C library takes besides
(`127.1`, `0x7f000001`, `2130706433`) is neither an address nor a name here. Special addresses are those of IANA's
special-purpose registries (RFC 6890), and what is not global unicast in IPv6.
"""

from __future__ import annotations

import _socket

from jubako.record import record

_DIGITS = "0123456789"
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_LONGEST_NAME, _LONGEST_LABEL = 253, 63


@record
class Address:
    """An IP address as a number; `bits` is 32 or 128."""

    bits: int
    value: int

    def __str__(self) -> str:
        if self.bits == 32:
            return _socket.inet_ntop(_socket.AF_INET, self.value.to_bytes(4, "big"))
        return _socket.inet_ntop(_socket.AF_INET6, self.value.to_bytes(16, "big"))


@record
class Network:
    """The addresses that have the first `length` bits of `first`."""

    first: Address
    length: int

    def __contains__(self, address: Address) -> bool:
        shift = self.first.bits - self.length
        return self.first.bits == address.bits and self.first.value >> shift == address.value >> shift

    def lies_within(self, other: Network) -> bool:
        """Whether all addresses are in the other network too."""
        return self.length >= other.length and self.first in other

    def __str__(self) -> str:
        return str(self.first) if self.length == self.first.bits else f"{self.first}/{self.length}"


class BadHost(ValueError):
    """Text that is neither an address nor a host name; says why."""


def parse_address(text: str) -> Address | None:
    """The address that `text` writes (IPv6 without brackets and without a zone), or None."""
    try:
        if ":" in text:
            return Address(128, int.from_bytes(_socket.inet_pton(_socket.AF_INET6, text), "big"))
        return Address(32, int.from_bytes(_socket.inet_pton(_socket.AF_INET, text), "big"))
    except (OSError, ValueError):
        return None


def parse_network(text: str) -> Network | None:
    """The network that `text` writes as ADDRESS/LENGTH, or None. Raises `BadHost` for bits set behind the prefix."""
    base, slash, suffix = text.partition("/")
    address = parse_address(base)
    length = parse_number(suffix, 128)
    if address is None or not slash or length is None or length > address.bits:
        return None
    host_bits = address.bits - length
    if address.value & ((1 << host_bits) - 1):
        first = Address(address.bits, address.value >> host_bits << host_bits)
        raise BadHost(f"the network of {base} is {first}/{length}")
    return Network(address, length)


def parse_number(text: str, largest: int) -> int | None:
    """A decimal number without sign, blanks or leading zeros, from 0 to `largest`; else None."""
    if not 0 < len(text) <= 5 or any(digit not in _DIGITS for digit in text) or (text[0] == "0" and text != "0"):
        return None
    number = int(text)
    return number if number <= largest else None


def parse_host(text: str) -> Address | str:
    """A host as it stands in a URI (RFC 3986): an address, IPv6 in brackets, or a name, which comes back in lower case
    and without the final dot. Raises `BadHost`."""
    if text.startswith("["):
        address = parse_address(text[1:-1]) if text.endswith("]") and ":" in text else None
        if address is None:
            raise BadHost("no IPv6 address in brackets")
        return address
    address = None if ":" in text else parse_address(text)
    return parse_name(text) if address is None else address


def parse_name(text: str) -> str:
    """A host name in lower case without its final dot. Raises `BadHost`."""
    if not text.isascii():
        raise BadHost("a name with other letters than ASCII: it has to be written as xn--…")
    name = text.lower().removesuffix(".")
    if not name or len(name) > _LONGEST_NAME:
        raise BadHost("an empty name" if not name else "a name that is too long")
    labels = name.split(".")
    for label in labels:
        if not 0 < len(label) <= _LONGEST_LABEL or label[0] == "-" or label[-1] == "-":
            raise BadHost("no host name")
        if not _NAME_CHARACTERS.issuperset(label):
            raise BadHost("no host name: a character that names do not have")
    # No top-level domain is a number; the C library would read such a name as an address.
    last = labels[-1]
    if last[0] in _DIGITS and (last.isdigit() or (last[:2] == "0x" and _is_hexadecimal(last[2:]))):
        raise BadHost("an address in a form that is not taken: write four decimal numbers")
    return name


def is_special(address: Address) -> bool:
    """Whether the address is private, local, multicast, holds another one, or is else none of the public Internet."""
    return any(address in block for block in _SPECIAL[address.bits])


def names_special(network: Network) -> bool:
    """Whether the network as a whole is special, or is one address: who names it means just that."""
    return network.length == network.first.bits or any(
        network.lies_within(block) for block in _SPECIAL[network.first.bits]
    )


def embedded(address: Address) -> Address | None:
    """The IPv4 address that stands in one of NAT64's well-known prefix (RFC 6052), or is mapped (RFC 4291)."""
    if address in _NAT64 or address in MAPPED:
        return Address(32, address.value & 0xFFFFFFFF)
    return None


def _is_hexadecimal(text: str) -> bool:
    return all(digit in "0123456789abcdef" for digit in text)


def _network(text: str) -> Network:
    network = parse_network(text)
    assert network is not None
    return network


MAPPED = _network("::ffff:0:0/96")
_NAT64 = _network("64:ff9b::/96")
_SPECIAL = {
    32: tuple(
        map(
            _network,
            (
                "0.0.0.0/8",
                "10.0.0.0/8",
                "100.64.0.0/10",  # carriers' NAT (RFC 6598); a cloud's metadata too
                "127.0.0.0/8",
                "168.63.129.16/32",  # a cloud's metadata, in a public range
                "169.254.0.0/16",  # link-local (RFC 3927); most clouds' metadata
                "172.16.0.0/12",
                "192.0.0.0/24",
                "192.0.2.0/24",
                "192.88.99.0/24",  # relays of 6to4
                "192.168.0.0/16",
                "198.18.0.0/15",
                "198.51.100.0/24",
                "203.0.113.0/24",
                "224.0.0.0/4",
                "240.0.0.0/4",
            ),
        )
    ),
    128: tuple(
        map(
            _network,
            (
                "fc00::/7",
                "fe80::/10",
                "ff00::/8",
                "2001::/23",  # Teredo and other protocols of the IETF
                "2001:db8::/32",
                "2002::/16",  # 6to4
                "3fff::/20",
                "::/96",  # unspecified, loopback, IPv4-compatible
                "::ffff:0:0/96",
                "64:ff9b::/96",
                "64:ff9b:1::/48",
                # Global unicast is 2000::/3; all that is not, in the largest pieces.
                "::/3",
                "4000::/2",
                "8000::/1",
            ),
        )
    ),
}
