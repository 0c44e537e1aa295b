"""Removing what a container left on disk. Its layer belongs to subordinate ids: that part is done inside the base."""

from __future__ import annotations

import os

from jubako.engine import store
from jubako.engine.reserve import release_name
from jubako.paths import Paths


def remove_directories(paths: Paths, container: store.Container, *, inside: bool) -> None:
    """Remove the container's directories and let go of its name. `inside` says that this process may write files of
    all of the base's ids already, as a supervisor may."""
    document = store.read_described(container.directory) or container.document
    called = str(document.get("name", container.name))
    remove_run_directory(store.run_directory(paths, container.id))
    layered = [
        name for name in ("layer", "root", "root.new", "merged") if os.path.lexists(f"{container.directory}/{name}")
    ]
    if layered:
        if inside:
            _unmount(f"{container.directory}/merged")
        if inside or os.geteuid() == 0:
            _remove_trees(container.directory, layered)
        else:
            from jubako.runtime.base import in_base

            in_base(paths, lambda: _remove_trees(container.directory, layered))
    # the state goes last but for the directory: as long as it is there, whoever comes next knows what to finish
    try:
        for name in sorted(os.listdir(container.directory), key=lambda name: name == "state.json"):
            os.unlink(f"{container.directory}/{name}")
        os.rmdir(container.directory)
    except FileNotFoundError:
        pass
    release_name(paths, container.id, called)


def remove_run_directory(directory: str) -> None:
    """Remove a container's socket and generated files."""
    try:
        for name in os.listdir(directory):
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)
    except FileNotFoundError:
        return


def _unmount(path: str) -> None:
    """The supervisor's own mount of fuse-overlayfs; it is not there for other roots."""
    from jubako.linux.mount import MNT_DETACH, umount

    try:
        umount(path, MNT_DETACH)
    except OSError:
        return


def _remove_trees(directory: str, names: list[str]) -> None:
    from jubako.image.remove import remove_tree

    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            remove_tree(fd, name)
    finally:
        os.close(fd)
