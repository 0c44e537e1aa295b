"""`jubako network reload`: connect containers that have lost their networks."""

from __future__ import annotations

from jubako.cli.container_flags import ANY_CONTAINERS
from jubako.cli.flags import SWITCH, Command, Flag, Values
from jubako.errors import UsageError

COMMAND = Command(
    "network reload",
    "connect running containers that have lost their bridge networks",
    flags=(Flag(("-a", "--all"), "all containers that run", SWITCH),),
    arguments=(ANY_CONTAINERS,),
    description="""
        One small group of processes connects all containers of a user. If it is killed, they are without a network;
        this command, or the next container that starts, makes it anew, with the addresses that everybody had.
    """,
)


def run(values: Values) -> int:
    from jubako.engine.networks import reload_networks, running_base
    from jubako.engine.reaping import reap
    from jubako.paths import find_paths

    if bool(values.containers) is values.all:
        raise UsageError("network reload", reason="name containers, or add --all, and not both")
    paths = find_paths()
    reap(paths)
    for identifier in reload_networks(paths, running_base(paths), tuple(values.containers)):
        print(identifier)
    return 0
