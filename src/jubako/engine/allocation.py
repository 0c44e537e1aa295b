"""Ranges of ids that only one container has (`--userns auto`): chosen under a lock, kept in its document."""

from __future__ import annotations

import fcntl
import os

from jubako.engine import store
from jubako.engine.extras import ContainerExtras
from jubako.ids.allocate import LEAST_SIZE
from jubako.ids.base import BaseIds
from jubako.ids.idmap import IdMap
from jubako.ids.mapping import ContainerIds, container_ids
from jubako.paths import Paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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


def allocate_ids(paths: Paths, base: BaseIds, extras: ContainerExtras, size: int = LEAST_SIZE) -> ContainerIds:
    """A range that no other container has; call it under the lock, and record it before the lock goes."""
    others = [store.read_container(paths, identifier) for identifier in store.list_ids(paths)]
    in_use = tuple(ids for other in others if other is not None and (ids := load_ids(other.document)) is not None)
    return container_ids(extras.userns, base, in_use=in_use, auto_size=size)


def dump_ids(ids: ContainerIds) -> dict[str, str]:
    """`ids` for the container's document."""
    return {"uids": ids.uids.text(), "gids": ids.gids.text()}


def load_ids(document: dict[str, Any]) -> ContainerIds | None:
    """The range that a container's document records; None for those that share the base's ids."""
    kept = document.get("ids")
    return ContainerIds(IdMap.parse(kept["uids"]), IdMap.parse(kept["gids"])) if kept else None
