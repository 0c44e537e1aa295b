"""What `--allow` names: hosts and ports that the proxy lets through, and nothing else.

A value is HOST, HOST:PORT, HOST:FIRST-LAST or HOST:*; without a port it is 80 and 443. HOST is a name, `*.NAME` (any
name below it, not NAME itself, as in certificates, but at any depth), `*` (any name), an address or a network
(`10.1.0.0/16`, `[fd00::/8]:443`). A name leads to the public addresses that it has; others need a rule for the address
as well, so that no answer of a name server opens what nobody named. An address in a request wants a rule for it, and
no network of a rule reaches into special ranges (loopback, private, link-local …) unless it lies in one.
"""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.net.proxy.addresses import (
    MAPPED,
    Address,
    BadHost,
    Network,
    embedded,
    is_special,
    names_special,
    parse_address,
    parse_name,
    parse_network,
    parse_number,
)
from jubako.record import record

DEFAULT_PORTS = ((80, 80), (443, 443))
ALL_PORTS = ((1, 65535),)
_NO_IDNA = "\u00df\u03c2\u200c\u200d"
"""What IDNA 2003 and 2008 write differently: ß, ς and the joiners."""


@record
class Rule:
    """One `--allow`: a name, or a network (where `name` is empty), with its ports as (first, last)."""

    text: str
    name: str
    network: Network | None
    ports: tuple[tuple[int, int], ...]

    def has_port(self, port: int) -> bool:
        return any(first <= port <= last for first, last in self.ports)

    def covers_name(self, name: str) -> bool:
        if self.name[:1] == "*":
            return self.name == "*" or name.endswith(self.name[1:])
        return bool(self.name) and self.name == name


@record
class Rules:
    """All that is allowed."""

    rules: tuple[Rule, ...] = ()

    def allow_name(self, name: str, port: int) -> bool:
        """Whether the name may be looked up and asked at that port; each of its addresses is a question of its own."""
        return any(rule.covers_name(name) and rule.has_port(port) for rule in self.rules)

    def allow_address(self, address: Address, port: int, is_own: bool = False) -> bool:
        """Whether a rule for addresses lets it through. `is_own`: it is one of the host's own addresses, which has to
        be meant as much as a special one."""
        if address in MAPPED:
            return False
        special = is_own or is_special(address)
        for rule in self.rules:
            if rule.network is not None and address in rule.network and rule.has_port(port):
                if special and not names_special(rule.network):
                    continue
                inner = embedded(address)
                if inner is None or rule.network.length == 128 or self.allow_answer(inner, port):
                    return True
        return False

    def allow_answer(self, address: Address, port: int, is_own: bool = False) -> bool:
        """Whether an allowed name may lead to the address."""
        return not (is_own or is_special(address)) or self.allow_address(address, port, is_own)


def parse_rules(values: tuple[str, ...]) -> Rules:
    """The rules of `--allow` values. Raises `UsageError`."""
    return Rules(tuple(_parse(value) for value in values))


def _parse(value: str) -> Rule:
    host, ports = _split(value)
    try:
        network = _network(host)
        name = "" if network is not None else _name(host, value)
    except BadHost as failure:
        raise _wrong(value, str(failure)) from None
    if network is not None and network.lies_within(MAPPED):
        raise _wrong(value, "an IPv4 address in IPv6's clothes", "write the IPv4 address itself")
    return Rule(value, name, network, ports)


def _split(value: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The host and the ports."""
    scheme, is_uri, rest = value.partition("://")
    if is_uri:
        port = {"http": ":80", "https": ":443"}.get(scheme.lower(), ":PORT")
        raise _wrong(value, "a host is wanted, no URI", f"--allow {rest.partition('/')[0] + port}")
    if value.startswith("["):
        host, bracket, rest = value[1:].partition("]")
        if not bracket or ":" not in host or (rest and rest[0] != ":"):
            raise _wrong(value, "brackets are for an IPv6 address or network: [ADDRESS]:PORT")
        ports = rest[1:] if rest else None
    elif value.count(":") > 1:
        host, ports = value, None
    else:
        host, colon, text = value.partition(":")
        ports = text if colon else None
    return host, DEFAULT_PORTS if ports is None else _ports(ports, value)


def _ports(text: str, value: str) -> tuple[tuple[int, int], ...]:
    if text == "*":
        return ALL_PORTS
    low, dash, high = text.partition("-")
    first = parse_number(low, 65535)
    last = parse_number(high, 65535) if dash else first
    if not first or not last or first > last:
        raise _wrong(value, f"{text or 'nothing'} is no port: HOST:PORT, HOST:FIRST-LAST or HOST:*, from 1 to 65535")
    return ((first, last),)


def _network(host: str) -> Network | None:
    if "/" in host:
        network = parse_network(host)
        if network is None:
            raise BadHost("no network: ADDRESS/LENGTH")
        return network
    address = parse_address(host)
    if address is None and ":" in host:
        raise BadHost("no IPv6 address")
    return None if address is None else Network(address, address.bits)


def _name(host: str, value: str) -> str:
    if host == "*":
        return host
    star, host = ("*.", host[2:]) if host.startswith("*.") else ("", host)
    if "*" in host:
        raise BadHost("a star stands for whole labels, and first: *.example.org")
    if not host.isascii():
        if any(letter in host for letter in _NO_IDNA):
            raise _wrong(value, "it has letters that are written in two ways", "write the name as xn--…")
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            raise BadHost("no host name") from None
    return star + parse_name(host)


def _wrong(value: str, reason: str, hint: str = "") -> UsageError:
    return UsageError("read", f"--allow {value}", reason=reason, hint=hint)
