"""The image store on disk, and the rules by which any number of commands may change it at once.

    data/blobs/sha256/HEX      configurations and compressed layers, as a registry would hold them
    data/layers/HEX/fs         an unpacked layer, named by its diff id, shared by images
    data/layers/HEX/layer.json what is known of it: its blob, its size
    data/images/HEX.json       one prepared file an image: all that a run needs
    data/images/names.json     complete name -> image id
    data/images/lock           held exclusively (flock(2)) while anything above changes
    data/tmp/NAME/             work in progress; its `lock` file is held by whoever works there

Everything enters by a rename of something complete. A directory below `tmp` whose lock nobody holds was left by a
killed command, and the next one that changes the store removes it. If a command dies between the renames, the mark
`publishing` is found, and what no image refers to is removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jubako import jsontext
from jubako.errors import JubakoError
from jubako.image.inbase import base_owner, run_in_base
from jubako.image.reference import is_hex
from jubako.image.resolve import list_ids, read_names, read_prepared
from jubako.paths import Paths, make_directory

ROOMS = ("blobs/sha256", "layers", "images", "tmp")


class Workplace:
    """A directory of one command's own below `data/tmp`, on the store's file system; gone when the command ends."""

    def __init__(self, path: str, lock_fd: int) -> None:
        self.path = path
        self.lock_fd = lock_fd
        self._count = 0

    def new_path(self) -> str:
        """A name in here that is not taken."""
        self._count += 1
        return f"{self.path}/{self._count}"

    def new_tree(self) -> str:
        """A new directory `fs`, in one of its own, for files of the base's ids."""
        path = self.new_path()
        os.mkdir(path, 0o711 if os.geteuid() == 0 else 0o700)  # root's base has other ids
        os.mkdir(f"{path}/fs", 0o755)
        return f"{path}/fs"


@contextmanager
def locked(paths: Paths) -> Iterator[list[Workplace]]:
    """Hold the store alone. Whatever an earlier command left half done is put right first.

    Gives a list of places to remove afterwards, when others may go on: a large tree takes seconds.
    """
    for room in ROOMS:
        _make_room(paths, room)
    doomed: list[Workplace] = []
    abandoned: list[Workplace] = []
    fd = os.open(f"{paths.data}/images/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        abandoned = _abandoned(paths)
        if os.path.exists(_mark(paths)):
            remove_unreferenced(paths, doomed)
            os.unlink(_mark(paths))
        yield doomed
    finally:
        os.close(fd)
        for place in abandoned:
            try:
                _discard(paths, place)
            except JubakoError:  # of no concern to this command; the next one tries again
                pass
        for place in doomed:
            _discard(paths, place)


@contextmanager
def workplace(paths: Paths) -> Iterator[Workplace]:
    """A place to prepare things in; it is removed in the end, whatever happens."""
    with locked(paths):
        path = f"{paths.data}/tmp/{os.urandom(8).hex()}"
        os.mkdir(path, 0o700)
        place = _occupy(path)
    try:
        yield place
    finally:
        _discard(paths, place)


@contextmanager
def publishing(paths: Paths) -> Iterator[None]:
    """Within `locked`: a series of renames that a crash may interrupt anywhere."""
    os.close(os.open(_mark(paths), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    yield
    os.unlink(_mark(paths))


def layer_path(paths: Paths, layer: str) -> str:
    return f"{paths.data}/layers/{layer}"


def blob_path(paths: Paths, digest: str) -> str:
    return f"{paths.data}/blobs/sha256/{digest.removeprefix('sha256:')}"


def read_layer(paths: Paths, layer: str) -> dict[str, Any] | None:
    """What is known of the layer with that diff id (hexadecimal); None if the store has it not."""
    try:
        with open(f"{layer_path(paths, layer)}/layer.json", "rb") as file:
            document: dict[str, Any] = jsontext.loads(file.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as failure:
        raise JubakoError("read layer", layer, reason=str(failure), hint="the image store was damaged") from None
    return document


def write_atomically(path: str, data: bytes) -> None:
    """Replace the file `path` by one with `data`, so that a reader sees the old or the new and a crash leaves one of
    them.
    """
    temporary = f"{path}.new"  # only the holder of the lock writes, so one name is enough
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            rest = data
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as failure:
        os.unlink(temporary)
        raise JubakoError.from_os_error("write", path, failure) from None


def write_prepared(paths: Paths, document: dict[str, Any]) -> None:
    """Within `locked`: write an image's prepared file."""
    write_atomically(f"{paths.data}/images/{document['id']}.json", jsontext.dumps(document).encode())


def write_names(paths: Paths, names: dict[str, str]) -> None:
    """Within `locked`: replace the table of names."""
    ordered = {name: names[name] for name in sorted(names)}
    write_atomically(f"{paths.data}/images/names.json", jsontext.dumps(ordered, indent=1).encode())


def remove_unreferenced(paths: Paths, doomed: list[Workplace]) -> int:
    """Within `locked`, whose list is `doomed`: remove layers, blobs and names that no image refers to. Returns the
    bytes of layers given back.
    """
    layers: set[str] = set()
    blobs: set[str] = set()
    images = list_ids(paths)
    for image_id in images:
        blobs.add(image_id)
        layers.update(read_prepared(paths, image_id)["layers"])
    freed = 0
    for layer in _hex_entries(f"{paths.data}/layers"):
        known = read_layer(paths, layer)
        if layer in layers:
            if known is not None:
                blobs.add(known["blob"]["digest"].removeprefix("sha256:"))
            continue
        freed += known["size"] if known else 0
        hidden = f"{paths.data}/tmp/{os.urandom(8).hex()}"
        os.rename(layer_path(paths, layer), hidden)
        doomed.append(_occupy(hidden))
    for blob in _hex_entries(f"{paths.data}/blobs/sha256"):
        if blob not in blobs:
            os.unlink(blob_path(paths, blob))
    names = read_names(paths)
    kept = {name: image_id for name, image_id in names.items() if image_id in images}
    if kept != names:
        write_names(paths, kept)
    for leftover in os.listdir(f"{paths.data}/images"):
        if leftover.endswith(".new"):
            os.unlink(f"{paths.data}/images/{leftover}")
    return freed


def _occupy(path: str) -> Workplace:
    """Within `locked`: say of a directory below `tmp` that this command works there."""
    lock_fd = os.open(f"{path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock_fd, fcntl.LOCK_EX)
    return Workplace(path, lock_fd)


def _abandoned(paths: Paths) -> list[Workplace]:
    """Within `locked`: the workplaces of commands that are gone, now this command's. A held lock says that somebody is
    at work.
    """
    found = []
    for name in os.listdir(f"{paths.data}/tmp"):
        path = f"{paths.data}/tmp/{name}"
        try:
            fd = os.open(f"{path}/lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            if not _remove_empty(path):
                found.append(_occupy(path))
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
        else:
            found.append(Workplace(path, fd))
    return found


def _remove_empty(path: str) -> bool:
    """Remove a directory that its owner has all but removed; False if it still holds something."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as failure:
        if failure.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


def _discard(paths: Paths, place: Workplace) -> None:
    """Remove a workplace: trees of the base's ids inside the base, files of ours here, and last of all its lock."""
    from jubako.image.remove import remove_tree

    try:
        top = os.open(place.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for tree in _trees(top):
                fd = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
                try:
                    keep = (fd, place.lock_fd)
                    run_in_base(paths, "jubako.image.remove:empty_handle", {"handle": fd}, keep)
                finally:
                    os.close(fd)
            for name in os.listdir(top):
                if name != "lock":
                    remove_tree(top, name)
            os.unlink("lock", dir_fd=top)
        finally:
            os.close(top)
        _remove_empty(place.path)
    finally:
        os.close(place.lock_fd)


def _trees(top: int) -> list[str]:
    """The unpacked trees in a workplace or a layer: every directory called `fs`, at the top or one below it."""
    found = []
    for entry in os.scandir(top):
        if not entry.is_dir(follow_symlinks=False):
            continue
        if entry.name == "fs":
            found.append("fs")
        else:
            try:
                os.stat(f"{entry.name}/fs", dir_fd=top, follow_symlinks=False)
            except FileNotFoundError:
                continue
            found.append(f"{entry.name}/fs")
    return found


def _hex_entries(directory: str) -> list[str]:
    return sorted(entry for entry in os.listdir(directory) if is_hex(entry, 64))


def _mark(paths: Paths) -> str:
    return f"{paths.data}/images/publishing"


def _make_room(paths: Paths, room: str) -> None:
    """Make a room of the store. Root's layers are mounted from its base, which has other ids: that base's root may pass
    through, but no other user, or set-uid files of images would be theirs to run.
    """
    path = paths.data
    if not os.path.isdir(path):
        make_directory(path, 0o711 if os.geteuid() == 0 else 0o700)
    for part in room.split("/"):
        path = f"{path}/{part}"
        if not os.path.isdir(path):
            make_directory(path, 0o700)
            if room == "layers" and os.geteuid() == 0:
                os.chown(path, 0, base_owner(paths)[1])
                os.chmod(path, 0o710)
