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
        ends what is left of the helpers and starts them anew, with the same published ports.
    """,
    examples=(("After pasta was killed.", "jubako network reload web"),),
)


def run(values: Values) -> int:
    from jubako.engine.ports import reload_network
    from jubako.paths import find_paths

    def reload(name: str) -> None:
        reload_network(find_paths(), find(name))
        print(name, flush=True)

    return do_each(chosen("network reload", values, ("running",)), reload)
