"""`jubako tag`: give an image more names."""

from __future__ import annotations

from jubako.cli.flags import SOME, Argument, Command, Values

COMMAND = Command(
    "tag",
    "give an image another name",
    arguments=(
        Argument("IMAGE", "image", completes="image"),
        Argument("NAME", "names", SOME, help="the new names; one that another image has moves over"),
    ),
    examples=(("A version.", "jubako tag mine mine:1.2"),),
)


def run(values: Values) -> int:
    from jubako.image.manage import tag_image
    from jubako.paths import find_paths

    for name in values.names:
        tag_image(find_paths(), values.image, name)
    return 0
