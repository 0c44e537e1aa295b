"""Steps for device nodes: OCI runtime-spec 1.3, config-linux.md, "Devices" and "Default Devices"; mknod(2).

The directory of a node must be reached without links, and a node is never what a link names: what lies there before may
have been put there to have something of the host's opened or covered (CVE-2025-31133, CVE-2025-52565, CVE-2026-41579).
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.plan.step import Slots, Step, quote, step
from jubako.plan.steps.nodes import bind_node, node_type, open_node, open_parent


@step()
class MakeNode(Step):
    """A device of the container's own, or a FIFO, with the owner and the rights that were asked for."""

    path: str
    kind: str
    major: int = 0
    minor: int = 0
    mode: int = 0o666
    uid: int = 0
    gid: int = 0

    needs = ("root",)

    def apply(self, slots: Slots) -> None:
        type_ = node_type(self.kind)
        number = 0 if self.kind == "p" else os.makedev(self.major, self.minor)
        parent, name = open_parent(slots, self.path)
        try:
            try:
                os.mknod(name, type_ | 0o600, number, dir_fd=parent)
                made = True
            except FileExistsError:
                made = False
            except PermissionError:  # not even the host's root may, as in a container: then the host's own will do
                if self.kind == "p":
                    raise
                bind_node(parent, name, open_node(self.path, self.kind, self.major, self.minor), self.path)
                return
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                status = os.fstat(fd)
                if stat.S_IFMT(status.st_mode) != type_ or (number and status.st_rdev != number):
                    raise OSError(errno.EEXIST, "something else is there already", self.path)
                if made:
                    os.chown(f"/proc/self/fd/{fd}", self.uid, self.gid)
                    os.chmod(f"/proc/self/fd/{fd}", self.mode)
            finally:
                os.close(fd)
        finally:
            os.close(parent)

    def call(self) -> str:
        name = {"b": "S_IFBLK", "p": "S_IFIFO"}.get(self.kind, "S_IFCHR")
        path = quote(self.path)
        number = "" if self.kind == "p" else f", makedev({self.major}, {self.minor})"
        return (
            f"openat2(root, directory, RESOLVE_NO_SYMLINKS); mknod({path}, {name}{number}); "
            f"chown({path}, {self.uid}, {self.gid}); chmod({path}, {self.mode:04o})"
        )

    def operation(self) -> str:
        return "make the device"

    def subject(self) -> str:
        return quote(self.path)[1:-1]

    def hint(self, errno_: int) -> str:
        return _hint(errno_)


@step()
class BindNode(Step):
    """A device of the host's: in a user namespace none can be made that has any force, so the host's is bound."""

    path: str
    kind: str = "c"
    major: int = 0
    minor: int = 0

    needs = ("root",)

    def apply(self, slots: Slots) -> None:
        source = open_node(slots.path(self.path), self.kind, self.major, self.minor)
        parent, name = open_parent(slots, self.path)
        try:
            bind_node(parent, name, source, self.path)
        finally:
            os.close(parent)

    def call(self) -> str:
        path = quote(self.path)
        return (
            f"open({path}, O_PATH|O_NOFOLLOW); fstat(fd); openat2(root, directory, RESOLVE_NO_SYMLINKS); "
            f"open({path}, O_CREAT|O_EXCL|O_NOFOLLOW); mount(fd, {path}, NULL, MS_BIND, NULL)"
        )

    def purpose(self) -> str:
        number = f"{self.major}:{self.minor}"
        return f"In a user namespace no device can be made: the host's is bound, once it is known to be {number}"

    def operation(self) -> str:
        return "bind the device"

    def subject(self) -> str:
        return quote(self.path)[1:-1]

    def hint(self, errno_: int) -> str:
        return "the host has no such device" if errno_ in (errno.ENOENT, errno.ENODEV) else _hint(errno_)


@step()
class LinkDevices(Step):
    """The links that every /dev has; what lies there already stays, but for a `ptmx` that is not the container's."""

    links: tuple[tuple[str, str], ...]

    needs = ("root",)

    def apply(self, slots: Slots) -> None:
        for path, target in self.links:
            parent, name = open_parent(slots, path)
            try:
                if name == "ptmx":
                    try:
                        os.unlink(name, dir_fd=parent)
                    except FileNotFoundError:
                        pass
                os.symlink(target, name, dir_fd=parent)
            except FileExistsError:
                pass
            finally:
                os.close(parent)

    def call(self) -> str:
        return "; ".join(f"symlink({quote(target)}, {quote(path)})" for path, target in self.links)

    def operation(self) -> str:
        return "make the links of /dev"


def _hint(errno_: int) -> str:
    if errno_ == errno.ELOOP:
        return "a symbolic link leads there: it may point at something of the host's"
    if errno_ in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "its directory cannot be written to"
    return ""
