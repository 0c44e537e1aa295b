"""Ranges of ids that only one container has (`--userns auto`): chosen under a lock, kept in its document."""

from __future__ import annotations

import fcntl
import os
import stat

from jubako.engine import store
from jubako.engine.extras import ContainerExtras
from jubako.ids.allocate import LEAST_SIZE, size_for
from jubako.ids.base_ids import BaseIds
from jubako.ids.idmap import IdMap
from jubako.ids.mapping import ContainerIds, container_ids
from jubako.linux.openat2 import open_in
from jubako.paths import Paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LARGEST_FILE = 1 << 22


class AllocationLock:
    """Held from the choice of a range until it is recorded: `with AllocationLock(paths):`."""

    def __init__(self, paths: Paths) -> None:
        self.path = paths.data + "/ids.lock"
        self.fd = -1

    def __enter__(self) -> AllocationLock:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_failure: object) -> None:
        os.close(self.fd)


def allocate_ids(paths: Paths, base: BaseIds, extras: ContainerExtras, layers: tuple[str, ...] = ()) -> ContainerIds:
    """A range that no other container has; call it under the lock, and record it before the lock goes.

    It is as large as the users and groups of the image's `layers` need, as podman sizes it.
    """
    size = size_for(_read_top(layers, "etc/passwd"), _read_top(layers, "etc/group")) if layers else LEAST_SIZE
    others = [store.read_container(paths, identifier) for identifier in store.list_ids(paths)]
    in_use = tuple(ids for other in others if other is not None and (ids := load_ids(other.document)) is not None)
    return container_ids(extras.userns, base, in_use=in_use, auto_size=size)


def _read_top(layers: tuple[str, ...], path: str) -> str:
    """A file of an image as its topmost layer has it; nothing for what is no plain file (the layers are hostile)."""
    for layer in reversed(layers):
        root = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = open_in(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            continue
        finally:
            os.close(root)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            continue
        with os.fdopen(fd, "rb") as file:
            return file.read(_LARGEST_FILE).decode("utf-8", "replace")
    return ""


def dump_ids(ids: ContainerIds) -> dict[str, str]:
    """`ids` for the container's document."""
    return {"uids": ids.uids.text(), "gids": ids.gids.text()}


def load_ids(document: dict[str, Any]) -> ContainerIds | None:
    """The range that a container's document records; None for those that share the base's ids."""
    kept = document.get("ids")
    return ContainerIds(IdMap.parse(kept["uids"]), IdMap.parse(kept["gids"])) if kept else None
