"""The names of containers: one link a name, to the container's id. Making the link is what reserves the name.

Links are made and taken away under one lock, held for two system calls: without it, whoever clears a name that a killed
command left could take away the name that somebody else has just reserved.
"""

from __future__ import annotations

import fcntl
import os

from jubako.errors import UsageError
from jubako.paths import Paths


def reserve_name(paths: Paths, identifier: str, name: str) -> str:
    """Reserve `name` for the container, or one that is made up; the name. Raises `UsageError` if it is taken."""
    if name:
        link_name(paths, identifier, check_name(name))
        return name
    from jubako.engine.names import random_name

    for attempt in range(100):
        name = random_name(attempt)
        try:
            link_name(paths, identifier, name)
            return name
        except UsageError:
            continue
    link_name(paths, identifier, identifier[:12])
    return identifier[:12]


def link_name(paths: Paths, identifier: str, name: str) -> None:
    """Make the link of a name that nobody has. Raises `UsageError` if somebody has."""
    path = f"{paths.names}/{name}"
    with NamesLock(paths):
        holder = holder_of(paths, name)
        if holder and os.path.isdir(f"{paths.containers}/{holder}"):
            raise UsageError(
                "name the container",
                name,
                reason=f"the name belongs to container {holder[:12]}",
                hint="jubako rm it, or rename one; --replace removes it first",
            )
        if holder:
            os.unlink(path)  # its container's maker was killed between the two
        os.symlink(identifier, path)


def release_name(paths: Paths, identifier: str, name: str) -> None:
    """Let go of a name if it is this container's."""
    with NamesLock(paths):
        if name and holder_of(paths, name) == identifier:
            os.unlink(f"{paths.names}/{name}")


def holder_of(paths: Paths, name: str) -> str:
    """The id that a name is linked to; empty if nobody has it."""
    try:
        return os.readlink(f"{paths.names}/{name}")
    except OSError:
        return ""


def list_names(paths: Paths) -> list[str]:
    """All names that are reserved."""
    try:
        return os.listdir(paths.names)
    except FileNotFoundError:
        return []


def check_name(name: str) -> str:
    """`name`, if it is one as docker has it: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`."""
    plain = name.replace("_", "a").replace(".", "a").replace("-", "a")
    if not plain.isascii() or not plain.isalnum() or not name[0].isalnum() or len(name) > 128:
        raise UsageError(
            "name the container",
            repr(name),
            reason="a name has letters, digits, _ . - and begins with one of the first two",
        )
    return name


class NamesLock:
    """Held while a link is looked at and changed: `with NamesLock(paths):`."""

    def __init__(self, paths: Paths) -> None:
        self.path = paths.data + "/names.lock"
        self.fd = -1

    def __enter__(self) -> NamesLock:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_failure: object) -> None:
        os.close(self.fd)
