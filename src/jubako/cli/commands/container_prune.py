"""`jubako container prune`: remove the containers that do not run."""

from __future__ import annotations

from jubako.cli.flags import LIST, SWITCH, Command, Flag, Values
from jubako.cli.output import confirm
from jubako.errors import UsageError

COMMAND = Command(
    "container prune",
    "remove all containers that do not run",
    flags=(
        Flag(("-f", "--force"), "do not ask", SWITCH),
        Flag(
            ("--filter",),
            "only those for which this holds: label=KEY[=VALUE], until=TIME (made before it)",
            LIST,
            metavar="KEY=VALUE",
            field="filters",
        ),
    ),
)


def run(values: Values) -> int:
    from jubako.engine.deleting import prune_containers
    from jubako.engine.logs import parse_moment
    from jubako.engine.reaping import reap
    from jubako.paths import find_paths

    labels, until = [], 0
    for text in values.filters:
        key, equals, value = text.partition("=")
        if key == "label" and equals:
            labels.append(value)
        elif key == "until" and equals:
            until = parse_moment(value)
        else:
            hint = "there are label and until"
            raise UsageError("container prune", f"--filter {text}", reason="unknown filter", hint=hint)
    confirm("This removes every container that does not run.", values.force)
    reap(find_paths())
    for identifier in prune_containers(find_paths(), tuple(labels), until):
        print(identifier)
    return 0
