"""Where images come from: a tar archive (a file, a pipe, compressed or not) or an OCI layout directory.

All are read through one interface, small files and streams by name. A tar archive is indexed in one pass that skips
the data; what cannot be sought in (a pipe, a compressed archive) is first brought into the workplace, since
`manifest.json` often stands last.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Protocol

from jubako.errors import JubakoError, NotFoundError, UsageError
from jubako.image.compression import PIECE, CompressionFault, chunks_of, decompressed, detect
from jubako.image.ingest import write_all
from jubako.image.progress import Progress, Report
from jubako.image.store import Workplace
from jubako.image.tarstream import FILE, HARD_LINK, SYMLINK, TarFault, TarReader

MAX_DOCUMENT = 8 << 20
STDIN = "-"


class Source(Protocol):
    """Files by name; `label` names the source in messages, `stem` is its base name, for tags without a name."""

    label: str
    stem: str

    def has(self, name: str) -> bool: ...

    def size(self, name: str) -> int: ...

    def document(self, name: str) -> bytes:
        """A small file (a manifest, a configuration)."""

    def chunks(self, name: str) -> Iterator[bytes]: ...

    def close(self) -> None: ...


def open_source(place: Workplace, path: str, report: Report) -> Source:
    """The archive or layout directory at `path`; `-` is standard input, which must not be a terminal."""
    if path != STDIN and os.path.isdir(path):
        return LayoutDirectory(path)
    fd, label = open_stream(path)
    try:
        return TarSource(_seekable(place, fd, label, report), label, _stem(path))
    finally:
        os.close(fd)


def open_stream(path: str) -> tuple[int, str]:
    """A descriptor to read the file `path`, or standard input, and its name for messages."""
    if path == STDIN:
        try:
            fd = os.dup(0)
        except OSError as failure:
            raise JubakoError.from_os_error("read", "standard input", failure) from None
        if os.isatty(fd):
            os.close(fd)
            raise UsageError(
                "read",
                "standard input",
                reason="it is a terminal, not an archive",
                hint="give a file with -i FILE, or redirect one: < FILE",
            )
        label = "standard input"
    else:
        label = path
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFoundError("open", path, errno=errno.ENOENT) from None
        except OSError as failure:
            raise JubakoError.from_os_error("open", path, failure) from None
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError("read", label, reason="it is a directory, not an archive")
    return fd, label


class TarSource:
    """A seekable, uncompressed tar archive; owns its descriptor."""

    def __init__(self, fd: int, label: str, stem: str) -> None:
        self.label = label
        self.stem = stem
        self._fd = fd
        self._members: dict[str, tuple[int, int]] = {}
        try:
            self._index()
        except BaseException:
            os.close(fd)
            raise

    def has(self, name: str) -> bool:
        return name in self._members

    def size(self, name: str) -> int:
        return self._find(name)[1]

    def document(self, name: str) -> bytes:
        offset, size = self._find(name)
        if size > MAX_DOCUMENT:
            raise JubakoError("read", self.label, reason=f"{name} is too large ({size} bytes)")
        return os.pread(self._fd, size, offset)

    def chunks(self, name: str) -> Iterator[bytes]:
        offset, left = self._find(name)
        while left:
            chunk = os.pread(self._fd, min(left, PIECE), offset)
            if not chunk:
                raise JubakoError("read", self.label, reason=f"it ends in the middle of {name}")
            offset, left = offset + len(chunk), left - len(chunk)
            yield chunk

    def close(self) -> None:
        os.close(self._fd)

    def _find(self, name: str) -> tuple[int, int]:
        if name not in self._members:
            raise JubakoError(
                "read", self.label, reason=f"it has no {name}", hint="the archive is incomplete or damaged"
            )
        return self._members[name]

    def _index(self) -> None:
        """Where each file lies. `docker save` of old wrote links for layers that images share."""
        links: dict[str, str] = {}
        total = os.fstat(self._fd).st_size
        with open(self._fd, "rb", buffering=1 << 16, closefd=False) as file:
            file.seek(0)

            def skip(count: int) -> None:
                if file.seek(count, os.SEEK_CUR) > total:
                    raise TarFault(f"the archive is truncated: it ends in the middle of a member, at byte {total}")

            try:
                for member in TarReader(file.read, skip=skip):
                    name = os.fsdecode(member.name)
                    clean = _clean(name)
                    if clean is None:
                        raise JubakoError(
                            "read", self.label, reason=f"the member {member.shown} leads outside the archive"
                        )
                    links.pop(clean, None)
                    self._members.pop(clean, None)
                    if member.kind == FILE and member.sparse is None:
                        self._members[clean] = (member.offset, member.size)
                    elif member.kind == SYMLINK:
                        links[clean] = os.path.normpath(os.path.join(os.path.dirname(clean), os.fsdecode(member.link)))
                    elif member.kind == HARD_LINK:
                        links[clean] = os.path.normpath(os.fsdecode(member.link))
            except TarFault as fault:
                raise JubakoError("read", self.label, reason=str(fault)) from None
        for name, target in links.items():
            if target in self._members:
                self._members[name] = self._members[target]


class LayoutDirectory:
    """An OCI image layout (image-spec 1.1, image-layout.md) that lies unpacked on disk."""

    def __init__(self, path: str) -> None:
        self.label = path
        self.stem = _stem(os.path.abspath(path))
        self._path = path

    def has(self, name: str) -> bool:
        return os.path.isfile(f"{self._path}/{name}")

    def size(self, name: str) -> int:
        fd = self._open(name)
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def document(self, name: str) -> bytes:
        fd = self._open(name)
        with open(fd, "rb") as file:
            data = file.read(MAX_DOCUMENT + 1)
        if len(data) > MAX_DOCUMENT:
            raise JubakoError("read", f"{self._path}/{name}", reason="it is too large")
        return data

    def chunks(self, name: str) -> Iterator[bytes]:
        fd = self._open(name)
        try:
            yield from chunks_of(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        pass

    def _open(self, name: str) -> int:
        path = f"{self._path}/{name}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not hang us
        except FileNotFoundError:
            raise JubakoError("read", self._path, reason=f"it has no {name}", hint="the layout is incomplete") from None
        except OSError as failure:
            raise JubakoError.from_os_error("read", path, failure) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise JubakoError("read", path, reason="it is not a regular file")
        return fd


def counted(chunks: Iterator[bytes], report: Report, progress: Progress) -> Iterator[bytes]:
    """Pass `chunks` on and report how many bytes have gone by."""
    done = 0
    for chunk in chunks:
        done += len(chunk)
        yield chunk
        report(Progress(progress.stage, progress.subject, progress.number, progress.count, done, progress.total))


def _seekable(place: Workplace, fd: int, label: str, report: Report) -> int:
    """A descriptor of the plain archive: the file itself, or a copy in the workplace without compression."""
    status = os.fstat(fd)
    total = status.st_size if stat.S_ISREG(status.st_mode) else 0
    if stat.S_ISREG(status.st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == 0 and not detect(os.pread(fd, 6, 0)):
        return os.dup(fd)
    path = place.new_path()
    copy = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.unlink(path)
        for piece in decompressed(counted(chunks_of(fd), report, Progress("read", label, total=total))):
            write_all(copy, piece)
    except CompressionFault as fault:
        os.close(copy)
        raise JubakoError("read", label, reason=str(fault)) from None
    except OSError as failure:
        os.close(copy)
        hint = "make room on the file system of the image store" if failure.errno == errno.ENOSPC else ""
        raise JubakoError.from_os_error("read", label, failure, hint) from None
    except BaseException:
        os.close(copy)
        raise
    return copy


def _clean(name: str) -> str | None:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if name.startswith("/") or ".." in parts else "/".join(parts)


def _stem(path: str) -> str:
    """`busybox` of `/x/busybox.tar.gz`."""
    base = os.path.basename(path.rstrip("/"))
    for suffix in (".gz", ".tgz", ".zst", ".xz", ".bz2"):
        base = base.removesuffix(suffix)
    return base.removesuffix(".tar").removesuffix(".oci")
