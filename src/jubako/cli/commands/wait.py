"""`jubako wait`: wait for containers and print their exit codes."""

from __future__ import annotations

from jubako.cli.container_flags import CONTAINERS, IGNORE_FLAG, chosen, find
from jubako.cli.flags import LIST, Command, Flag, Values
from jubako.cli.output import do_together

_CONDITIONS = {
    "stopped": ("exited",),
    "exited": ("exited",),
    "not-running": ("exited", "created"),
    "running": ("running",),
    "paused": ("paused",),
    "created": ("created",),
    "removed": ("removed",),
}

COMMAND = Command(
    "wait",
    "wait until containers have ended, and print their exit codes",
    flags=(
        Flag(
            ("--condition",),
            "wait for this instead of the end, or for the first of several",
            LIST,
            field="conditions",
            choices=tuple(_CONDITIONS),
        ),
        IGNORE_FLAG,
    ),
    arguments=(CONTAINERS,),
    examples=(("Until it runs.", "jubako wait --condition running web"),),
)


def run(values: Values) -> int:
    from jubako.engine.ending import wait_for_exit, wait_for_state
    from jubako.paths import find_paths

    wanted = tuple(state for condition in values.conditions for state in _CONDITIONS[condition])

    def wait(name: str) -> str:
        container = find(name)
        if wanted:
            return str(wait_for_state(find_paths(), container, wanted))
        return str(wait_for_exit(find_paths(), container))

    return do_together(chosen("wait", values), wait)
