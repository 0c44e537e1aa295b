"""`jubako network create`: make a bridge network."""

from __future__ import annotations

from jubako.cli.flags import LIST, OPTIONAL, SWITCH, Argument, Command, Flag, Values
from jubako.errors import UsageError

COMMAND = Command(
    "network create",
    "make a bridge network, on which containers see each other by name",
    flags=(
        Flag(
            ("--subnet",), "its addresses, an IPv4 and an IPv6 subnet at most", LIST, metavar="CIDR", field="subnets"
        ),
        Flag(
            ("--gateway",), "the bridge's own address in a subnet; the first one otherwise", LIST, metavar="ADDRESS",
            field="gateways",
        ),
        Flag(
            ("--ip-range",), "give containers addresses of this part of a subnet only", LIST, metavar="CIDR",
            field="ranges",
        ),
        Flag(("--ipv6",), "have a subnet of IPv6, too: a unique local one if none is given", SWITCH),
        Flag(("--internal",), "have no way out: containers reach each other only", SWITCH),
        Flag(("--disable-dns",), "have no name server: containers do not know each other by name", SWITCH),
        Flag(
            ("--dns",), "ask this name server, and not the host's, for names that are not containers'", LIST,
            metavar="ADDRESS", field="servers",
        ),
        Flag(("--label",), "give it a label", LIST, metavar="KEY=VALUE", field="labels"),
        Flag(
            ("-o", "--opt"), "mtu=BYTES: the longest packet; isolate=true: as every network is", LIST,
            metavar="KEY=VALUE", field="options",
        ),
        Flag(("-d", "--driver"), "the kind of network: there is no other", choices=("bridge",), default="bridge"),
        Flag(("--ignore",), "no error if there is one of this name", SWITCH),
    ),
    arguments=(Argument("NAME", "name", OPTIONAL, help="jubakoN if none is given"),),
    description="""
        Prints the network's name. Its IPv4 subnet is the first of 10.89.0.0/24, 10.89.1.0/24 … that overlaps no other
        network and nothing that the host has a route to. Networks are kept apart: no container reaches another one's.
    """,
    examples=(
        ("Two containers that know each other.", "jubako network create back"),
        ("Without a way out, with IPv6.", "jubako network create --internal --ipv6 closed"),
    ),
)  # fmt: skip


def run(values: Values) -> int:
    from jubako.engine.networks import create_network
    from jubako.engine.parse.env import parse_labels
    from jubako.paths import find_paths

    network = create_network(
        find_paths(),
        values.name,
        ignore=values.ignore,
        subnets=tuple(values.subnets),
        gateways=tuple(values.gateways),
        ranges=tuple(values.ranges),
        ipv6=values.ipv6,
        internal=values.internal,
        dns=not values.disable_dns,
        servers=tuple(values.servers),
        labels=tuple(parse_labels(values.labels).items()),
        options=tuple(_option(text) for text in values.options),
    )
    print(network.name)
    return 0


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError("make the network", f"--opt {text}", reason="it is not KEY=VALUE")
    return name, value
