"""`jubako rename`: give a container another name."""

from __future__ import annotations

from jubako.cli.container_flags import CONTAINER, find
from jubako.cli.flags import Argument, Command, Values

COMMAND = Command(
    "rename",
    "give a container another name",
    arguments=(CONTAINER, Argument("NAME", "name")),
)


def run(values: Values) -> int:
    from jubako.engine.store import rename_container
    from jubako.paths import find_paths

    rename_container(find_paths(), find(values.container), values.name)
    return 0
