"""Steps that make what the container's own process will only attach: id-mapped copies of mounts (mount_setattr(2),
`MOUNT_ATTR_IDMAP`), and file systems that want the host's root (fsopen(2)). Done outside, before the root is made.
"""

from __future__ import annotations

import errno
import os

from jubako.linux import mount as mnt
from jubako.linux.binding import clone_tree
from jubako.linux.clone import CLONE_NEWUSER, clone, open_namespace
from jubako.linux.fsopen import new_mount
from jubako.linux.pidfd import send_signal
from jubako.plan.step import SUPERVISOR, Slots, Step, quote, step


@step(actor=SUPERVISOR)
class CloneMapped(Step):
    """The files keep their owners on disk and show others here, by the mount's own maps or the container's."""

    source: str
    slot: str
    uid_map: str
    """Lines of /proc/PID/uid_map; empty for the container's own map."""
    gid_map: str
    recursive: bool = True
    deep: bool = False
    """Map the mounts below the source too."""
    joined: bool = False
    """The container's user namespace is one that was joined, in the slot "ns:user"."""

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        if self.uid_map:
            return ()
        return ("ns:user",) if self.joined else ("init_pid",)

    @property
    def produces(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.slot,)

    def apply(self, slots: Slots) -> None:
        tree = clone_tree(self.source, -1, recursive=self.recursive)
        namespace = -1
        try:
            namespace = self._namespace(slots)
            # Made in the mount namespace of the host, the copy would be its peer, and pass the container's mounts on.
            mnt.mount_setattr(tree, propagation=mnt.MS_SLAVE, recursive=True)
            mnt.mount_setattr(tree, set_=mnt.MOUNT_ATTR_IDMAP, userns_fd=namespace, recursive=self.deep)
        except OSError:
            os.close(tree)
            raise
        finally:
            if namespace >= 0:
                os.close(namespace)
        slots[self.slot] = tree

    def _namespace(self, slots: Slots) -> int:
        if self.uid_map:
            return mapped_namespace(self.uid_map, self.gid_map)
        if self.joined:
            return os.dup(slots["ns:user"])
        return open_namespace(slots["init_pid"], "user")

    def call(self) -> str:
        copied, mapped = ("|AT_RECURSIVE" if one else "" for one in (self.recursive, self.deep))
        made = 'open("/proc/PID/ns/user"); '
        if self.uid_map:
            uids, gids = quote(self.uid_map), quote(self.gid_map)
            made = f"clone(CLONE_NEWUSER); write(uid_map, {uids}); write(gid_map, {gids}); {made}"
        return (
            f"open_tree(AT_FDCWD, {quote(self.source)}, OPEN_TREE_CLONE{copied}); {made}"
            'mount_setattr(tree, "", AT_EMPTY_PATH|AT_RECURSIVE, {propagation=MS_SLAVE}); '
            f'mount_setattr(tree, "", AT_EMPTY_PATH{mapped}, {{attr_set=MOUNT_ATTR_IDMAP, userns_fd=fd}})'
        )

    def operation(self) -> str:
        return "make an id-mapped mount of"

    def subject(self) -> str:
        return quote(self.source)[1:-1]

    def hint(self, errno_: int) -> str:
        if errno_ in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
            return "this file system or this kernel knows no id-mapped mounts (they came with Linux 5.12)"
        return ""


@step(actor=SUPERVISOR)
class OpenFileSystem(Step):
    """A file system that a user namespace cannot mount is made by the host's root, and attached by the container."""

    kind: str
    source: str
    slot: str
    attributes: int = 0
    words: tuple[str, ...] = ()
    data: tuple[str, ...] = ()

    @property
    def produces(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.slot,)

    def apply(self, slots: Slots) -> None:
        slots[self.slot] = new_mount(self.kind, self.source, (*self.words, *self.data), self.attributes)

    def call(self) -> str:
        options = "".join(f", {quote(one)}" for one in (*self.words, *self.data))
        return (
            f"fsopen({quote(self.kind)}); fsconfig(source={quote(self.source)}{options}); "
            f"fsmount(fd, 0, {mnt.attr_names(self.attributes)})"
        )

    def operation(self) -> str:
        return f"mount {quote(self.kind)[1:-1]} from"

    def subject(self) -> str:
        return quote(self.source)[1:-1]

    def hint(self, errno_: int) -> str:
        return "this kernel has no such file system" if errno_ == errno.ENODEV else ""


def mapped_namespace(uid_map: str, gid_map: str) -> int:
    """A descriptor of a user namespace with these maps and nobody in it: its only process ends before it is used."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = clone(CLONE_NEWUSER)
    if pid == 0:
        try:
            os.close(writer)
            os.read(reader, 1)  # until the other end closes
        finally:
            os._exit(0)
    try:
        for name, text in (("uid_map", uid_map), ("gid_map", gid_map)):
            fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode())
            except OSError as failure:
                failure.filename = f"{name} {text.strip()}"
                raise
            finally:
                os.close(fd)
        return open_namespace(pid, "user")
    finally:
        os.close(writer)
        os.close(reader)
        send_signal(pidfd, 9)
        os.waitpid(pid, 0)
        os.close(pidfd)
