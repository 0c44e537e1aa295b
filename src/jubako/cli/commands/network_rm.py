"""`jubako network rm`: remove networks."""

from __future__ import annotations

from jubako.cli.flags import SOME, SWITCH, Argument, Command, Flag, Values
from jubako.cli.output import do_each
from jubako.errors import NotFoundError

COMMAND = Command(
    "network rm",
    "remove bridge networks",
    flags=(
        Flag(
            ("-f", "--force"),
            "first remove the containers that are to be on it, and no error for networks that do not exist",
            SWITCH,
        ),
    ),
    arguments=(Argument("NETWORK", "networks", SOME, completes="bridge-network"),),
    description="A network that a container is to be on, whether it runs or not, is refused.",
)


def run(values: Values) -> int:
    from jubako.engine.networks import remove_network
    from jubako.engine.reaping import reap
    from jubako.paths import find_paths

    paths = find_paths()
    reap(paths)

    def remove(name: str) -> None:
        try:
            print(remove_network(paths, name, force=values.force), flush=True)
        except NotFoundError:
            if not values.force:
                raise

    return do_each(values.networks, remove)
