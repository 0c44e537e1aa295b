"""Giving a copied root file system to a container whose ids are not the base's: every owner is mapped once, on disk.

Where the kernel can do it at mount time (id-mapped mounts, which want the host's root), nobody calls this. Runs inside
the base; names are never followed.
"""

from __future__ import annotations

import os
import stat

from jubako.errors import JubakoError
from jubako.ids.idmap import IdMap


def shift_owners(target: str, uids: str, gids: str) -> None:
    """Change each owner `i` below `target` to what the container's map (as in /proc/PID/uid_map) says of `i`.

    Raises `JubakoError` for an owner that the container has no id for.
    """
    maps = IdMap.parse(uids), IdMap.parse(gids)
    for _path, directories, files, fd in os.fwalk(target, topdown=False, follow_symlinks=False):
        for name in (*files, *directories):
            _shift(fd, name, maps)
    _shift(None, target, maps)


def _shift(dir_fd: int | None, name: str, maps: tuple[IdMap, IdMap]) -> None:
    status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    uid, gid = maps[0].to_outside(status.st_uid), maps[1].to_outside(status.st_gid)
    if uid is None or gid is None:
        raise JubakoError(
            "give to the container", name,
            reason=f"its owner {status.st_uid}:{status.st_gid} is not one of the container's ids",
            hint="give it more ids: --userns auto:size=65536",
        )  # fmt: skip
    if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode) and (status.st_uid, status.st_gid) == (uid, gid):
        return
    capability = _capability(dir_fd, name, status.st_mode)
    os.chown(name, uid, gid, dir_fd=dir_fd, follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        if status.st_mode & 0o7000:
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=dir_fd)
        if capability:
            _set_capability(dir_fd, name, capability)


def _capability(dir_fd: int | None, name: str, mode: int) -> bytes:
    if not stat.S_ISREG(mode):
        return b""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError:
        return b""
    try:
        return os.getxattr(fd, "security.capability")
    except OSError:
        return b""
    finally:
        os.close(fd)


def _set_capability(dir_fd: int | None, name: str, value: bytes) -> None:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.setxattr(fd, "security.capability", value)
    except OSError:  # the container's root may not be one that file capabilities can be kept for
        return
    finally:
        os.close(fd)
