"""`jubako import`: make an image of a root file system in a tar archive."""

from __future__ import annotations

import sys

from jubako.cli.flags import LIST, OPTIONAL, SWITCH, Argument, Command, Flag, Values
from jubako.cli.output import progress_bar, warn
from jubako.errors import UsageError

COMMAND = Command(
    "import",
    "make an image of a root file system in a tar archive",
    flags=(
        Flag(
            ("-c", "--change"),
            "set something of the image by a Dockerfile instruction, such as 'CMD [\"/bin/sh\"]' or 'ENV A=1'",
            LIST,
            metavar="INSTRUCTION",
            field="changes",
        ),
        Flag(("-m", "--message"), "a comment for the image's history", metavar="TEXT"),
        Flag(("--platform",), "the platform that the files are for", metavar="OS/ARCH[/VARIANT]"),
        Flag(("-q", "--quiet"), "show no progress", SWITCH),
        Flag(("--skip-devices",), "leave device nodes out instead of refusing the archive", SWITCH),
        Flag(("--squash-ids",), "give files whose owner you cannot map to root instead of refusing them", SWITCH),
    ),
    arguments=(
        Argument("FILE", "file", completes="file", help="the archive, plain or compressed; '-' is standard input"),
        Argument("NAME", "name", OPTIONAL, help="what to call the image"),
    ),
    examples=(
        ("What docker exports.", "docker export mycontainer | jubako import - mine"),
        ("A directory.", "tar -C ./rootfs -c . | jubako import -c 'CMD [\"/bin/sh\"]' - mine"),
    ),
)


def run(values: Values) -> int:
    from jubako.image.importing import import_
    from jubako.image.ingest import Unpacking
    from jubako.image.platform import parse_platform
    from jubako.paths import find_paths

    if values.file == "-" and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError("import", "from the terminal", reason="no archive is given", hint="redirect one into it")
    unpacking = Unpacking(skip_devices=values.skip_devices, squash_ids=values.squash_ids)
    platform = parse_platform(values.platform) if values.platform else None
    with progress_bar(not values.quiet) as report:
        image = import_(
            find_paths(),
            values.file,
            values.name,
            report,
            changes=values.changes,
            message=values.message,
            platform=platform,
            unpacking=unpacking,
        )
    for warning in image.warnings:
        warn(warning)
    print(image.id)
    return 0
