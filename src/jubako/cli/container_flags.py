"""Flags and arguments that several container commands share."""

from __future__ import annotations

from jubako.cli.flags import ANY, NUMBER, SOME, SWITCH, Argument, Flag, Values
from jubako.errors import NotFoundError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.engine.store import Container

CONTAINER = Argument("CONTAINER", "container", completes="container")
CONTAINERS = Argument("CONTAINER", "containers", SOME, completes="container")
ANY_CONTAINERS = Argument("CONTAINER", "containers", ANY, completes="container")

SIGNAL_FLAG = Flag(("-s", "--signal"), "send this signal, by name or number", metavar="SIGNAL", completes="signal")
TIME_FLAG = Flag(
    ("-t", "--time", "--timeout"),
    "wait so long for the program to end before killing it",
    NUMBER,
    metavar="SECONDS",
    field="time",
)
ALL_FLAG = Flag(("-a", "--all"), "all containers that are in a state for it", SWITCH)
IGNORE_FLAG = Flag(("-i", "--ignore"), "no error for a container that does not exist", SWITCH)


def chosen(command: str, values: Values, statuses: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The containers that the words name, or with `--all` those in one of `statuses` (every one if there are none).

    With `--ignore`, names that no container has are left out.
    """
    from jubako.engine.store import find_container, list_containers
    from jubako.paths import find_paths

    names: tuple[str, ...] = values.containers
    if getattr(values, "all", False):
        if names:
            raise UsageError(command, names[0], reason="with --all no container is named")
        every = list_containers(find_paths())
        return tuple(one.id[:12] for one in every if not statuses or one.state.status in statuses)
    if not names:
        raise UsageError(command, reason="CONTAINER is missing", hint=f"'jubako {command} --help' explains")
    if not getattr(values, "ignore", False):
        return names
    there = []
    for name in names:
        try:
            find_container(find_paths(), name)
        except NotFoundError:
            continue
        there.append(name)
    return tuple(there)


def find(name: str) -> Container:
    """The container `name` of this user."""
    from jubako.engine.store import find_container
    from jubako.paths import find_paths

    return find_container(find_paths(), name)
