"""`jubako oci kill`: send a signal to a container."""

from __future__ import annotations

from jubako.cli import oci
from jubako.cli.flags import OPTIONAL, SWITCH, Argument, Command, Flag, Values
from jubako.cli.oci_flags import find

COMMAND = Command(
    "oci kill",
    "send a signal to a container",
    (
        Flag(("-a", "--all"), "to all processes of its control group", SWITCH),
        Flag(("-r", "--regex"), "to every container whose id matches the regular expression ID", SWITCH),
    ),
    (
        Argument("ID", "id", help="the container's id"),
        Argument("SIGNAL", "signal", OPTIONAL, help="by name or number (TERM)"),
    ),
    examples=(("Ask it to end.", "jubako oci kill c1"), ("End it.", "jubako oci kill c1 KILL")),
)


def run(values: Values) -> int:
    from jubako.oci.ending import kill
    from jubako.runtime.signals import parse_signal

    number = parse_signal(values.signal or "TERM")
    if not values.regex:
        kill(find(values.id), number, everything=values.all)
        return 0
    from jubako.oci.regex import matching
    from jubako.oci.state import STOPPED, list_containers

    for container in matching(list_containers(oci.settings.container_root()), values.id):
        if container.status(container.read()) != STOPPED:
            kill(container, number, everything=values.all)
    return 0
