"""`jubako network ls`: the bridge networks that are here."""

from __future__ import annotations

from jubako.cli.flags import LIST, Command, Flag, Values
from jubako.cli.output import LIST_FLAGS, Column, print_rows, short_id, warn
from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.net.bridge.network import Network

COMMAND = Command(
    "network ls",
    "list bridge networks",
    flags=(
        Flag(
            ("-f", "--filter"),
            "only networks for which this holds: name=, id=, driver=, label=KEY[=VALUE]",
            LIST,
            metavar="KEY=VALUE",
            field="filters",
        ),
        *LIST_FLAGS,
    ),
    description="The default network, jubako, is listed once it has been used.",
    examples=(("Their subnets.", "jubako network ls --format '{{.Name}} {{.Subnets}}'"),),
)

_COLUMNS = (
    Column("NETWORK ID", "ID", show=short_id),
    Column("NAME", "Name", shrinks=True),
    Column("DRIVER", "Driver"),
    Column("SUBNETS", "Subnets"),
)


def run(values: Values) -> int:
    from jubako.engine.networks import damaged_networks, list_networks
    from jubako.paths import find_paths

    paths = find_paths()
    filters = [_filter(text) for text in values.filters]
    rows = [_row(network) for network in list_networks(paths) if all(holds(network) for holds in filters)]
    print_rows(values, rows, _COLUMNS, quiet=_COLUMNS[1])
    for name in damaged_networks(paths):
        warn(f"the file of network {name} is damaged: jubako network rm {name} removes it")
    return 0


def _row(network: Network) -> dict[str, Any]:
    return {
        "ID": network.id,
        "Name": network.name,
        "Driver": "bridge",
        "Subnets": " ".join(subnet.cidr for subnet in network.subnets),
        "Internal": network.internal,
        "IPv6Enabled": network.ipv6,
        "DNSEnabled": network.dns,
        "Labels": dict(network.labels),
        "Options": dict(network.options),
        "Created": network.created,
    }


def _filter(text: str) -> Any:
    key, equals, value = text.partition("=")
    if key == "name" and equals:
        return lambda network: value in network.name
    if key == "id" and equals:
        return lambda network: network.id.startswith(value)
    if key == "driver" and equals:
        return lambda network: value == "bridge"
    if key == "label" and equals:
        name, wants_value, wanted = value.partition("=")
        return lambda network: any(k == name and (not wants_value or v == wanted) for k, v in network.labels)
    raise UsageError(
        "network ls", f"--filter {text}", reason="unknown filter", hint="there are name, id, driver and label"
    )
