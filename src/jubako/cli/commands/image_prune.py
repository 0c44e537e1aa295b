"""`jubako image prune`: remove the images that nothing needs."""

from __future__ import annotations

from jubako.cli.flags import SWITCH, Command, Flag, Values
from jubako.cli.output import confirm, size_text

COMMAND = Command(
    "image prune",
    "remove images without a name, and layers that nothing needs",
    flags=(
        Flag(("-a", "--all"), "remove every image that no container uses", SWITCH),
        Flag(("-f", "--force"), "do not ask", SWITCH),
    ),
)


def run(values: Values) -> int:
    from jubako.image.manage import prune_images
    from jubako.paths import find_paths

    doomed = "every image that no container uses" if values.all else "every image without a name"
    confirm(f"This removes {doomed}.", values.force)
    freed = 0
    for image in prune_images(find_paths(), every=values.all):
        print(f"Deleted: {image.id}")
        freed += image.freed
    print(f"Freed: {size_text(freed)}")
    return 0
