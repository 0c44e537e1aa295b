"""`jubako system shutdown`: end the process that keeps this user's base user namespace."""

from __future__ import annotations

from jubako.cli.flags import SWITCH, Command, Flag, Values
from jubako.errors import JubakoError

COMMAND = Command(
    "system shutdown",
    "end the process that keeps this user's base user namespace",
    flags=(Flag(("-f", "--force"), "also while containers run, which go on without it", SWITCH),),
    description="""
        The first container of a user starts one small process that keeps the user namespace in which all containers of
        the user are nested. It does nothing and may stay. The next container makes it anew.
    """,
)


def run(values: Values) -> int:
    from jubako.engine.store import list_containers
    from jubako.paths import find_paths
    from jubako.runtime.base import end_base

    paths = find_paths()
    running = [container.name for container in list_containers(paths) if container.running]
    if running and not values.force:
        raise JubakoError(
            "system shutdown",
            reason=f"containers are running: {', '.join(running[:5])}",
            hint="stop them first (jubako stop --all), or add --force",
        )
    end_base(paths)
    return 0
