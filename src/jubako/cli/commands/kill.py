"""`jubako kill`: send a signal to containers."""

from __future__ import annotations

from jubako.cli.container_flags import ALL_FLAG, ANY_CONTAINERS, SIGNAL_FLAG, chosen, find
from jubako.cli.flags import Command, Values
from jubako.cli.output import do_together
from jubako.record import replace

COMMAND = Command(
    "kill",
    "send a signal to the first process of containers",
    flags=(
        replace(SIGNAL_FLAG, help="which signal, by name or number (KILL)"),
        replace(ALL_FLAG, help="all containers that run"),
    ),
    arguments=(ANY_CONTAINERS,),
    examples=(("Have a server read its configuration again.", "jubako kill -s HUP web"),),
)


def run(values: Values) -> int:
    from jubako.engine.ending import signal_container
    from jubako.paths import find_paths
    from jubako.runtime.signals import parse_signal

    number = parse_signal(values.signal or "KILL")

    def kill(name: str) -> str:
        signal_container(find_paths(), find(name), number)
        return name

    return do_together(chosen("kill", values, ("running", "paused")), kill)
