"""`cp`: files between the host and a container, as a tar stream between this process and a child inside.

The rules for names are those of docker's cp: into a directory that exists, else under the new name; `SRC/.` is what the
directory holds. What comes out belongs to the caller; what goes in belongs to the container's root, or with `archive`
keeps its owners.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat

from jubako.engine import store
from jubako.engine.rootaccess import Inside, RootChild, work_in_root
from jubako.engine.treestream import Packer, Placement, Unpacker
from jubako.errors import JubakoError, NotFoundError
from jubako.linux.openat2 import MAX_LINKS
from jubako.paths import Paths
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

STREAM = "-"


@record
class CopyOptions:
    """`follow_link` copies what the source links to; `archive` keeps owners."""

    follow_link: bool = False
    archive: bool = False


def copy_out(paths: Paths, container: store.Container, source: str, target: str, options: CopyOptions) -> list[str]:
    """Copy `source` of the container to `target` of the host (`-`: standard output, as tar); what was skipped."""
    return _copy(paths, container, lambda held: _copy_out(paths, held, source, target, options))


def copy_in(paths: Paths, container: store.Container, source: str, target: str, options: CopyOptions) -> list[str]:
    """Copy `source` of the host (`-`: standard input, as tar) to `target` in the container; what was skipped."""
    _refuse_mounted(container, target)
    return _copy(paths, container, lambda held: _copy_in(paths, held, source, target, options))


def _copy(paths: Paths, container: store.Container, work: Callable[[store.Container], list[str]]) -> list[str]:
    """Do `work` while the container stays what it is: one that does not run is locked."""
    if container.running:
        return work(container)
    with store.Lock(container.directory):
        now = store.read_container(paths, container.id)
        if now is None:
            raise NotFoundError("copy files of container", container.name, reason="it has just been removed")
        if not now.running:
            return work(now)
    return work(now)


def _copy_out(paths: Paths, container: store.Container, source: str, target: str, options: CopyOptions) -> list[str]:
    reader, writer = (-1, os.dup(1)) if target == STREAM else os.pipe2(os.O_CLOEXEC)
    name = "." if _is_contents(source) else posixpath.basename(source.rstrip("/")) or "."

    def pack(inside: Inside) -> dict[str, Any]:
        directory, entry = _open_source(inside, source, options.follow_link)
        with open(writer, "wb") as stream:
            packer = Packer(stream, inside.to_container)
            try:
                packer.pack(directory, entry, name)
                packer.finish()
            except BaseException:
                packer.abandon()
                raise
        return {"skipped": packer.skipped}

    try:
        child = work_in_root(paths, container, pack, (writer,))
    except BaseException:
        if reader >= 0:
            os.close(reader)
        raise
    finally:
        os.close(writer)
    if reader < 0:
        return _skipped(child)
    skipped: list[str] = []
    failure = None
    try:
        with open(reader, "rb") as stream:
            ids = _same if options.archive and os.geteuid() == 0 else None
            unpacker = Unpacker(stream, ids, 0o777)
            unpacker.unpack(Placement(target, name, _is_contents(source)), _open_host_directory)
            skipped = unpacker.skipped
    except JubakoError as met:
        failure = met
    try:
        told = child.result()  # the child's own failure is the cause of ours, unless it only found the pipe closed
    except JubakoError as theirs:
        if failure is not None and theirs.errno == errno.EPIPE:
            raise failure from theirs
        raise
    if failure is not None:
        raise failure
    return [*told["skipped"], *skipped]


def _copy_in(paths: Paths, container: store.Container, source: str, target: str, options: CopyOptions) -> list[str]:
    streamed = source == STREAM
    reader, writer = (os.dup(0), -1) if streamed else os.pipe2(os.O_CLOEXEC)
    name = posixpath.basename(os.path.abspath(source)) or "."
    placement = Placement(target, "" if streamed else name, _is_contents(source))

    def unpack(inside: Inside) -> dict[str, Any]:
        owners = inside.to_disk if streamed or options.archive else lambda uid, gid: inside.to_disk(0, 0)
        unpacker.ids = owners
        unpacker.unpack(placement, inside.open_directory)
        return {"skipped": unpacker.skipped}

    opened: tuple[int, str] | None = None
    child: RootChild | None = None
    try:
        if not streamed:
            opened = _open_host_source(source, options.follow_link)
        stream = open(reader, "rb", closefd=False)  # noqa: SIM115 - the child's
        unpacker = _LateUnpacker(stream, compressed=streamed)
        child = work_in_root(paths, container, unpack, (reader,))
    finally:
        os.close(reader)
        if child is None and writer >= 0:
            os.close(writer)
        if child is None and opened is not None:
            os.close(opened[0])
    if opened is None:
        return _skipped(child)
    packer = None
    try:
        with open(writer, "wb") as out:
            packer = Packer(out, _same)
            packer.pack(*opened, name)
            packer.finish()
    except BrokenPipeError:  # the child has failed, and says why
        if packer is not None:
            packer.abandon()
    except BaseException:
        if packer is not None:
            packer.abandon()
        raise
    finally:
        os.close(opened[0])
    return [*_skipped(child), *(packer.skipped if packer is not None else ())]


class _LateUnpacker:
    """An `Unpacker` that reads the stream's first block in the child, but has all modules that it may need before."""

    def __init__(self, stream: Any, *, compressed: bool) -> None:
        import bz2  # noqa: F401 - tarfile imports them when it meets such a stream
        import lzma  # noqa: F401
        import zlib  # noqa: F401

        self.stream = stream
        self.compressed = compressed
        self.ids: Any = None
        self.skipped: list[str] = []

    def unpack(self, placement: Placement, open_directory: Callable[[str], int]) -> None:
        unpacker = Unpacker(self.stream, self.ids, compressed=self.compressed)
        self.skipped = unpacker.skipped
        unpacker.unpack(placement, open_directory)


def _skipped(child: RootChild) -> list[str]:
    return list(child.result()["skipped"])


def _open_source(inside: Inside, source: str, follow: bool) -> tuple[int, str]:
    """(a directory, the entry of it to copy) for a path of the container."""
    path = "/" + source.lstrip("/")
    for _link in range(MAX_LINKS):
        if path.endswith(("/", "/.", "/..")):
            return inside.open_directory(path), ""
        parent, _, entry = path.rpartition("/")
        directory = inside.open_directory(parent)
        status = os.stat(entry, dir_fd=directory, follow_symlinks=False)
        if not follow or not stat.S_ISLNK(status.st_mode):
            return directory, entry
        path = posixpath.join(parent, os.readlink(entry, dir_fd=directory))
        os.close(directory)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), source)


def _open_host_source(source: str, follow: bool) -> tuple[int, str]:
    """The same for a path of the host."""
    path = os.path.realpath(source) if follow else source
    try:
        if path.endswith(("/", "/.", "/..")) or path in (".", ".."):
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), ""
        os.lstat(path)
        parent, entry = os.path.split(path)
        return os.open(parent or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), entry
    except OSError as failure:
        raise JubakoError.from_os_error("copy", source, failure) from failure


def _open_host_directory(path: str) -> int:
    """A directory that the caller named: their own links are followed."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _is_contents(source: str) -> bool:
    return source == "." or source.endswith("/.")


def _refuse_mounted(container: store.Container, target: str) -> None:
    """A container that does not run has no volumes: what is put there would be hidden at the next start."""
    if container.running:
        return
    from jubako.engine.launch import read_request

    path = posixpath.normpath("/" + target.lstrip("/")) + "/"
    for each in read_request(container).spec.mounts:
        if each.type == "bind" and path.startswith(each.destination.rstrip("/") + "/"):
            raise JubakoError(
                "copy to", target, reason=f"the container does not run, and {each.destination} is a volume of it",
                hint="copy it there, or start the container first",
            )  # fmt: skip


def _same(uid: int, gid: int) -> tuple[int, int]:
    return uid, gid
