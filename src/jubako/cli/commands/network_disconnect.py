"""`jubako network disconnect`: take a container from a network."""

from __future__ import annotations

from jubako.cli.flags import SWITCH, Argument, Command, Flag, Values

COMMAND = Command(
    "network disconnect",
    "take a container from a bridge network",
    flags=(Flag(("-f", "--force"), "also if the network is no more", SWITCH),),
    arguments=(
        Argument("NETWORK", "network", completes="bridge-network"),
        Argument("CONTAINER", "container", completes="container"),
    ),
)


def run(values: Values) -> int:
    from jubako.engine.networks import disconnect_container
    from jubako.engine.reaping import reap
    from jubako.engine.store import find_container
    from jubako.paths import find_paths

    paths = find_paths()
    reap(paths)
    disconnect_container(paths, find_container(paths, values.container), values.network, force=values.force)
    return 0
