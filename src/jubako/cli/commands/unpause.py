"""`jubako unpause`: let paused containers go on."""

from __future__ import annotations

from jubako.cli.container_flags import ALL_FLAG, ANY_CONTAINERS, chosen, find
from jubako.cli.flags import Command, Values
from jubako.cli.output import do_each
from jubako.record import replace

COMMAND = Command(
    "unpause",
    "let paused containers go on",
    flags=(replace(ALL_FLAG, help="all containers that are paused"),),
    arguments=(ANY_CONTAINERS,),
)


def run(values: Values) -> int:
    from jubako.engine.freezing import unpause_container

    def unpause(name: str) -> None:
        unpause_container(find(name))
        print(name, flush=True)

    return do_each(chosen("unpause", values, ("paused",)), unpause)
