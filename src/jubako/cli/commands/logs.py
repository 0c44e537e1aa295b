"""`jubako logs`: what a container has written."""

from __future__ import annotations

from jubako.cli.container_flags import CONTAINER, find
from jubako.cli.flags import SWITCH, Command, Flag, Values, whole_number


def _count(text: str) -> int:
    if text == "all":
        return -1
    return max(whole_number(text), -1)


COMMAND = Command(
    "logs",
    "show what a container has written",
    flags=(
        Flag(("-f", "--follow"), "go on until the container ends", SWITCH),
        Flag(("-n", "--tail"), "only the last N lines (all)", metavar="N|all", parse=_count, default=-1),
        Flag(
            ("--since",),
            "only what was written after TIME: 2026-01-02T03:04:05, or 10m for ten minutes ago",
            metavar="TIME",
        ),
        Flag(("--until",), "only what was written before TIME", metavar="TIME"),
        Flag(("-t", "--timestamps"), "begin each line with its time", SWITCH),
    ),
    arguments=(CONTAINER,),
    description="""
        What the program wrote to its standard output goes to standard output, its errors to standard error. A container
        that was run in the foreground with --rm has no log.
    """,
    examples=(("The last lines, and what comes.", "jubako logs -f -n 20 web"),),
)


def run(values: Values) -> int:
    from jubako.engine.logs import LogOptions, parse_moment, show_log

    options = LogOptions(
        follow=values.follow,
        tail=values.tail,
        since=parse_moment(values.since) if values.since else 0,
        until=parse_moment(values.until) if values.until else 0,
        timestamps=values.timestamps,
    )
    show_log(find(values.container), options)
    return 0
