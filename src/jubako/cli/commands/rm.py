"""`jubako rm`: remove containers."""

from __future__ import annotations

from jubako.cli.container_flags import ALL_FLAG, ANY_CONTAINERS, IGNORE_FLAG, TIME_FLAG, chosen, find
from jubako.cli.flags import SWITCH, Command, Flag, Values
from jubako.cli.output import do_together
from jubako.errors import NotFoundError
from jubako.record import replace

COMMAND = Command(
    "rm",
    "remove containers",
    flags=(
        Flag(
            ("-f", "--force"), "also those that run, which are killed, and no error for those that do not exist", SWITCH
        ),
        replace(ALL_FLAG, help="all containers that do not run, with --force all"),
        replace(TIME_FLAG, help="with --force, send the stop signal and wait so long before SIGKILL"),
        IGNORE_FLAG,
        Flag(
            ("-v", "--volumes"), "accepted for docker's sake: there are no anonymous volumes yet", SWITCH, hidden=True
        ),
    ),
    arguments=(ANY_CONTAINERS,),
    description="With a container go its log, and the files that it made in its own layer.",
    examples=(("Everything that has ended.", "jubako rm -a"),),
)


def run(values: Values) -> int:
    from jubako.engine.deleting import remove_container
    from jubako.engine.reaping import reap
    from jubako.paths import find_paths

    paths = find_paths()
    reap(paths)
    names = chosen("rm", values, () if values.force else ("created", "exited"))

    def remove(name: str) -> str:
        try:
            remove_container(paths, find(name), force=values.force, seconds=values.time)
        except NotFoundError:
            if values.force or values.ignore or values.all:
                return ""
            raise
        return name

    return do_together(names, remove)
