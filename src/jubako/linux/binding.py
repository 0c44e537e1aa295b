"""Bind mounts whose attributes hold from the first instant: open_tree(2), mount_setattr(2), move_mount(2).

The detached copy of the source gets its attributes before it is attached, so there is never a moment at which a
read-only bind can be written. Kernels before 5.12 have no mount_setattr: there the bind is attached and remounted mount
by mount, which is only correct where nothing hostile runs yet, as in a container that is being made.
"""

from __future__ import annotations

import errno
import os

from jubako.linux.mount import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
    MS_BIND,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_NOSYMFOLLOW,
    MS_RDONLY,
    MS_REC,
    MS_RELATIME,
    MS_REMOUNT,
    MS_STRICTATIME,
    OPEN_TREE_CLONE,
    mount,
    mount_setattr,
    move_mount,
    open_tree,
)

_AS_FLAG = (
    (MOUNT_ATTR_RDONLY, MS_RDONLY),
    (MOUNT_ATTR_NOSUID, MS_NOSUID),
    (MOUNT_ATTR_NODEV, MS_NODEV),
    (MOUNT_ATTR_NOEXEC, MS_NOEXEC),
    (MOUNT_ATTR_NOATIME, MS_NOATIME),
    (MOUNT_ATTR_STRICTATIME, MS_STRICTATIME),
    (MOUNT_ATTR_NODIRATIME, MS_NODIRATIME),
    (MOUNT_ATTR_NOSYMFOLLOW, MS_NOSYMFOLLOW),
)
_OLD_KERNEL = (errno.ENOSYS, errno.EOPNOTSUPP)

Changes = tuple[tuple[int, int, int, bool], ...]
"""Calls of mount_setattr(2), each (set, clear, propagation, whether submounts too)."""


def clone_tree(source: str, source_fd: int, *, recursive: bool) -> int:
    """A detached copy of the mount at `source` (or, with an empty `source`, of what `source_fd` names)."""
    flags = OPEN_TREE_CLONE | (AT_RECURSIVE if recursive else 0) | (0 if source else AT_EMPTY_PATH)
    return open_tree(source_fd if not source else AT_FDCWD, source, flags)


def bind(
    source: str,
    target_fd: int,
    *,
    source_fd: int = -1,
    recursive: bool = True,
    set_: int = 0,
    clear: int = 0,
    recursive_attributes: bool = True,
    propagation: int = 0,
) -> None:
    """Bind `source` (or the mount that `source_fd` names, which must be in this mount namespace) onto `target_fd`.

    `set_` and `clear` are `MOUNT_ATTR_*`, `propagation` one of `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`;
    they reach the submounts too unless `recursive_attributes` is off.
    """
    try:
        tree = clone_tree(source, source_fd, recursive=recursive)
    except OSError as failure:
        if failure.errno not in _OLD_KERNEL:
            raise
        _bind_classic(source or f"/proc/self/fd/{source_fd}", target_fd, recursive, set_, clear, propagation)
        return
    try:
        if set_ or clear or propagation:
            deep = recursive and recursive_attributes
            mount_setattr(tree, set_=set_, clear=clear, propagation=propagation, recursive=deep)
        move_mount(tree, target_fd)
    except OSError as failure:
        if failure.errno not in _OLD_KERNEL:
            raise
        _bind_classic(source or f"/proc/self/fd/{source_fd}", target_fd, recursive, set_, clear, propagation)
    finally:
        os.close(tree)


def attach(tree: int, target_fd: int, *, set_: int = 0, clear: int = 0, propagation: int = 0) -> None:
    """Attach the detached copy `tree`, all of its mounts with these attributes; without mount_setattr right after."""
    try:
        mount_setattr(tree, set_=set_, clear=clear, propagation=propagation, recursive=True)
    except OSError as failure:
        if failure.errno not in _OLD_KERNEL:
            raise
        path = os.readlink(f"/proc/self/fd/{target_fd}")
        move_mount(tree, target_fd)
        _remount(path, set_, clear, propagation, recursive=True)
        return
    move_mount(tree, target_fd)


def attach_changed(tree: int, target_fd: int, changes: Changes) -> None:
    """Attach the detached copy `tree` with `changes` made in their order; without mount_setattr right after."""
    try:
        for set_, clear, propagation, recursive in changes:
            mount_setattr(tree, set_=set_, clear=clear, propagation=propagation, recursive=recursive)
    except OSError as failure:
        if failure.errno not in _OLD_KERNEL:
            raise
        path = os.readlink(f"/proc/self/fd/{target_fd}")
        move_mount(tree, target_fd)
        _remount_changed(path, changes)
        return
    move_mount(tree, target_fd)


def bind_changed(source: str, target_fd: int, *, recursive: bool, changes: Changes) -> int:
    """Bind `source` onto `target_fd` with `changes` made in their order, and answer a descriptor of the new mount; -1
    on a kernel without open_tree(2)."""
    try:
        tree = clone_tree(source, -1, recursive=recursive)
    except OSError as failure:
        if failure.errno not in _OLD_KERNEL:
            raise
        target = f"/proc/self/fd/{target_fd}"
        path = os.readlink(target)
        mount(source, target, None, MS_BIND | (MS_REC if recursive else 0))
        _remount_changed(path, changes)
        return -1
    try:
        attach_changed(tree, target_fd, changes)
    except OSError:
        os.close(tree)
        raise
    return tree


def _remount_changed(path: str, changes: Changes) -> None:
    for set_, clear, propagation, recursive in changes:
        _remount(path, set_, clear, propagation, bool(recursive))


def set_attributes(fd: int, *, set_: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False) -> None:
    """Change the attributes of the mount that `fd` names; on old kernels by remounting each mount at and below it."""
    try:
        mount_setattr(fd, set_=set_, clear=clear, propagation=propagation, recursive=recursive)
    except OSError as failure:
        if failure.errno not in _OLD_KERNEL:
            raise
        _remount(os.readlink(f"/proc/self/fd/{fd}"), set_, clear, propagation, recursive)


def _bind_classic(source: str, target_fd: int, recursive: bool, set_: int, clear: int, propagation: int) -> None:
    target = f"/proc/self/fd/{target_fd}"
    path = os.readlink(target)
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0))
    _remount(path, set_, clear, propagation, recursive)


def _remount(path: str, set_: int, clear: int, propagation: int, recursive: bool) -> None:
    for mount_point in _mounts_at(path, recursive):
        if set_ or clear:
            mount(None, mount_point, None, MS_REMOUNT | MS_BIND | _changed_flags(mount_point, set_, clear))
    if propagation:
        mount(None, path, None, propagation | (MS_REC if recursive else 0))


def _changed_flags(mount_point: str, set_: int, clear: int) -> int:
    """The mount's present flags (a bind remount must repeat those that are locked) with the changes made."""
    present = os.statvfs(mount_point).f_flag  # ST_* have the values of MS_* for the flags wanted here
    flags = present & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME)
    if present & 4096:  # ST_RELATIME
        flags |= MS_RELATIME
    if clear & MOUNT_ATTR__ATIME:
        flags &= ~(MS_NOATIME | MS_RELATIME)
        if not set_ & MOUNT_ATTR__ATIME:  # relatime is no attribute, and a remount that says nothing keeps what is
            flags |= MS_RELATIME
    for attribute, flag in _AS_FLAG:
        if clear & attribute:
            flags &= ~flag
        if set_ & attribute:
            flags |= flag
    return flags


def _mounts_at(path: str, recursive: bool) -> list[str]:
    if not recursive:
        return [path]
    with open("/proc/self/mountinfo", "rb", buffering=0) as file:
        text = b"".join(iter(lambda: file.read(1 << 16), b""))
    points = [os.fsdecode(unescape(line.split()[4])) for line in text.splitlines()]
    return [point for point in dict.fromkeys(points) if point == path or point.startswith(path.rstrip("/") + "/")]


def unescape(field: bytes) -> bytes:
    for escaped, plain in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(escaped, plain)
    return field
