"""`jubako network connect`: put a container on one more network."""

from __future__ import annotations

from jubako.cli.flags import LIST, Argument, Command, Flag, Values

COMMAND = Command(
    "network connect",
    "put a container on one more bridge network",
    flags=(
        Flag(("--alias",), "another name that the container has there", LIST, metavar="NAME", field="aliases"),
        Flag(("--ip",), "its IPv4 address there", metavar="ADDRESS"),
        Flag(("--ip6",), "its IPv6 address there", metavar="ADDRESS"),
        Flag(("--mac-address",), "the hardware address of its device there", metavar="ADDRESS"),
    ),
    arguments=(
        Argument("NETWORK", "network", completes="bridge-network"),
        Argument("CONTAINER", "container", completes="container"),
    ),
    description="At once if the container runs, and whenever it starts. It must have been made with a bridge network.",
)


def run(values: Values) -> int:
    from jubako.engine.networks import connect_container
    from jubako.engine.reaping import reap
    from jubako.engine.store import find_container
    from jubako.net.bridge.asked import parse_places
    from jubako.paths import find_paths

    paths = find_paths()
    reap(paths)
    (asked,) = parse_places(
        (values.network,),
        ip=values.ip,
        ip6=values.ip6,
        hardware=values.mac_address,
        aliases=tuple(values.aliases),
    )
    connect_container(paths, find_container(paths, values.container), asked)
    return 0
