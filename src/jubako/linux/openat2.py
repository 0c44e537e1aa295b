"""Paths below a root that somebody hostile may have filled: openat2(2), and what is built on it.

Every function takes a descriptor of the root and a path that is looked up as if that root were `/`: absolute
symbolic links and `..` stay inside. Without openat2 (kernels before 5.6, or a filter that answers ENOSYS) the
path is walked component by component with `O_NOFOLLOW`, and symbolic links are resolved here.
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.linux import foreign as ctypes
from jubako.linux.libc import SYS, check, error, libc
from jubako.linux.mount import file_system_type

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

MAX_LINKS = 40  # as the kernel's MAXSYMLINKS
_PROC_SUPER_MAGIC, _PROC_ROOT_INO = 0x9FA0, 1
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_missing = False


def openat2(dir_fd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = RESOLVE_IN_ROOT) -> int:
    """openat2(2) itself, always with `O_CLOEXEC`."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    fd = libc.syscall(
        SYS["openat2"],
        ctypes.c_int(dir_fd),
        os.fsencode(path),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    return check(fd, "openat2", path)


def open_in(root_fd: int, path: str | bytes, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Open `path` below the root `root_fd`; no magic link is followed and nothing outside is ever reached."""
    global _missing
    if not _missing:
        for _attempt in range(128):
            try:
                return openat2(root_fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
            except OSError as failure:
                if failure.errno == errno.EAGAIN:  # a rename somewhere raced with a ".."; the manual says: again
                    continue
                if failure.errno != errno.ENOSYS:
                    raise
                _missing = True
                break
        else:
            raise error(errno.EAGAIN, "openat2", path)
    return _walk(root_fd, os.fsdecode(path), flags, mode)


def make_directory_in(root_fd: int, path: str, mode: int = 0o755) -> int:
    """A descriptor (`O_PATH`) of the directory `path` below the root; missing components are made."""
    try:
        return open_in(root_fd, path, _DIRECTORY)
    except FileNotFoundError:
        pass
    parent, name = _split(path)
    parent_fd = make_directory_in(root_fd, parent, mode)
    try:
        return _make_component(root_fd, parent_fd, parent, name, mode)
    finally:
        os.close(parent_fd)


def _make_component(root_fd: int, parent_fd: int, parent: str, name: str, mode: int) -> int:
    try:
        os.mkdir(name, mode, dir_fd=parent_fd)
    except FileExistsError:
        try:
            return open_in(root_fd, os.path.join(parent, name), _DIRECTORY)  # made by another just now
        except FileNotFoundError:  # a link that leads nowhere: make what it names
            pass
        target = _read_link(parent_fd, name)
        if target is not None:
            return make_directory_in(root_fd, os.path.join(parent, target), mode)
    return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent_fd)


def open_plain_in(root_fd: int, path: str, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Open `path` below the root `root_fd`, none of whose components may be a symbolic link (ELOOP)."""
    global _missing
    if not _missing:
        try:
            return openat2(root_fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
        except OSError as failure:
            if failure.errno not in (errno.ENOSYS, errno.EAGAIN):
                raise
            _missing = failure.errno == errno.ENOSYS
    return _walk(root_fd, path, flags, mode, links=MAX_LINKS)


def make_plain_directory_in(root_fd: int, path: str, mode: int = 0o755) -> int:
    """A descriptor (`O_PATH`) of the directory `path` below the root, made if missing; a link on the way is ELOOP."""
    try:
        return open_plain_in(root_fd, path, _DIRECTORY)
    except FileNotFoundError:
        parent, name = _split(path)
    parent_fd = make_plain_directory_in(root_fd, parent, mode)
    try:
        try:
            os.mkdir(name, mode, dir_fd=parent_fd)
        except FileExistsError:  # made by another just now
            pass
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent_fd)
    except NotADirectoryError as failure:
        raise error(errno.ELOOP if _read_link(parent_fd, name) else errno.ENOTDIR, "openat2", path) from failure
    finally:
        os.close(parent_fd)


def make_file_in(root_fd: int, path: str, mode: int = 0o644) -> int:
    """A descriptor (`O_PATH`) of the file `path` below the root, made empty, with its directories, if missing."""
    for _link in range(MAX_LINKS):
        try:
            return open_in(root_fd, path, os.O_PATH)
        except FileNotFoundError:
            parent, name = _split(path)
        parent_fd = make_directory_in(root_fd, parent)
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                os.close(os.open(name, flags, mode, dir_fd=parent_fd))
            except FileExistsError:
                target = _read_link(parent_fd, name)
                if target is not None:
                    path = os.path.join(parent, target)
                    continue
            return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        finally:
            os.close(parent_fd)
    raise error(errno.ELOOP, "openat2", path)


def _split(path: str) -> tuple[str, str]:
    parent, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise error(errno.EINVAL, "openat2", path)
    return parent or "/", name


def _read_link(dir_fd: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=dir_fd)
    except OSError:
        return None


def _walk(root_fd: int, path: str, flags: int, mode: int, links: int = 0) -> int:
    """`open_in` without openat2: each component is opened without following, links are spliced in by hand.

    `links` are those followed so far, `MAX_LINKS` when there may be none.
    """
    todo = [part for part in reversed(path.split("/")) if part and part != "."]
    trail = [os.open(".", _DIRECTORY, dir_fd=root_fd)]
    try:
        while todo:
            part = todo.pop()
            if part == "..":
                if len(trail) > 1:
                    os.close(trail.pop())
                continue
            last = not todo
            target = _read_link(trail[-1], part)
            if target is not None and not (last and flags & os.O_NOFOLLOW):
                links += 1
                if links > MAX_LINKS or _is_magic(trail[-1]):
                    raise error(errno.ELOOP, "openat2", path)
                if target.startswith("/"):
                    while len(trail) > 1:
                        os.close(trail.pop())
                todo.extend(piece for piece in reversed(target.split("/")) if piece and piece != ".")
                continue
            if last:
                return os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=trail[-1])
            trail.append(os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=trail[-1]))
        return os.open(".", flags & ~os.O_CREAT | os.O_CLOEXEC, dir_fd=trail[-1])
    except OSError as failure:
        if failure.filename is None or failure.filename != path:
            failure.filename = path
        raise
    finally:
        for fd in trail:
            os.close(fd)


def _is_magic(directory: int) -> bool:
    """Whether the links in this directory lead where their text does not say: so do those of /proc/PID and below."""
    return file_system_type(directory) == _PROC_SUPER_MAGIC and os.fstat(directory).st_ino != _PROC_ROOT_INO


def is_directory(fd: int) -> bool:
    """Whether `fd` (an `O_PATH` one too) names a directory."""
    return stat.S_ISDIR(os.fstat(fd).st_mode)
