"""Numbers of networks: CIDR notation (RFC 4632), and the places that jubako's networks give to router and resolver.

The host number .100 is the namespace's own, .2 the router's, .3 the name server's, as slirp4netns and RootlessKit have
it; IPv6 has the same numbers in one fixed network.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from jubako.record import record

INSIDE, GATEWAY, DNS = 100, 2, 3
"""Host numbers in the network."""
LONGEST_PREFIX = 25
"""The smallest network that has room for .100."""
DEFAULT_CIDR = "10.0.2.0/24"

INSIDE6, GATEWAY6, DNS6, PREFIX6 = "fd00::100", "fd00::2", "fd00::3", 64

_UNUSABLE = (("0.0.0.0", 8), ("127.0.0.0", 8), ("224.0.0.0", 3))
"""This network, loopback, multicast and what is reserved (RFC 6890)."""


@record
class Ipv4Network:
    """One IPv4 network: its address as a number, and its prefix length."""

    number: int
    prefix: int

    def host(self, number: int) -> str:
        """The address of the host with this number in it."""
        return _text(self.number + number)

    def __str__(self) -> str:
        return f"{_text(self.number)}/{self.prefix}"


def read_cidr(text: str) -> Ipv4Network:
    """The network that `text` names. Raises `ValueError` with the reason where it cannot be one of ours."""
    address, slash, length = text.partition("/")
    if ":" in address:
        raise ValueError("only IPv4 networks can be chosen")
    if not is_address(address):
        raise ValueError("it is no network in CIDR notation, such as 10.0.2.0/24")
    if not slash or not (length.isascii() and length.isdigit() and len(length) < 3 and int(length) <= 32):
        raise ValueError("it has no prefix length from 1 to 25 behind a slash")
    number, prefix = _number(address), int(length)
    if prefix > LONGEST_PREFIX or prefix < 1:
        raise ValueError(f"the prefix length must be from 1 to {LONGEST_PREFIX}: the address inside is number {INSIDE}")
    mask = _mask(prefix)
    if number & mask != number:
        raise ValueError(f"it is an address in the network {_text(number & mask)}/{prefix}, not the network")
    for start, length_of_it in _UNUSABLE:
        wider = _mask(min(prefix, length_of_it))
        if number & wider == _number(start) & wider:
            raise ValueError(f"it overlaps {start}/{length_of_it}, whose addresses are no host's")
    return Ipv4Network(number, prefix)


def is_address(text: str) -> bool:
    """Whether `text` is a numeric IPv4 address of four decimal parts."""
    return _is(AF_INET, text)


def is_address6(text: str) -> bool:
    """Whether `text` is a numeric IPv6 address (without a zone)."""
    return _is(AF_INET6, text)


def is_loopback(text: str) -> bool:
    """Whether a numeric address of either kind is the machine's own loopback, or means any of its addresses."""
    if is_address(text):
        return _number(text) >> 24 in (0, 127)
    address = inet_pton(AF_INET6, text)
    mapped = address[:12] in (bytes(10) + b"\xff\xff", bytes(12))
    return mapped and (address[12] in (0, 127))


def _is(family: int, text: str) -> bool:
    try:
        inet_pton(family, text)
    except (OSError, ValueError):  # ValueError: a NUL or a surrogate in it
        return False
    return True


def _mask(prefix: int) -> int:
    return (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF


def _number(address: str) -> int:
    return int.from_bytes(inet_pton(AF_INET, address), "big")


def _text(number: int) -> str:
    return inet_ntop(AF_INET, number.to_bytes(4, "big"))
