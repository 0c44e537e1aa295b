"""`jubako rmi`: take names of images away, and with its last name an image."""

from __future__ import annotations

from jubako.cli.flags import SOME, SWITCH, Argument, Command, Flag, Values
from jubako.cli.output import do_each

COMMAND = Command(
    "rmi",
    "remove images",
    flags=(
        Flag(
            ("-f", "--force"),
            "also an image with several names, given by its id, or one that a container uses",
            SWITCH,
        ),
    ),
    arguments=(Argument("IMAGE", "images", SOME, completes="image"),),
    description="An image goes with its last name. Layers that another image has stay.",
)


def run(values: Values) -> int:
    from jubako.image.manage import remove_image
    from jubako.image.reference import parse_reference
    from jubako.paths import find_paths

    def remove(name: str) -> None:
        removed = remove_image(find_paths(), name, force=values.force)
        for untagged in removed.untagged:
            print(f"Untagged: {parse_reference(untagged).short}")
        if removed.deleted:
            print(f"Deleted: {removed.id}")

    return do_each(values.images, remove)
