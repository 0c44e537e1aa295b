"""Mounts: mount(2), umount2(2), pivot_root(2), and the newer open_tree(2), move_mount(2), mount_setattr(2)."""

from __future__ import annotations

import os

from jubako.linux import foreign as ctypes
from jubako.linux.libc import SYS, check, libc

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 1 << 15
MS_POSIXACL = 1 << 16
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_DETACH = 2

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

Path = str | bytes

_STATFS_WORDS = 15  # struct statfs is 120 bytes on every 64-bit machine, f_type first


def mount(source: Path | None, target: Path, kind: Path | None, flags: int, data: str | None = None) -> None:
    """mount(2); `kind` is the file system's type, `data` its option string."""
    check(
        libc.mount(_bytes(source), _bytes(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(data)), "mount", target
    )


def umount(target: Path, flags: int = 0) -> None:
    """umount2(2)."""
    check(libc.umount2(_bytes(target), ctypes.c_int(flags)), "umount2", target)


def pivot_root(new_root: Path, put_old: Path) -> None:
    """pivot_root(2): `new_root` becomes the root mount, the old one is attached at `put_old`."""
    check(libc.syscall(SYS["pivot_root"], _bytes(new_root), _bytes(put_old)), "pivot_root", new_root)


def open_tree(dir_fd: int, path: Path, flags: int) -> int:
    """open_tree(2): a descriptor for a mount, with `OPEN_TREE_CLONE` for a detached copy of it."""
    number = libc.syscall(
        SYS["open_tree"], ctypes.c_int(dir_fd), _bytes(path), ctypes.c_uint(flags | OPEN_TREE_CLOEXEC)
    )
    return check(number, "open_tree", path)


def move_mount(from_fd: int, to_fd: int, to_path: Path = "") -> None:
    """move_mount(2) of the detached mount `from_fd` onto what `to_fd` (and `to_path` below it) names."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if to_path else MOVE_MOUNT_T_EMPTY_PATH)
    check(
        libc.syscall(
            SYS["move_mount"],
            ctypes.c_int(from_fd),
            b"",
            ctypes.c_int(to_fd),
            _bytes(to_path),
            ctypes.c_uint(flags),
        ),
        "move_mount",
        to_path or f"descriptor {to_fd}",
    )


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_setattr(
    fd: int, *, set_: int = 0, clear: int = 0, propagation: int = 0, userns_fd: int = 0, recursive: bool = False
) -> None:
    """mount_setattr(2) (Linux 5.12) on the mount that `fd` names, with `recursive` on all mounts below it too."""
    attr = _MountAttr(set_, clear, propagation, userns_fd)
    check(
        libc.syscall(
            SYS["mount_setattr"],
            ctypes.c_int(fd),
            b"",
            ctypes.c_uint(AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)),
            ctypes.byref(attr),
            ctypes.c_size_t(ctypes.sizeof(attr)),
        ),
        "mount_setattr",
        f"descriptor {fd}",
    )


def flag_names(flags: int) -> str:
    """`flags` of mount(2) as the kernel spells them: "MS_BIND|MS_REC"."""
    names = [name for name, value in globals().items() if name.startswith("MS_") and flags & value]
    return "|".join(names) or "0"


def attr_names(flags: int) -> str:
    """Attributes of mount_setattr(2) as the kernel spells them; `MOUNT_ATTR__ATIME` clears what is said of times."""
    if flags & MOUNT_ATTR__ATIME == MOUNT_ATTR__ATIME:
        rest = flags & ~MOUNT_ATTR__ATIME
        return (attr_names(rest) + "|" if rest else "") + "MOUNT_ATTR__ATIME"
    names = [n for n, v in globals().items() if n.startswith("MOUNT_ATTR_") and n != "MOUNT_ATTR__ATIME" and flags & v]
    return "|".join(names) or "0"


def _bytes(path: Path | None) -> bytes | None:
    return os.fsencode(path) if path is not None else None


def mount_id(fd: int) -> int:
    """The number of the mount that `fd` lies on (fdinfo, `mnt_id`), to tell two mounts of one file system apart."""
    with open(f"/proc/self/fdinfo/{fd}", "rb", buffering=0) as file:
        for line in file.read(4096).splitlines():
            if line.startswith(b"mnt_id:"):
                return int(line.split()[1])
    return -1


def file_system_type(fd: int) -> int:
    """The magic number of the file system that `fd` (an `O_PATH` one too) lies on."""
    buffer = (ctypes.c_long * _STATFS_WORDS)()
    check(libc.fstatfs(ctypes.c_int(fd), buffer), "fstatfs", f"descriptor {fd}")
    return int(buffer[0])


def mount_table() -> list[tuple[int, int, str]]:
    """All mounts of this namespace in the kernel's order: number, number of the one it lies on, mount point."""
    with open("/proc/self/mountinfo", "rb", buffering=0) as file:
        text = b"".join(iter(lambda: file.read(1 << 16), b""))
    rows = [line.split() for line in text.splitlines()]
    return [(int(row[0]), int(row[1]), os.fsdecode(unescape(row[4]))) for row in rows]


def unescape(field: bytes) -> bytes:
    """A field of mountinfo, where spaces and the like are written in octal."""
    for escaped, plain in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(escaped, plain)
    return field
