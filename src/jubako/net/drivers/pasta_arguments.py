"""Arguments for pasta(1) from `--network pasta:…`, separated by commas, with the meaning that podman-run(1) gives them.

Those that say what is configured inside are understood, since resolv.conf and hosts follow from them; those of pure
behaviour go to the program as they are; those that are jubako's own business, and all that it has never heard of, are
refused, because a mistake here would open the host silently.
"""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.net import addresses
from jubako.record import record

_LONG = {
    "-a": "--address", "-n": "--netmask", "-g": "--gateway", "-m": "--mtu", "-I": "--ns-ifname", "-i": "--interface",
    "-t": "--tcp-ports", "-u": "--udp-ports", "-T": "--tcp-ns", "-U": "--udp-ns", "-4": "--ipv4-only",
    "-6": "--ipv6-only", "-M": "--mac-addr", "-o": "--outbound", "-D": "--dns", "-S": "--search", "-H": "--hostname",
    "-d": "--debug", "-q": "--quiet", "-p": "--pcap", "-P": "--pid", "-f": "--foreground", "-e": "--stderr",
    "-l": "--log-file", "-F": "--fd", "-h": "--help", "-s": "--socket", "-1": "--one-off",
}  # fmt: skip
_FORWARDS = {"--tcp-ports": "-t", "--udp-ports": "-u", "--tcp-ns": "-T", "--udp-ns": "-U"}
_WITH_VALUE = {
    "--mac-addr", "--ns-mac-addr", "--outbound", "--outbound-if4", "--outbound-if6", "--dns", "--search", "--hostname",
    "--fqdn", "--dns-host", "--map-guest-addr", "--interface", "--pcap",
}  # fmt: skip
"""Passed on with their value."""
_PLAIN = {
    "--debug", "--trace", "--dhcp-dns", "--dhcp-search", "--no-dhcp-dns", "--no-dhcp-search", "--no-tcp", "--no-udp",
    "--no-icmp", "--no-dhcp", "--no-ndp", "--no-dhcpv6", "--no-ra", "--freebind", "--no-splice",
    "--no-copy-routes", "--no-copy-addrs",
}  # fmt: skip
"""Passed on as they are."""
_ANYWAY = {"--config-net", "--quiet", "--foreground", "--stderr", "--no-netns-quit", "--no-map-gw"}
"""What is done without being asked."""
_REFUSED = {
    "--netns": "the namespace is jubako's to name",
    "--userns": "the namespace is jubako's to name",
    "--netns-only": "the namespace is jubako's to name",
    "--runas": "as whom it runs is jubako's to choose",
    "--pid": "jubako waits for that file itself",
    "--fd": "jubako hands over no descriptor",
    "--log-file": "what it says goes to jubako's own log",
    "--log-size": "what it says goes to jubako's own log",
    "--socket": "it serves a namespace here, not a virtual machine",
    "--one-off": "it serves a namespace here, not a virtual machine",
    "--help": "it prints and ends",
    "--version": "it prints and ends",
    "--host-lo-to-ns-lo": "a published port leads to the address inside",
}


@record
class Asked:
    """What the arguments say; empty or 0 where they do not."""

    address: str = ""
    address6: str = ""
    prefix: int = 0
    gateway: str = ""
    gateway6: str = ""
    dns_forward: tuple[str, ...] = ()
    device: str = ""
    mtu: int = 0
    only: str = ""
    """4 or 6."""
    ipv6: bool = False
    maps_gateway: bool = False
    host_loopback: str = ""
    """The address that stands for the host's loopback."""
    template: bool = False
    """Whether a device of the host is named as the pattern."""
    forwards: tuple[str, ...] = ()
    """Which of -t, -u, -T and -U are given."""
    others: tuple[str, ...] = ()


def read(arguments: tuple[str, ...]) -> Asked:
    """What `arguments` ask for. Raises `UsageError` naming the one that cannot be."""
    said: dict[str, object] = {}
    resolvers: list[str] = []
    forwards: list[str] = []
    others: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, inline, value = word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
        name = _LONG.get(name, name)
        if name in _REFUSED:
            raise _wrong(word, _REFUSED[name])
        if name in _ANYWAY or name in _PLAIN or name in _FLAGS:
            if inline:
                raise _wrong(word, "it takes no value")
            if name in _PLAIN:
                others.append(name)
            elif name in _FLAGS:
                field, meaning = _FLAGS[name]
                if said.get(field, meaning) != meaning:
                    raise _wrong(word, "it contradicts another argument")
                said[field] = meaning
            continue
        if name not in _FORWARDS and name not in _WITH_VALUE and name not in _READERS and name != "--dns-forward":
            raise _wrong(word, "jubako knows no such argument of pasta" if word.startswith("-") else "it is no option")
        if not inline:
            if not rest:
                raise _wrong(word, "its value is missing")
            value = rest.pop(0)
        if not value and name not in ("--dns", "--search"):
            raise _wrong(word, "its value is empty")
        if name in _FORWARDS:
            forwards.append(_FORWARDS[name])
            others += [_FORWARDS[name], value]
        elif name == "--dns-forward":
            resolvers.append(_address(name, value))
        elif name in _WITH_VALUE:
            if name == "--interface":
                said["template"] = True
            others += [name, value]
        else:
            read_field, answer = _READERS[name](name, value)
            if read_field in said:
                raise _wrong(name, "it is given twice")
            said[read_field] = answer
    if "address6" in said or "gateway6" in said or said.get("only") == "6":
        if said.get("only") == "4":
            raise _wrong("--ipv4-only", "an IPv6 address is given as well")
        said["ipv6"] = True
    return Asked(
        **said,  # type: ignore[arg-type]
        dns_forward=tuple(resolvers),
        forwards=tuple(dict.fromkeys(forwards)),
        others=tuple(others),
    )


def _read_address(name: str, value: str) -> tuple[str, str]:
    field = {"--address": "address", "--gateway": "gateway"}[name]
    return field + ("6" if ":" in _address(name, value) else ""), value


def _read_netmask(name: str, value: str) -> tuple[str, int]:
    if value.isascii() and value.isdigit() and len(value) < 3:
        length = int(value)
    elif addresses.is_address(value):
        bits = "".join(f"{int(part):08b}" for part in value.split("."))
        length = len(bits.rstrip("0")) if "01" not in bits else 0
    else:
        length = 0
    if not 1 <= length <= 31:
        raise _wrong(f"{name} {value}", "it is no netmask")
    return "prefix", length


def _read_mtu(name: str, value: str) -> tuple[str, int]:
    if not (value.isascii() and value.isdigit() and len(value) < 7):
        raise _wrong(f"{name} {value}", "it is no number of bytes")
    return "mtu", int(value)


def _read_device(name: str, value: str) -> tuple[str, str]:
    return "device", value


def _read_host_loopback(name: str, value: str) -> tuple[str, str]:
    return "host_loopback", _address(name, value)


_READERS = {
    "--address": _read_address,
    "--gateway": _read_address,
    "--netmask": _read_netmask,
    "--mtu": _read_mtu,
    "--ns-ifname": _read_device,
    "--map-host-loopback": _read_host_loopback,
}
_FLAGS: dict[str, tuple[str, str | bool]] = {
    "--ipv4-only": ("only", "4"),
    "--ipv6-only": ("only", "6"),
    "--map-gw": ("maps_gateway", True),
    "--ipv6": ("ipv6", True),
}
"""Podman's `--map-gw` and jubako's `--ipv6` are no arguments of the program."""


def _address(name: str, value: str) -> str:
    if not addresses.is_address(value) and not addresses.is_address6(value):
        raise _wrong(f"{name} {value}", "it is no numeric address")
    return value


def _wrong(word: str, reason: str) -> UsageError:
    return UsageError(
        "read --network pasta:", word, reason=reason, hint="arguments of pasta(1), separated by commas: pasta:-T,8080"
    )
