"""`jubako inspect`: everything known of containers and images."""

from __future__ import annotations

from jubako.cli.flags import SOME, Argument, Command, Flag, Values
from jubako.cli.output import INSPECT_FORMAT_FLAG, print_details
from jubako.errors import NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMAND = Command(
    "inspect",
    "show everything known of containers and images",
    flags=(
        INSPECT_FORMAT_FLAG,
        Flag(("--type",), "look only among these", choices=("container", "image")),
    ),
    arguments=(Argument("NAME", "names", SOME, completes="container"),),
    description="A name of both a container and an image means the container.",
    examples=(
        ("The exit code.", "jubako inspect --format '{{.State.ExitCode}}' job"),
        ("Its first process, as the host counts it.", "jubako inspect -f '{{.State.Pid}}' web"),
    ),
)


def run(values: Values) -> int:
    from jubako.engine.inspecting import inspect_container
    from jubako.engine.reaping import reap
    from jubako.engine.store import find_container
    from jubako.paths import find_paths

    paths = find_paths()
    reap(paths)

    def look_up(name: str) -> dict[str, Any]:
        if values.type != "image":
            try:
                return inspect_container(paths, find_container(paths, name))
            except NotFoundError:
                if values.type == "container":
                    raise
        from jubako.image.manage import inspect_image

        try:
            return inspect_image(paths, name)
        except NotFoundError as error:
            if values.type == "image":
                raise
            raise NotFoundError("inspect", name, reason="no such container or image") from error

    return print_details(values, values.names, look_up)
