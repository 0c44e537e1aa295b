"""`--network VALUE` as podman-run(1) spells it, for the drivers that connect a namespace of one's own.

`container:NAME` and `ns:PATH` name a namespace that there is, and are read elsewhere. What is not known is refused,
with the value and the reason: an option left out silently would make a network other than the one asked for.
"""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.net import addresses, layout
from jubako.net.choose import DRIVERS
from jubako.net.link import NetworkOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_PORT_HANDLERS = {
    "rootlesskit": "builtin",
    "rootlessport": "builtin",
    "builtin": "builtin",
    "slirp4netns": "slirp4netns",
}
"""Podman's names of port drivers, and ours."""
_PASTA_HANDLERS = {"builtin": "builtin", "implicit": "implicit"}
_DEFAULTS = ("default", "private")
"""What docker and podman call the network that one gets without asking."""


def parse_network(value: str) -> NetworkOptions:
    """The options that `value` asks for. Raises `UsageError`; whether the host can do it is the driver's to say."""
    name, colon, text = value.partition(":")
    if name in _DEFAULTS and not colon:
        return NetworkOptions()
    if name not in DRIVERS:
        raise UsageError(
            "read --network",
            value,
            reason="there is no such network driver" if name else "no network driver is named",
            hint=f"one of {', '.join(DRIVERS)}, container:NAME or ns:PATH",
        )
    if colon and not text:
        raise _wrong(value, "nothing follows the colon", name)
    if name == "pasta" and text:
        from jubako.net.drivers import pasta_arguments

        words = text.split(",")
        handlers = [word for word in words if word.startswith("port_handler=")]  # ours, where pasta has only arguments
        arguments = tuple(word for word in words if word not in handlers)
        if len(handlers) > 1:
            raise _wrong(handlers[1], "it is given twice", name)
        ports = "" if not handlers else str(_choice("ports", _PASTA_HANDLERS)(handlers[0], handlers[0][13:])[1])
        asked = pasta_arguments.read(arguments)
        layout.check_mtu(asked.mtu, ipv6=asked.ipv6, operation="read --network pasta: --mtu")
        return NetworkOptions(driver=name, arguments=arguments, ports=ports)
    if name == "bridge":
        if text and ("=" in text or "," in text):
            raise _wrong(value, "a bridge network has a name and no options", name)
        return NetworkOptions(driver=name, bridge=text)
    readers = _READERS.get(name, {})
    if colon and not readers:
        raise _wrong(value, "it has no options", name)
    said: dict[str, object] = {}
    for word in text.split(",") if text else ():
        key, equals, argument = word.partition("=")
        if key not in readers:
            raise _wrong(word, f"{name} has no such option", name)
        if not equals or not argument:
            raise _wrong(word, "its value is missing", name)
        field, meaning = readers[key](word, argument)
        if field in ("arguments", "rules"):
            before = said.get(field, ())
            meaning = (*before, *meaning)  # type: ignore[misc]
        elif field in said:
            raise _wrong(word, "it is given twice", name)
        said[field] = meaning
    options = NetworkOptions(driver=name, **said)  # type: ignore[arg-type]
    layout.check_mtu(options.mtu, ipv6=options.ipv6, operation=f"read --network {name}: mtu")
    return options


def _mtu(word: str, value: str) -> tuple[str, object]:
    if not (value.isascii() and value.isdigit() and len(value) < 7):
        raise _wrong(word, "it is no number of bytes")
    return "mtu", int(value)


def _cidr(word: str, value: str) -> tuple[str, object]:
    try:
        return "cidr", str(addresses.read_cidr(value))
    except ValueError as reason:
        raise _wrong(word, str(reason)) from None


def _device(word: str, value: str) -> tuple[str, object]:
    if not layout.is_device_name(value):
        raise _wrong(word, "no network device can be called so")
    return "device", value


def _bridge(word: str, value: str) -> tuple[str, object]:
    return "bridge", _device(word, value)[1]


def _boolean(field: str) -> Callable[[str, str], tuple[str, object]]:
    def read(word: str, value: str) -> tuple[str, object]:
        if value not in _BOOLEANS:
            raise _wrong(word, "it is neither true nor false")
        return field, _BOOLEANS[value]

    return read


def _choice(field: str, choices: dict[str, str]) -> Callable[[str, str], tuple[str, object]]:
    def read(word: str, value: str) -> tuple[str, object]:
        if value not in choices:
            raise _wrong(word, f"it is none of {', '.join(choices)}")
        return field, choices[value]

    return read


def _outbound(flag: str, is_address: Callable[[str], bool]) -> Callable[[str, str], tuple[str, object]]:
    def read(word: str, value: str) -> tuple[str, object]:
        if not is_address(value) and not layout.is_device_name(value):
            raise _wrong(word, "it is neither a numeric address nor a device's name")
        return "arguments", (flag, value)

    return read


def _rule(word: str, value: str) -> tuple[str, object]:
    return "rules", (value,)


_AUTO = {"auto": "auto", "true": "true", "false": "false"}
_READERS: dict[str, dict[str, Callable[[str, str], tuple[str, object]]]] = {
    "slirp4netns": {
        "mtu": _mtu,
        "cidr": _cidr,
        "allow_host_loopback": _boolean("host_loopback"),
        "enable_ipv6": _boolean("ipv6"),
        "port_handler": _choice("ports", _PORT_HANDLERS),
        "outbound_addr": _outbound("--outbound-addr", addresses.is_address),
        "outbound_addr6": _outbound("--outbound-addr6", addresses.is_address6),
        "device": _device,
        "sandbox": _choice("sandbox", _AUTO),
        "seccomp": _choice("seccomp", _AUTO),
    },
    "vpnkit": {"mtu": _mtu, "allow_host_loopback": _boolean("host_loopback")},
    "lxc-user-nic": {"mtu": _mtu, "bridge": _bridge, "device": _device},
    "proxy": {"allow": _rule},
}


def _wrong(word: str, reason: str, driver: str = "") -> UsageError:
    known = ", ".join(f"{key}=…" for key in _READERS.get(driver, ()))
    hint = f"{driver} knows {known}" if known else "see jubako run --help"
    return UsageError("read --network", word, reason=reason, hint=hint)
