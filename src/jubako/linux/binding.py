"""Bind mounts whose attributes hold from the first instant: open_tree(2), mount_setattr(2), move_mount(2).

The detached copy of the source gets its attributes before it is attached, so there is never a moment at which a
read-only bind can be written. Kernels before 5.12 have no mount_setattr: there the bind is attached and remounted mount
by mount, each through a descriptor that is known to be of the new mount. Somebody who shares a directory on the way
could exchange it meanwhile, and a path would lead to another mount while this one stays as it was.
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
    mount_id,
    mount_setattr,
    mount_table,
    move_mount,
    open_tree,
)
from jubako.linux.openat2 import open_in

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
    changes = ((set_, clear, propagation, recursive and recursive_attributes),)
    tree = -1
    try:
        tree = clone_tree(source, source_fd, recursive=recursive)
        attach_changed(tree, target_fd, changes)
    except OSError as failure:
        if failure.errno not in _OLD_KERNEL:
            raise
        os.close(_bind_classic(source or f"/proc/self/fd/{source_fd}", target_fd, recursive, changes))
    finally:
        if tree >= 0:
            os.close(tree)


def attach(tree: int, target_fd: int, *, set_: int = 0, clear: int = 0, propagation: int = 0) -> None:
    """Attach the detached copy `tree`, all of its mounts with these attributes; without mount_setattr right after."""
    try:
        mount_setattr(tree, set_=set_, clear=clear, propagation=propagation, recursive=True)
    except OSError as failure:
        if failure.errno not in _OLD_KERNEL:
            raise
        move_mount(tree, target_fd)
        _remount(tree, ((set_, clear, propagation, True),))
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
        move_mount(tree, target_fd)
        _remount(tree, changes)
        return
    move_mount(tree, target_fd)


def bind_changed(source: str, target_fd: int, *, recursive: bool, changes: Changes) -> int:
    """Bind `source` onto `target_fd` with `changes` made in their order, and answer a descriptor of the new mount."""
    try:
        tree = clone_tree(source, -1, recursive=recursive)
    except OSError as failure:
        if failure.errno not in _OLD_KERNEL:
            raise
        return _bind_classic(source, target_fd, recursive, changes)
    try:
        attach_changed(tree, target_fd, changes)
    except OSError as failure:
        os.close(tree)
        if failure.errno not in _OLD_KERNEL:
            raise
        return _bind_classic(source, target_fd, recursive, changes)
    return tree


def set_attributes(
    fd: int, *, set_: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False, path: str = ""
) -> None:
    """Change the attributes of the mount that `fd` names; on old kernels by remounting each mount at and below it, at
    `path` where that can be no other's and /proc may be anybody's."""
    try:
        mount_setattr(fd, set_=set_, clear=clear, propagation=propagation, recursive=recursive)
    except OSError as failure:
        if failure.errno not in _OLD_KERNEL:
            raise
        _remount(fd, ((set_, clear, propagation, recursive),), path)


def mount_ids() -> frozenset[int]:
    """The numbers of all mounts that there are."""
    return frozenset(number for number, _parent, _point in mount_table())


def _reach(fd: int, before: frozenset[int]) -> int:
    """A descriptor (`O_PATH`) of what was just mounted on the directory or file `fd`, by mount(2), which answers none;
    `before` are the numbers of the mounts until then. Raises `OSError` where the path leads elsewhere by now."""
    path = os.readlink(f"/proc/self/fd/{fd}")
    found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    if mount_id(found) in before:
        os.close(found)
        raise OSError(errno.EXDEV, "the mount point was exchanged while it was mounted on", path)
    return found


def _bind_classic(source: str, target_fd: int, recursive: bool, changes: Changes) -> int:
    before = mount_ids()
    mount(source, f"/proc/self/fd/{target_fd}", None, MS_BIND | (MS_REC if recursive else 0))
    tree = _reach(target_fd, before)
    try:
        _remount(tree, changes)
    except OSError:
        os.close(tree)
        raise
    return tree


def _remount(fd: int, changes: Changes, path: str = "") -> None:
    """Change the mount that `fd` is of, and those below it where that is asked for, in the changes' order."""
    top = path or f"/proc/self/fd/{fd}"
    below: list[int] = []
    try:
        if any(recursive and (set_ or clear) for set_, clear, _propagation, recursive in changes):
            below = _mounts_below(fd)
        for set_, clear, propagation, recursive in changes:
            for each in (fd, *(below if recursive else ())):
                if set_ or clear:
                    flags = MS_REMOUNT | MS_BIND | _changed_flags(os.fstatvfs(each).f_flag, set_, clear)
                    mount(None, top if each == fd else f"/proc/self/fd/{each}", None, flags)
            if propagation:
                mount(None, top, None, propagation | (MS_REC if recursive else 0))
    finally:
        for each in below:
            os.close(each)


def _changed_flags(present: int, set_: int, clear: int) -> int:
    """The mount's present flags (a bind remount must repeat those that are locked) with the changes made."""
    # ST_* have the values of MS_* for the flags wanted here
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


def _mounts_below(fd: int) -> list[int]:
    """A descriptor of each mount on that of `fd`, or on one of those; what another covers cannot be reached."""
    table, top = mount_table(), mount_id(fd)
    family, grew = {top}, True
    while grew:
        more = {number for number, parent, _point in table if parent in family} - family
        family |= more
        grew = bool(more)
    points = {number: there for number, _parent, there in table}
    covered = {parent for _number, parent, there in table if points.get(parent) == there}
    point = points.get(top, "").rstrip("/")
    found: list[int] = []
    try:
        for number, _parent, there in table:
            if number == top or number not in family or number in covered:
                continue
            found.append(open_in(fd, there[len(point) :], os.O_PATH))
            if mount_id(found[-1]) != number:
                raise OSError(errno.EXDEV, "a mount point was exchanged while it was changed", there)
    except OSError:
        for each in found:
            os.close(each)
        raise
    return found
