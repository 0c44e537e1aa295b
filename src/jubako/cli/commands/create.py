"""`jubako create`: make a container and leave it for `jubako start`."""

from __future__ import annotations

from jubako.cli.commands.run import COMMAND as RUN
from jubako.cli.flags import Command, Values
from jubako.cli.run_flags import CONTAINER_FLAGS, run_options

COMMAND = Command(
    "create",
    "make a container without starting it",
    CONTAINER_FLAGS,
    RUN.arguments,
    description="Makes a container as 'jubako run' would, prints its id and ends. 'jubako start' starts it.",
    examples=(("Made now, run later.", "jubako create --name job busybox echo hello\njubako start -a job"),),
    interspersed=False,
    usage=RUN.usage,
)


def run(values: Values) -> int:
    from jubako.engine.run import create_container

    print(create_container(run_options(values, "create")))
    return 0
