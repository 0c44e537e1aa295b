"""Id-mapped copies of mounts: mount_setattr(2), `MOUNT_ATTR_IDMAP`. Only the host's root may make them."""

from __future__ import annotations

import errno
import os

from jubako.linux import mount as mnt
from jubako.linux.binding import clone_tree
from jubako.linux.clone import open_namespace
from jubako.plan.step import SUPERVISOR, Slots, Step, quote, step


@step(actor=SUPERVISOR)
class CloneIdMapped(Step):
    """The files keep their owners on disk and belong to the container's users inside, without a chown."""

    source: str
    slot: str
    required: bool = False
    recursive: bool = True

    needs = ("init_pid",)

    @property
    def produces(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.slot,)

    def apply(self, slots: Slots) -> None:
        tree = clone_tree(self.source, -1, recursive=self.recursive)
        namespace = open_namespace(slots["init_pid"], "user")
        try:
            # Made in the mount namespace of the host, the copy would be its peer, and pass the container's mounts on.
            mnt.mount_setattr(tree, propagation=mnt.MS_SLAVE, recursive=True)
            mnt.mount_setattr(tree, set_=mnt.MOUNT_ATTR_IDMAP, userns_fd=namespace, recursive=True)
        except OSError as failure:
            # A file system that knows no id-mapped mounts, or a kernel before 5.12: the files show as nobody's.
            if self.required or failure.errno not in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
                os.close(tree)
                raise
        finally:
            os.close(namespace)
        slots[self.slot] = tree

    def call(self) -> str:
        deep = "|AT_RECURSIVE" if self.recursive else ""
        return (
            f"open_tree(AT_FDCWD, {quote(self.source)}, OPEN_TREE_CLONE{deep}); "
            'open("/proc/PID/ns/user"); '
            'mount_setattr(tree, "", AT_EMPTY_PATH|AT_RECURSIVE, {propagation=MS_SLAVE}); '
            'mount_setattr(tree, "", AT_EMPTY_PATH|AT_RECURSIVE, {attr_set=MOUNT_ATTR_IDMAP, userns_fd=fd})'
        )

    def operation(self) -> str:
        return "make an id-mapped mount of"

    def subject(self) -> str:
        return self.source

    def hint(self, errno_: int) -> str:
        if errno_ in (errno.EINVAL, errno.ENOSYS):
            return "this file system knows no id-mapped mounts: use another, --userns host, or DIR:O"
        return ""
