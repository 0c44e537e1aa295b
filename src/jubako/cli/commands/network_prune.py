"""`jubako network prune`: remove the networks that no container is to be on."""

from __future__ import annotations

from jubako.cli.flags import LIST, SWITCH, Command, Flag, Values
from jubako.cli.output import confirm
from jubako.errors import UsageError

COMMAND = Command(
    "network prune",
    "remove all bridge networks that no container is to be on",
    flags=(
        Flag(("-f", "--force"), "do not ask", SWITCH),
        Flag(
            ("--filter",),
            "only those for which this holds: label=KEY[=VALUE]",
            LIST,
            metavar="KEY=VALUE",
            field="filters",
        ),
    ),
    description="The default network stays.",
)


def run(values: Values) -> int:
    from jubako.engine.networks import prune_networks
    from jubako.engine.reaping import reap
    from jubako.paths import find_paths

    labels = []
    for text in values.filters:
        key, equals, value = text.partition("=")
        if key != "label" or not equals:
            raise UsageError("network prune", f"--filter {text}", reason="unknown filter", hint="there is label")
        labels.append(value)
    confirm("This removes every network that no container is to be on.", values.force)
    paths = find_paths()
    reap(paths)
    for name in prune_networks(paths, tuple(labels)):
        print(name)
    return 0
