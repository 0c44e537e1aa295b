"""`jubako network reload`: connect containers anew whose network lost a helper."""

from __future__ import annotations

from jubako.cli.container_flags import ALL_FLAG, ANY_CONTAINERS, chosen, find
from jubako.cli.flags import Command, Values
from jubako.cli.output import do_each
from jubako.record import replace

COMMAND = Command(
    "network reload",
    "connect running containers to their network again",
    flags=(replace(ALL_FLAG, help="all containers that are running"),),
    arguments=(ANY_CONTAINERS,),
    description="""
        A helper program that carries a container's packets may crash or be killed; the container goes on without. This
        ends what is left of the helpers and starts them anew, with the same published ports. Containers on bridge
        networks are connected by one small group of processes for all; if that is killed, this makes it anew, with the
        addresses that everybody had.
    """,
    examples=(("After pasta was killed.", "jubako network reload web"),),
)


def run(values: Values) -> int:
    from jubako.engine.networks import asked_of, reload_networks, running_base
    from jubako.engine.ports import reload_network
    from jubako.engine.reaping import reap
    from jubako.paths import find_paths

    paths = find_paths()
    reap(paths)

    def reload(name: str) -> None:
        container = find(name)
        if asked_of(container):
            reload_networks(paths, running_base(paths), (name,))
        reload_network(paths, container)
        print(name, flush=True)

    return do_each(chosen("network reload", values, ("running",)), reload)
