"""`jubako restart`: stop containers and start them again."""

from __future__ import annotations

from jubako.cli.container_flags import ALL_FLAG, ANY_CONTAINERS, TIME_FLAG, chosen, find
from jubako.cli.flags import Command, Values
from jubako.cli.output import do_each
from jubako.record import replace

COMMAND = Command(
    "restart",
    "stop containers and start them again",
    flags=(TIME_FLAG, replace(ALL_FLAG, help="all containers that run")),
    arguments=(ANY_CONTAINERS,),
    description="A container that does not run is started. Files stay, processes do not.",
)


def run(values: Values) -> int:
    from jubako.engine.starting import restart_container
    from jubako.paths import find_paths

    def restart(name: str) -> None:
        restart_container(find_paths(), find(name), values.time)
        print(name, flush=True)

    return do_each(chosen("restart", values, ("running", "paused")), restart)
