"""Removing a tree that a container or an archive made, safely.

Names are never joined into paths: each directory is opened below the one before, without following links and without
crossing into anything mounted there (a leftover bind mount of somebody's home must not be emptied). Depth is
unbounded: directories far down are first moved to the top, so descriptors do not run out. Runs inside the base user
namespace, where subordinate ids are owned; a directory without permissions is given them first.
"""

from __future__ import annotations

import errno
import os

from jubako.errors import JubakoError
from jubako.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2

MAX_DEPTH = 100
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(dir_fd: int, name: str) -> None:
    """Remove `name` in the directory `dir_fd`, whatever it is, with all that lies below it. Absent is fine.

    Raises `JubakoError` when something cannot be removed; a mount in the way is refused, not entered.
    """
    try:
        if _unlink(dir_fd, name):
            return
        top = _open_directory(dir_fd, name)
        try:
            empty_directory(top)
        finally:
            os.close(top)
        os.rmdir(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    except OSError as failure:
        raise _failure(name, failure) from None


def empty_directory(top: int) -> None:
    """Remove all that the directory `top` holds, and keep itself."""
    moved = 0
    trail: list[tuple[int, list[str]]] = [(top, _names(top))]
    try:
        while trail:
            here, todo = trail[-1]
            if not todo:
                trail.pop()
                if here != top:
                    os.close(here)
                    parent, names = trail[-1]
                    os.rmdir(names.pop(), dir_fd=parent)
                continue
            name = todo[-1]
            if _unlink(here, name):
                todo.pop()
            elif len(trail) > MAX_DEPTH:
                moved = _move_up(here, name, top, trail[0][1], moved)
                todo.pop()
            else:
                below = _open_directory(here, name)
                trail.append((below, _names(below)))
    finally:
        for fd, _names_left in trail[1:]:
            os.close(fd)


def empty_handle(handle: int) -> None:
    """Empty the directory behind `handle` (`O_PATH`), whatever its mode; the function for a child inside the base
    (`image.inbase`). The directory itself is left with mode 0700, for its parent's owner to remove."""
    _make_accessible(handle)
    top = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
    try:
        empty_directory(top)
    except OSError as failure:
        raise _failure(str(failure.filename or ""), failure) from None
    finally:
        os.close(top)


def _unlink(dir_fd: int, name: str) -> bool:
    """Remove `name` unless it is a directory."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except (IsADirectoryError, PermissionError) as failure:
        if isinstance(failure, PermissionError) and not _is_directory(dir_fd, name):
            if failure.errno != errno.EACCES:
                raise
            _make_accessible(dir_fd)
            os.unlink(name, dir_fd=dir_fd)
            return True
        return False
    except FileNotFoundError:
        pass
    return True


def _is_directory(dir_fd: int, name: str) -> bool:
    import stat

    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode)
    except PermissionError:  # the directory may be listed but not searched
        _make_accessible(dir_fd)
        return stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode)


def _open_directory(dir_fd: int, name: str) -> int:
    try:
        return _open_here(dir_fd, name, _DIRECTORY)
    except PermissionError:
        handle = _open_here(dir_fd, name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _make_accessible(handle)
        finally:
            os.close(handle)
        return _open_here(dir_fd, name, _DIRECTORY)


def _open_here(dir_fd: int, name: str, flags: int) -> int:
    try:
        return openat2(dir_fd, name, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV)
    except OSError as failure:
        if failure.errno != errno.ENOSYS:
            raise
    fd = os.open(name, flags | os.O_CLOEXEC, dir_fd=dir_fd)
    if os.fstat(fd).st_dev != os.fstat(dir_fd).st_dev:
        os.close(fd)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
    return fd


def _make_accessible(fd: int) -> None:
    os.chmod(f"/proc/self/fd/{fd}", 0o700)  # the link leads to this very directory; fchmod(2) refuses O_PATH


def _names(fd: int) -> list[str]:
    return os.listdir(fd)


def _move_up(here: int, name: str, top: int, top_names: list[str], moved: int) -> int:
    """Move a deep directory to the top, where it is met again before the branch it came from is finished."""
    while True:
        moved += 1
        target = f".jubako-deep-{moved}"
        try:
            os.stat(target, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            break
    try:
        os.rename(name, target, src_dir_fd=here, dst_dir_fd=top)
    except PermissionError:  # its ".." changes, which wants write permission on itself
        os.close(_open_directory(here, name))
        handle = _open_here(here, name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        _make_accessible(handle)
        os.close(handle)
        os.rename(name, target, src_dir_fd=here, dst_dir_fd=top)
    top_names.insert(0, target)
    return moved


def _failure(name: str, failure: OSError) -> JubakoError:
    hint = ""
    if failure.errno in (errno.EBUSY, errno.EXDEV):
        hint = "something is mounted there: end what uses it and unmount it first"
    elif failure.errno == errno.EPERM:
        hint = "a file may be immutable (lsattr) or belong to an id outside your subordinate ranges"
    subject = os.fsdecode(failure.filename) if isinstance(failure.filename, str | bytes) else name
    return JubakoError.from_os_error("remove", subject, failure, hint)
