"""Where a device's node goes, and which device it is: known by type and number, at a place that no link leads to.

What lies there before may have been put there to have something of the host's opened or covered (CVE-2025-31133,
CVE-2025-52565, CVE-2026-41579).
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.linux import mount as mnt
from jubako.linux.openat2 import make_plain_directory_in
from jubako.plan.step import Slots

_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def node_type(kind: str) -> int:
    """The `S_IF…` of a device type as config.json spells it."""
    return _TYPES[kind]


def open_parent(slots: Slots, path: str) -> tuple[int, str]:
    """The directory that `path` lies in, made if missing and reached without links, and the last name."""
    root, below = slots.base(os.path.normpath("/" + path.lstrip("/")))
    directory, _, name = below.rpartition("/")
    return make_plain_directory_in(root, directory or "/"), name


def open_node(path: str, kind: str, major: int, minor: int) -> int:
    """A descriptor (`O_PATH`) of a device, known by its type and number: a path alone proves nothing."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if path.startswith("/proc/self/fd/") else os.O_NOFOLLOW))
    status = os.fstat(fd)
    if stat.S_IFMT(status.st_mode) != node_type(kind) or status.st_rdev != os.makedev(major, minor):
        os.close(fd)
        word = "block" if kind == "b" else "character"
        raise OSError(errno.ENODEV, f"not the {word} device {major}:{minor}", path)
    return fd


def bind_node(parent: int, name: str, source: int, path: str, mode: int = 0o666) -> None:
    """Bind the device `source` to `name` in the directory `parent`, a file that is made if missing, and close it."""
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.close(os.open(name, flags, mode, dir_fd=parent))
        except FileExistsError:
            pass
        target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            if stat.S_ISLNK(os.fstat(target).st_mode):
                raise OSError(errno.ELOOP, "a symbolic link is in the device's place", path)
            mnt.mount(f"/proc/self/fd/{source}", f"/proc/self/fd/{target}", None, mnt.MS_BIND)
            after = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                status, wanted = os.fstat(after), os.fstat(source)
                if status.st_rdev != wanted.st_rdev or mnt.mount_id(after) == mnt.mount_id(target):
                    raise OSError(errno.EXDEV, "the device's place was exchanged while it was mounted on", path)
            finally:
                os.close(after)
        finally:
            os.close(target)
    finally:
        os.close(source)
