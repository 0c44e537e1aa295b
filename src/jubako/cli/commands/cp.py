"""`jubako cp`: copy files between the host and a container."""

from __future__ import annotations

from jubako.cli.container_flags import find
from jubako.cli.flags import SWITCH, Argument, Command, Flag, Values
from jubako.cli.output import warn
from jubako.errors import UsageError

COMMAND = Command(
    "cp",
    "copy files between the host and a container",
    flags=(
        Flag(("-a", "--archive"), "keep the owners of what is copied", SWITCH),
        Flag(("-L", "--follow-link"), "copy what SOURCE links to", SWITCH),
        Flag(("-q", "--quiet"), "accepted for docker's sake: nothing is said anyway", SWITCH, hidden=True),
    ),
    arguments=(Argument("SOURCE", "source", completes="file"), Argument("TARGET", "target", completes="file")),
    usage=("[OPTIONS] CONTAINER:PATH PATH|-", "[OPTIONS] PATH|- CONTAINER:PATH"),
    description="""
        Works with running containers, volumes included, and with stopped ones. A TARGET that is a directory gets SOURCE
        into it, any other is the new name. SOURCE/. means what the directory holds, - a tar archive on standard input
        or output. A local path that contains a colon begins with / or a dot.

        Files that come out belong to the caller, files that go in to the container's root. Links are copied as they
        are, and no link in a container leads anywhere outside of it.
    """,
    examples=(
        ("A file out of a container.", "jubako cp web:/etc/os-release ."),
        ("A directory's contents into it.", "jubako cp ./site/. web:/srv/www"),
        ("As an archive.", "jubako cp web:/var/log - | tar -tv"),
    ),
)


def run(values: Values) -> int:
    from jubako.engine.copying import CopyOptions, copy_in, copy_out
    from jubako.paths import find_paths

    options = CopyOptions(values.follow_link, values.archive)
    (giver, source), (taker, target) = _parse(values.source), _parse(values.target)
    if bool(giver) == bool(taker):
        reason = "one of the two must be CONTAINER:PATH" if not giver else "only one of the two may be in a container"
        raise UsageError("cp", f"{values.source} {values.target}", reason=reason)
    if giver:
        skipped = copy_out(find_paths(), find(giver), source, target, options)
    else:
        skipped = copy_in(find_paths(), find(taker), source, target, options)
    for name in skipped:
        warn(f"{name} is a device or a socket: not copied")
    return 0


def _parse(text: str) -> tuple[str, str]:
    """(container or "", path)."""
    if not text:
        raise UsageError("cp", reason="an empty path")
    name, colon, path = text.partition(":")
    if not colon or text[0] in "/." or "/" in name:
        return "", text
    return name, path or "/"
