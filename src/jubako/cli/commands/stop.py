"""`jubako stop`: ask programs to end, and end those that do not."""

from __future__ import annotations

from jubako.cli.container_flags import (
    ALL_FLAG,
    ANY_CONTAINERS,
    IGNORE_FLAG,
    SIGNAL_FLAG,
    TIME_FLAG,
    chosen,
    find,
)
from jubako.cli.flags import Command, Values
from jubako.cli.output import do_together
from jubako.record import replace

COMMAND = Command(
    "stop",
    "ask programs to end, and end those that do not",
    flags=(
        replace(TIME_FLAG, help="wait so long before SIGKILL (the container's --stop-timeout, or 10); -1 for ever"),
        replace(SIGNAL_FLAG, help="send this signal instead of the container's --stop-signal, or SIGTERM"),
        replace(ALL_FLAG, help="all containers that run"),
        IGNORE_FLAG,
    ),
    arguments=(ANY_CONTAINERS,),
    description="""
        Sends the stop signal to the first process of each container and waits for its end. A first process that has no
        handler for the signal does not notice it (pid_namespaces(7)): give it one, or run it with --init.
    """,
    examples=(("At once.", "jubako stop -t 0 web"),),
)


def run(values: Values) -> int:
    from jubako.engine.ending import stop_container
    from jubako.paths import find_paths
    from jubako.runtime.signals import parse_signal

    signal = parse_signal(values.signal) if values.signal else 0

    def stop(name: str) -> str:
        stop_container(find_paths(), find(name), values.time, signal)
        return name

    return do_together(chosen("stop", values, ("running", "paused")), stop)
