"""`--network NAME:ip=…,alias=…`, `--ip`, `--mac-address` and `--network-alias`: places on networks, as podman-run(1)
spells them. On the start path: nothing is looked up here."""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@record
class Asked:
    """A place that was asked for on the network of this name, which may be one that stands for the default."""

    network: str
    addresses: tuple[str, ...] = ()
    hardware: str = ""
    aliases: tuple[str, ...] = ()
    device: str = ""


def parse_places(
    values: tuple[str, ...], *, ip: str = "", ip6: str = "", hardware: str = "", aliases: tuple[str, ...] = ()
) -> tuple[Asked, ...]:
    """The places of `--network` (given more than once, or several names with commas) and the flags beside it. Raises
    `UsageError`."""
    asked: list[Asked] = []
    for value in values:
        name, colon, _ = value.partition(":")
        asked += [_parse(value)] if colon else [Asked(each) for each in name.split(",")]
    names = [place.network for place in asked]
    if "" in names:
        raise UsageError("read --network", repr(values[0]), reason="a network has a name")
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise UsageError("read --network", twice, reason="the network is given twice")
    if (ip or ip6 or hardware) and len(asked) != 1:
        raise UsageError(
            "read --ip, --ip6 and --mac-address",
            reason="with several networks it is not clear which is meant",
            hint="--network NAME:ip=ADDRESS,mac=ADDRESS",
        )
    if ip or ip6 or hardware:
        wanted = (*asked[0].addresses, *(_address(f"--ip {text}", text) for text in (ip, ip6) if text))
        asked[0] = replace(
            asked[0], addresses=_one_each(wanted), hardware=_hardware("--mac-address", hardware) or asked[0].hardware
        )
    for alias in aliases:
        _alias(f"--network-alias {alias}", alias)
    return tuple(replace(place, aliases=(*place.aliases, *aliases)) for place in asked)


def dump_places(asked: tuple[Asked, ...]) -> list[dict[str, Any]]:
    """For a container's document."""
    return [{name: list(v) if isinstance(v, tuple) else v for name, v in place.__dict__.items()} for place in asked]


def load_places(entries: list[dict[str, Any]]) -> tuple[Asked, ...]:
    """What `dump_places` made."""
    found = []
    for entry in entries:
        values: dict[str, Any] = {}
        for name, value in entry.items():
            values[name] = tuple(value) if isinstance(value, list) else value
        found.append(Asked(**values))
    return tuple(found)


def _parse(value: str) -> Asked:
    name, _, text = value.partition(":")
    said: dict[str, list[str]] = {}
    for word in text.split(","):
        key, equals, argument = word.partition("=")
        if key not in ("ip", "ip6", "mac", "alias", "interface_name"):
            raise UsageError(
                "read --network",
                value,
                reason=f"a place on a network has no option {key!r}",
                hint="there are ip, ip6, mac, alias and interface_name",
            )
        if not equals or not argument:
            raise UsageError("read --network", value, reason=f"the value of {key} is missing")
        said.setdefault(key, []).append(argument)
    for key, arguments in said.items():
        if len(arguments) > 1 and key in ("mac", "interface_name"):
            raise UsageError("read --network", value, reason=f"{key} is given twice")
    addresses = tuple(_address(value, each) for each in (*said.get("ip", ()), *said.get("ip6", ())))
    device = said.get("interface_name", [""])[0]
    if device:
        from jubako.net.layout import is_device_name

        if not is_device_name(device):
            raise UsageError("read --network", value, reason="no network device can be called so")
    return Asked(
        name,
        _one_each(addresses),
        _hardware(value, said.get("mac", [""])[0]),
        tuple(_alias(value, each) for each in said.get("alias", ())),
        device,
    )


def _address(subject: str, text: str) -> str:
    from jubako.net.addresses import is_address, is_address6

    if not is_address(text) and not is_address6(text):
        raise UsageError("read the address", subject, reason=f"{text!r} is no numeric address")
    return text


def _one_each(addresses: tuple[str, ...]) -> tuple[str, ...]:
    for family in (True, False):
        if sum((":" in address) is family for address in addresses) > 1:
            raise UsageError("read the address", addresses[-1], reason="one of this kind is given already")
    return addresses


def _hardware(subject: str, text: str) -> str:
    if text:
        from jubako.linux.rtlinks import parse_hardware

        try:
            parse_hardware(text)
        except ValueError as failure:
            raise UsageError("read the hardware address", subject, reason=str(failure)) from failure
    return text


def _alias(subject: str, text: str) -> str:
    """An alias that a name server can answer."""
    labels = text.replace("_", "-").split(".")
    if len(text) > 253 or not all(
        0 < len(label) <= 63 and label.isascii() and label.replace("-", "a").isalnum() for label in labels
    ):
        raise UsageError("read the alias", subject, reason=f"{text!r} can be no name of a host")
    return text
