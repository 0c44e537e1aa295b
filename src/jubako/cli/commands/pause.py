"""`jubako pause`: stop every process of containers for a while."""

from __future__ import annotations

from jubako.cli.container_flags import ALL_FLAG, ANY_CONTAINERS, chosen, find
from jubako.cli.flags import Command, Values
from jubako.cli.output import do_each
from jubako.record import replace

COMMAND = Command(
    "pause",
    "stop every process of containers for a while",
    flags=(replace(ALL_FLAG, help="all containers that are running"),),
    arguments=(ANY_CONTAINERS,),
    description='The kernel freezes the control group of the container, so it takes one: see "jubako info".',
)


def run(values: Values) -> int:
    from jubako.engine.freezing import pause_container

    def pause(name: str) -> None:
        pause_container(find(name))
        print(name, flush=True)

    return do_each(chosen("pause", values, ("running",)), pause)
