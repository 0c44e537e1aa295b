"""Layers laid over each other by copying: for machines where no overlay can be mounted.

Runs inside the base user namespace. Walks each layer through descriptors, lowest first, and obeys the marks that
`image.unpack` made: a 0:0 character device removes a name, an opaque directory hides what lies below it. File systems
that can share data (btrfs, xfs: FICLONE) are asked to.
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.errors import JubakoError
from jubako.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.paths import Paths

_FICLONE = 0x40049409
_OPAQUE = "user.overlay.opaque"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 26


def copy_layers(layers: tuple[str, ...], target: str) -> None:
    """Copy `layers` (lowest first, as an `Image` has them) into the existing, empty directory `target`.

    To be called inside the base. Raises `JubakoError`; what was copied until then is left to the caller.
    """
    try:
        into = os.open(target, _DIRECTORY)
        try:
            for layer in layers:
                fd = os.open(layer, _DIRECTORY)
                try:
                    _Copier(into).directory(fd, into, "")
                finally:
                    os.close(fd)
        finally:
            os.close(into)
    except RecursionError:
        raise JubakoError("copy layers", target, reason="a layer's directories are nested too deeply") from None
    except OSError as failure:
        subject = os.fsdecode(failure.filename) if isinstance(failure.filename, str | bytes) else target
        hint = "make room on the file system of the image store" if failure.errno == errno.ENOSPC else ""
        raise JubakoError.from_os_error("copy layers", subject, failure, hint) from None


def copy_layers_in_base(paths: Paths, layers: tuple[str, ...], target: str) -> None:
    """`copy_layers` for a caller outside the base; `target` then belongs to the base's root."""
    from jubako.image.inbase import run_in_base

    run_in_base(paths, "jubako.image.copying:copy_layers", {"layers": layers, "target": target})


class _Copier:
    """One layer on its way; hard links within it stay hard links."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._links: dict[int, str] = {}

    def directory(self, source: int, target: int, path: str) -> None:
        """Lay the directory `source` over `target`, which is `path` below the top."""
        for name in sorted(os.listdir(source)):
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._below(source, target, name, path)
                continue
            _remove(target, name)
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                continue
            if status.st_nlink == 1 or not self._link(target, name, path, status.st_ino):
                _copy_entry(source, target, name, status)
        _give_metadata(source, target)

    def _below(self, source: int, target: int, name: str, path: str) -> None:
        below = os.open(name, _DIRECTORY, dir_fd=source)
        try:
            if _is_opaque(below) or not _is_directory(target, name):
                _remove(target, name)
                os.mkdir(name, 0o700, dir_fd=target)
            into = os.open(name, _DIRECTORY, dir_fd=target)
            try:
                self.directory(below, into, f"{path}{name}/")
            finally:
                os.close(into)
        finally:
            os.close(below)

    def _link(self, target: int, name: str, path: str, inode: int) -> bool:
        """Link `name` to the first copy of the same file, if there is one."""
        first = self._links.setdefault(inode, path + name)
        if first == path + name:
            return False
        parent, _, first_name = first.rpartition("/")
        fd = openat2(self._top, parent or ".", os.O_PATH | os.O_DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        try:
            os.link(first_name, name, src_dir_fd=fd, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(fd)
        return True


def _copy_entry(source: int, target: int, name: str, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        _copy_file(source, target, name)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    elif stat.S_ISFIFO(status.st_mode):
        os.mkfifo(name, 0o600, dir_fd=target)
    else:
        raise OSError(errno.EINVAL, "a kind of file that no layer holds", name)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
    os.utime(name, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def _copy_file(source: int, target: int, name: str) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writer = os.open(name, flags, 0o600, dir_fd=target)
        try:
            _copy_data(reader, writer)
            _give_metadata(reader, writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_data(reader: int, writer: int) -> None:
    """Shared if the file system can, else copied with the holes kept (lseek(2), SEEK_DATA)."""
    import fcntl

    size = os.fstat(reader).st_size
    try:
        fcntl.ioctl(writer, _FICLONE, reader)
        return
    except OSError:
        pass
    at = 0
    while at < size:
        try:
            at = os.lseek(reader, at, os.SEEK_DATA)
        except OSError as failure:
            if failure.errno != errno.ENXIO:
                raise
            break
        end = os.lseek(reader, at, os.SEEK_HOLE)
        os.lseek(writer, at, os.SEEK_SET)
        while at < end:
            sent = os.sendfile(writer, reader, at, min(end - at, _CHUNK))
            if not sent:
                raise OSError(errno.EIO, "a layer's file became shorter")
            at += sent
    os.ftruncate(writer, size)


def _give_metadata(source: int, target: int) -> None:
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    for name in os.listxattr(source):
        if not name.startswith("user.overlay."):
            try:
                os.setxattr(target, name, os.getxattr(source, name))
            except OSError as failure:
                if failure.errno not in (errno.EPERM, errno.ENOTSUP):
                    raise
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, _OPAQUE) == b"y"
    except OSError:
        return False


def _is_directory(dir_fd: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _remove(dir_fd: int, name: str) -> None:
    from jubako.image.remove import remove_tree

    remove_tree(dir_fd, name)
