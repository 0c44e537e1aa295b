"""`jubako top`: the processes of a container, as the host sees them."""

from __future__ import annotations

from jubako.cli.container_flags import CONTAINER, find
from jubako.cli.flags import ANY, Argument, Command, Values
from jubako.cli.main import printable

COMMAND = Command(
    "top",
    "list the processes of a container as the host sees them",
    arguments=(CONTAINER, Argument("PS_OPTION", "options", ANY)),
    interspersed=False,
    description="Options are those of ps(1), of which the host's is used; its list must have the column PID.",
    examples=(("Memory and commands.", "jubako top web -eo pid,rss,args"),),
)


def run(values: Values) -> int:
    from jubako.engine.processes import process_table
    from jubako.paths import find_paths

    for line in process_table(find_paths(), find(values.container), values.options):
        print(printable(line))
    return 0
