"""`jubako save`: write images as an archive that docker, podman and skopeo read."""

from __future__ import annotations

from jubako.cli.flags import SOME, SWITCH, Argument, Command, Flag, Values
from jubako.cli.output import progress_bar

COMMAND = Command(
    "save",
    "write images to an archive",
    flags=(
        Flag(("-o", "--output"), "write to FILE instead of standard output", metavar="FILE", completes="file"),
        Flag(
            ("--format",),
            "the form of the archive",
            choices=("docker-archive", "oci-archive"),
            metavar="FORM",
            default="docker-archive",
        ),
        Flag(("-q", "--quiet"), "show no progress", SWITCH),
    ),
    arguments=(Argument("IMAGE", "images", SOME, completes="image"),),
    description="A file appears only when it is complete. Equal images give equal archives.",
    examples=(("For docker.", "jubako save busybox | docker load"),),
)


def run(values: Values) -> int:
    from jubako.image.save import save
    from jubako.paths import find_paths

    with progress_bar(not values.quiet and bool(values.output)) as report:
        save(find_paths(), values.images, values.output or "-", report, form=values.format)
    return 0
