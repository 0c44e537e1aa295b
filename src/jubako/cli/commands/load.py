"""`jubako load`: bring images in from what `docker save`, `podman save` or skopeo wrote."""

from __future__ import annotations

import sys

from jubako.cli.flags import OPTIONAL, SWITCH, Argument, Command, Flag, Values
from jubako.cli.output import progress_bar, warn
from jubako.errors import UsageError

COMMAND = Command(
    "load",
    "bring images in from an archive",
    flags=(
        Flag(
            ("-i", "--input"),
            "read FILE, or the layout directory FILE, instead of standard input",
            metavar="FILE",
            completes="file",
        ),
        Flag(("--name",), "call the image NAME instead of what the archive calls it", metavar="NAME"),
        Flag(("--platform",), "of an image for several platforms, take this one", metavar="OS/ARCH[/VARIANT]"),
        Flag(("-q", "--quiet"), "show no progress", SWITCH),
        Flag(("--skip-devices",), "leave device nodes out instead of refusing the archive", SWITCH),
        Flag(("--squash-ids",), "give files whose owner you cannot map to root instead of refusing them", SWITCH),
    ),
    arguments=(Argument("FILE", "file", OPTIONAL, completes="file", help="the same as --input FILE"),),
    description="""
        Takes archives of docker ('docker save') and of OCI, plain or compressed, and OCI layout directories. Everything
        is verified before anything can be seen: an archive is taken whole or not at all.
    """,
    examples=(
        ("From a file.", "jubako load -i busybox.tar"),
        ("From docker.", "docker save busybox | jubako load"),
    ),
)


def run(values: Values) -> int:
    from jubako.image.ingest import Unpacking
    from jubako.image.load import load
    from jubako.image.platform import parse_platform
    from jubako.image.reference import parse_reference
    from jubako.paths import find_paths

    if values.input and values.file:
        raise UsageError("load", values.file, reason=f"--input {values.input} is given too")
    source = values.input or values.file or "-"
    if source == "-" and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError("load", "from the terminal", reason="no archive is given", hint="jubako load -i FILE")
    unpacking = Unpacking(skip_devices=values.skip_devices, squash_ids=values.squash_ids)
    platform = parse_platform(values.platform) if values.platform else None
    with progress_bar(not values.quiet) as report:
        images = load(find_paths(), source, report, name=values.name, platform=platform, unpacking=unpacking)
    for image in images:
        for warning in image.warnings:
            warn(warning)
        for name in image.names:
            print(f"Loaded image: {parse_reference(name).short}")
        if not image.names:
            print(f"Loaded image ID: {image.id}")
    return 0
