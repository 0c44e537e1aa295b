"""What a directory holds, copied into a new file system that will cover it (`tmpcopyup`).

Both sides are descriptors, and the names below them are the container's: no link is followed, no name is looked up
twice with another meaning, and a tree that is too deep is refused instead of running out of stack.
"""

from __future__ import annotations

import errno
import os
import stat

_DEEPEST = 128
_PIECE = 1 << 24
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_directory(source: int, target: int) -> None:
    """Copy all that the directory `source` holds into the directory `target` (an `O_PATH` descriptor will do)."""
    fd = os.open(".", _DIRECTORY, dir_fd=target)
    try:
        _copy(source, fd, 0)
    finally:
        os.close(fd)


def _copy(source: int, target: int, depth: int) -> None:
    if depth > _DEEPEST:
        raise OSError(errno.ELOOP, "directories are nested too deeply to be copied", "")
    for name in os.listdir(source):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            _copy_directory(source, target, name, status, depth)
        elif kind == stat.S_IFREG:
            _copy_file(source, target, name, status)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            _give(target, name, status)
        elif kind != stat.S_IFSOCK:  # a socket without its listener is nothing
            _copy_node(target, name, status)
    _stamp(source, target)


def _copy_directory(source: int, target: int, name: str, status: os.stat_result, depth: int) -> None:
    below = os.open(name, _DIRECTORY, dir_fd=source)
    try:
        os.mkdir(name, 0o700, dir_fd=target)
        made = os.open(name, _DIRECTORY, dir_fd=target)
        try:
            _copy(below, made, depth + 1)
            _give(target, name, status)
            os.fchmod(made, stat.S_IMODE(status.st_mode))
        finally:
            os.close(made)
    finally:
        os.close(below)


def _copy_file(source: int, target: int, name: str, status: os.stat_result) -> None:
    # Without O_NONBLOCK a FIFO that took the file's place would keep us waiting.
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        if not stat.S_ISREG(os.fstat(reader).st_mode):
            raise OSError(errno.EXDEV, "was exchanged while it was copied", name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writer = os.open(name, flags, 0o600, dir_fd=target)
        try:
            while os.sendfile(writer, reader, None, _PIECE):
                pass
            _give(target, name, status)
            os.fchmod(writer, stat.S_IMODE(status.st_mode))
            _stamp(reader, writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_node(target: int, name: str, status: os.stat_result) -> None:
    try:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
    except PermissionError:  # a device, in a user namespace: it would have no force in there either
        return
    _give(target, name, status)
    os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)


def _give(target: int, name: str, status: os.stat_result) -> None:
    """The owner as on the other side, where it is one that this user namespace has."""
    try:
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    except OSError as failure:
        if failure.errno not in (errno.EPERM, errno.EINVAL):
            raise


def _stamp(source: int, target: int) -> None:
    status = os.fstat(source)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
