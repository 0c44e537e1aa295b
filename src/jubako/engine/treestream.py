"""A tree of files as a tar stream, written from and read into a directory that somebody hostile may be changing.

Everything is reached by descriptors, one component at a time, and no symbolic link is ever followed: not while packing,
where a container could swap a directory for a link to the host's (CVE-2018-15664), and not while unpacking, where a
link that came first could lead the files behind it elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile

from jubako.errors import JubakoError, UsageError
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    Ids = Callable[[int, int], tuple[int, int]]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 18


@record
class Placement:
    """Where a stream is unpacked: `path` below which directory is `open_directory`'s business.

    `contents` means that the top of the stream is the target directory itself; `name` is what a target inside an
    existing directory is called (empty: the stream's own names, as `tar -x` would have it).
    """

    path: str
    name: str = ""
    contents: bool = False


class Packer:
    """Writes one tree to a stream. `ids` turns an owner on disk into the one that the stream names."""

    def __init__(self, stream: IO[bytes], ids: Ids) -> None:
        self.archive = tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self.ids = ids
        self.links: dict[tuple[int, int], str] = {}
        self.skipped: list[str] = []

    def pack(self, directory: int, entry: str, name: str) -> None:
        """Write `entry` of `directory`, and what is below it, as `name`; an empty `entry` is the directory itself."""
        if not entry:
            self._directory(os.dup(directory), name)
            return
        status = os.stat(entry, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            self._directory(os.open(entry, _DIRECTORY, dir_fd=directory), name)
        elif stat.S_ISLNK(status.st_mode):
            member = self._member(name, status, tarfile.SYMTYPE)
            member.linkname = os.readlink(entry, dir_fd=directory)
            self.archive.addfile(member)
        elif stat.S_ISREG(status.st_mode):
            self._file(directory, entry, name)
        elif stat.S_ISFIFO(status.st_mode):
            self.archive.addfile(self._member(name, status, tarfile.FIFOTYPE))
        else:
            self.skipped.append(name)

    def finish(self) -> None:
        """Write the end of the archive."""
        self.archive.close()

    def abandon(self) -> None:
        """Write no end: what was begun is not whole."""
        self.archive.fileobj.closed = True  # type: ignore[attr-defined] # its finaliser would write one

    def _directory(self, fd: int, name: str) -> None:
        try:
            self.archive.addfile(self._member(name, os.fstat(fd), tarfile.DIRTYPE))
            for entry in sorted(os.listdir(fd)):
                try:
                    self.pack(fd, entry, f"{name}/{entry}")
                except FileNotFoundError:  # it was removed just now
                    continue
        finally:
            os.close(fd)

    def _file(self, directory: int, entry: str, name: str) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(entry, flags, dir_fd=directory), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                self.skipped.append(name)
                return
            known = self.links.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
            if known is not None:
                member = self._member(name, status, tarfile.LNKTYPE)
                member.linkname = known
                self.archive.addfile(member)
                return
            member = self._member(name, status, tarfile.REGTYPE)
            member.size = status.st_size
            self.archive.addfile(member, _Exactly(file, status.st_size))
            self.links[status.st_dev, status.st_ino] = name

    def _member(self, name: str, status: os.stat_result, kind: bytes) -> tarfile.TarInfo:
        """Made by hand: `gettarinfo` would look names up in the passwd of wherever we are (CVE-2019-14271)."""
        member = tarfile.TarInfo(name)
        member.type = kind
        member.mode = stat.S_IMODE(status.st_mode)
        member.mtime = status.st_mtime
        member.uid, member.gid = self.ids(status.st_uid, status.st_gid)
        return member


class _Exactly:
    """A file that has the size it had when its header was written, whatever is done to it meanwhile."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file = file
        self.left = size

    def read(self, size: int = -1) -> bytes:
        wanted = self.left if size < 0 else min(size, self.left)
        data = self.file.read(wanted) or bytes(wanted)
        self.left -= len(data)
        return data


class Unpacker:
    """Reads a stream into a tree. `ids` turns an owner that the stream names into the one on disk, or None keeps ours;
    `mode_mask` limits the modes."""

    def __init__(
        self, stream: IO[bytes], ids: Ids | None, mode_mask: int = 0o7777, *, compressed: bool = False
    ) -> None:
        try:
            self.archive = tarfile.open(fileobj=stream, mode="r|*" if compressed else "r|")  # noqa: SIM115
        except tarfile.TarError as failure:
            raise JubakoError("read the tar stream", reason=str(failure)) from failure
        self.ids = ids
        self.mode_mask = mode_mask
        self.skipped: list[str] = []
        self.times: list[tuple[tuple[str, ...], int, float]] = []

    def unpack(self, placement: Placement, open_directory: Callable[[str], int]) -> None:
        """Put the stream where `placement` says, as docker's cp does."""
        first = self._next()
        if first is None:
            return
        top = _parts(first.name)
        directory, name = self._target(placement, first, open_directory)
        try:
            member: tarfile.TarInfo | None = first
            while member is not None:
                parts = _parts(member.name)
                link = _parts(member.linkname) if member.islnk() else ()
                if name is not None:
                    parts, link = (*name, *parts[len(top) :]), (*name, *link[len(top) :])
                self._place(directory, member, parts, link)
                member = self._next()
            self._finish_directories(directory)
        finally:
            os.close(directory)

    def _next(self) -> tarfile.TarInfo | None:
        self.archive.members = []  # type: ignore[attr-defined] # it would keep them all
        try:
            return self.archive.next()
        except tarfile.TarError as failure:
            raise JubakoError("read the tar stream", reason=str(failure)) from failure

    def _target(
        self, placement: Placement, first: tarfile.TarInfo, open_directory: Callable[[str], int]
    ) -> tuple[int, tuple[str, ...] | None]:
        """The directory to unpack in, and what the stream's top is called there: None for the stream's own names, ()
        for the directory itself."""
        path = placement.path
        try:
            directory = open_directory(path)
        except FileNotFoundError:
            directory = -1
        except NotADirectoryError:
            if first.isdir():
                raise UsageError("copy a directory to", path, reason="it is a file") from None
            directory = -1
        if directory >= 0:
            if not placement.name:
                return directory, None
            return directory, () if placement.contents else (placement.name,)
        parent, _, name = path.rstrip("/").rpartition("/")
        if not placement.name or name in ("", ".", "..") or (path.endswith("/") and not first.isdir()):
            raise UsageError("copy to", path, reason="no such directory")
        try:
            return open_directory(parent or ("/" if path.startswith("/") else ".")), (name,)
        except (FileNotFoundError, NotADirectoryError) as failure:
            raise JubakoError.from_os_error("copy to", path, failure) from failure

    def _place(self, top: int, member: tarfile.TarInfo, parts: tuple[str, ...], link: tuple[str, ...]) -> None:
        if not parts:
            if member.isdir():
                return
            raise UsageError("unpack", member.name, reason="it has no name")
        parent = self._enter(top, parts[:-1])
        try:
            self._make(top, parent, parts, member, link)
        except OSError as failure:
            raise JubakoError.from_os_error("write", "/".join(parts), failure) from failure
        finally:
            os.close(parent)

    def _make(
        self, top: int, parent: int, parts: tuple[str, ...], member: tarfile.TarInfo, link: tuple[str, ...]
    ) -> None:
        name = parts[-1]
        if member.isdir():
            self._make_directory(parent, parts, member)
        elif member.issym():
            _clear(parent, name)
            os.symlink(member.linkname, name, dir_fd=parent)
            self._own(parent, name, member)
        elif member.islnk():
            source = self._enter(top, link[:-1])
            try:
                _clear(parent, name)
                os.link(link[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)
        elif member.isreg():
            self._make_file(parent, name, member)
        elif member.isfifo():
            _clear(parent, name)
            os.mkfifo(name, member.mode & self.mode_mask, dir_fd=parent)
            self._own(parent, name, member)
        else:
            self.skipped.append(member.name)

    def _make_directory(self, parent: int, parts: tuple[str, ...], member: tarfile.TarInfo) -> None:
        try:
            os.mkdir(parts[-1], 0o700, dir_fd=parent)
        except FileExistsError:
            fd = os.open(parts[-1], _DIRECTORY, dir_fd=parent)  # ENOTDIR, ELOOP: not what we may go into
            os.close(fd)
            return
        self._own(parent, parts[-1], member)
        self.times.append((parts, member.mode & self.mode_mask, member.mtime))

    def _make_file(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            _clear(parent, name)
            fd = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=parent)
        except OSError as failure:
            if failure.errno not in (errno.EBUSY, errno.EROFS):
                raise
            try:  # something is mounted on it, such as /etc/hosts: write into that
                fd = os.open(name, flags | os.O_TRUNC, dir_fd=parent)
            except FileNotFoundError:
                raise failure from None
        try:
            data = self.archive.extractfile(member)
            while data is not None and (piece := data.read(_CHUNK)):
                while piece:
                    piece = piece[os.write(fd, piece) :]
            if self.ids is not None:
                os.fchown(fd, *self.ids(member.uid, member.gid))
            os.fchmod(fd, member.mode & self.mode_mask)
            os.utime(fd, ns=_times(member.mtime))
        finally:
            os.close(fd)

    def _own(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        if self.ids is not None:
            os.chown(name, *self.ids(member.uid, member.gid), dir_fd=parent, follow_symlinks=False)

    def _enter(self, top: int, parts: tuple[str, ...]) -> int:
        """A descriptor of a directory below `top`; what is missing is made, a link is refused."""
        fd = os.dup(top)
        for part in parts:
            try:
                try:
                    following = os.open(part, _DIRECTORY, dir_fd=fd)
                except FileNotFoundError:
                    os.mkdir(part, 0o755, dir_fd=fd)
                    following = os.open(part, _DIRECTORY, dir_fd=fd)
            except OSError as failure:
                raise JubakoError.from_os_error("go into directory", "/".join(parts), failure) from failure
            finally:
                os.close(fd)
            fd = following
        return fd

    def _finish_directories(self, top: int) -> None:
        """Modes and times of directories come last: one may be read-only, and every file in it changes its time."""
        for parts, mode, mtime in reversed(self.times):
            fd = self._enter(top, parts)
            try:
                os.fchmod(fd, mode)
                os.utime(fd, ns=_times(mtime))
            finally:
                os.close(fd)


def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise UsageError("unpack", name, reason="it leads out of its directory")
    return parts


def _clear(parent: int, name: str) -> None:
    """Make room for anything but a directory; a directory in its place is an error (EISDIR)."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return


def _times(seconds: float) -> tuple[int, int]:
    nanoseconds = int(seconds * 1e9)
    return nanoseconds, nanoseconds
