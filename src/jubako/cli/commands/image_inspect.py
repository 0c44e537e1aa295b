"""`jubako image inspect`: everything known of images."""

from __future__ import annotations

from jubako.cli.flags import SOME, Argument, Command, Values
from jubako.cli.output import INSPECT_FORMAT_FLAG, print_details

COMMAND = Command(
    "image inspect",
    "show everything known of images",
    flags=(INSPECT_FORMAT_FLAG,),
    arguments=(Argument("IMAGE", "images", SOME, completes="image"),),
    examples=(("The command that runs by default.", "jubako image inspect --format '{{json .Config.Cmd}}' busybox"),),
)


def run(values: Values) -> int:
    from jubako.image.manage import inspect_image
    from jubako.paths import find_paths

    return print_details(values, values.images, lambda name: inspect_image(find_paths(), name))
