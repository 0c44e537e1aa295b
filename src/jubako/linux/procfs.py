"""A /proc that is known to be one: statfs(2), proc(5), fsopen(2).

What stands at the path /proc is whatever somebody mounted or linked there. Whoever writes what matters (a security
label, a kernel parameter) has to know that the file is procfs's and the one that is meant (CVE-2019-16884,
CVE-2019-19921, CVE-2025-52881).
"""

from __future__ import annotations

import errno
import os

from jubako.linux.fsopen import new_mount
from jubako.linux.libc import error
from jubako.linux.mount import file_system_type
from jubako.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2

PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572
CGROUP2_SUPER_MAGIC = 0x63677270
TMPFS_MAGIC = 0x01021994
RDTGROUP_SUPER_MAGIC = 0x07655821
_ROOT_INODE = 1  # PROC_ROOT_INO


def is_procfs_root(fd: int) -> bool:
    """Whether `fd` names the root directory of a procfs, not of something that was put in its place."""
    return file_system_type(fd) == PROC_SUPER_MAGIC and os.fstat(fd).st_ino == _ROOT_INODE


def private_procfs() -> int:
    """A descriptor of a procfs that no other process can have changed, else of a verified /proc.

    The private one is a new instance, mounted nowhere. Where the kernel refuses one (EPERM: the existing /proc is
    partly covered, or the PID namespace belongs to another user namespace), the one at /proc is taken if it is procfs.
    """
    try:
        return new_mount("proc", "proc", ())
    except OSError as failure:
        if failure.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENODEV):
            raise
    fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not is_procfs_root(fd):
        os.close(fd)
        raise error(errno.ENODEV, "fstatfs", "/proc")
    return fd


def open_in_procfs(proc: int, path: str, flags: int) -> int:
    """Open `path` below the procfs `proc`: no link is followed, and nothing that is mounted over it is reached.

    "self" is a link, so whoever wants a file of this process says its pid (or "thread-self/…" as number).
    """
    try:
        fd = openat2(
            proc, path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
        )
    except OSError as failure:
        if failure.errno != errno.ENOSYS:
            raise
        fd = _walk(proc, path, flags)
    if file_system_type(fd) != PROC_SUPER_MAGIC:
        os.close(fd)
        raise error(errno.EXDEV, "openat2", path)
    return fd


def own_directory(proc: int) -> str:
    """The calling thread's directory in the procfs `proc`, which may be of another PID namespace: "12/task/12"."""
    for name in ("thread-self", "self"):
        try:
            target = os.readlink(name, dir_fd=proc)
        except OSError:
            continue
        if not target.startswith("/") and ".." not in target.split("/"):
            return target
    raise error(errno.ESRCH, "readlink", "/proc/thread-self")


def write_in_procfs(proc: int, path: str, data: bytes) -> None:
    """Write `data` in one call to an existing file of the procfs `proc`."""
    fd = open_in_procfs(proc, path, os.O_WRONLY)
    try:
        os.write(fd, data)
    except OSError as failure:
        failure.filename = f"/proc/{path}"
        raise
    finally:
        os.close(fd)


def _walk(proc: int, path: str, flags: int) -> int:
    """Without openat2: component by component, each on the file system and the mount that the walk began on."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        raise error(errno.EXDEV, "openat2", path)
    here, began = os.dup(proc), os.fstat(proc).st_dev
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = below
            if os.fstat(here).st_dev != began:
                raise error(errno.EXDEV, "openat2", path)
        return os.open(parts[-1], flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    finally:
        os.close(here)
