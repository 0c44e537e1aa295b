"""Where something is mounted: mount points below the root, found, made and looked at again afterwards.

Whoever filled the root, or shares a volume of it, may exchange directories and links at any moment. So a mount point is
a descriptor below the root; once mounted on, its path is opened again and has to lead to the new mount; and those of
/proc, /sys and /dev must be plain directories. What is mounted there is kept by its descriptor, so that masks are
looked up in it and not in what somebody moved to its place.
"""

from __future__ import annotations

import errno
import os

from jubako.errors import JubakoError, StepError
from jubako.linux.mount import file_system_type, mount_id
from jubako.linux.openat2 import (
    is_directory,
    make_directory_in,
    make_file_in,
    make_plain_directory_in,
    open_in,
    open_plain_in,
)
from jubako.linux.procfs import PROC_SUPER_MAGIC, is_procfs_root
from jubako.plan.step import Slots, quote

# What may cover a file of /proc: runc's list, made for lxcfs.
PROC_FILES = (
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
)
_KEPT = ("/proc", "/sys", "/dev")


def check_target(slots: Slots, path: str, tree: int, plain: bool) -> None:
    """Raise `OSError` unless `path` below the root now leads to the very mount `tree`."""
    fd = reopen(slots, path, plain)
    try:
        if mount_id(fd) != mount_id(tree):
            raise exchanged(path)
    finally:
        os.close(fd)


def keep_mount(slots: Slots, path: str, tree: int) -> None:
    """Hold the mount at /dev, /proc or /sys by its descriptor: what belongs into it is looked up below it."""
    name = "mount:" + os.path.normpath(path)
    slots.close(name)
    if os.path.normpath(path) in _KEPT:
        slots[name] = tree
    else:
        os.close(tree)


def exchanged(path: str) -> OSError:
    """The error for a mount point that was swapped between two looks at it."""
    return OSError(errno.EXDEV, "the mount point was exchanged while it was mounted on", path)


def reopen(slots: Slots, path: str, plain: bool) -> int:
    """A descriptor of what `path` below the root leads to now."""
    try:
        return (open_plain_in if plain else open_in)(*slots.base(path), os.O_PATH)
    except OSError as failure:
        if failure.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise exchanged(path) from failure
        raise


def directory_for(slots: Slots, path: str, plain: bool) -> int:
    """The directory to mount on, made if missing; with `plain` no component may be a link (ELOOP)."""
    try:
        fd = (make_plain_directory_in if plain else make_directory_in)(*slots.base(path))
    except OSError as failure:
        if failure.errno == errno.ELOOP:
            raise
        hint = ""
        if failure.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            hint = "it is missing and cannot be made where it would be: make it first"
        raise JubakoError.from_os_error("make the mount point", quote(path)[1:-1], failure, hint) from failure
    _refuse_inside_proc(fd, path)
    return fd


def target_for(slots: Slots, source: str, target: str, name: str) -> int:
    """The target's descriptor: a directory if the source is one, else a file; `name` is how users call the source."""
    try:
        fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
    except OSError as failure:
        text = quote(name)[1:-1]
        raise JubakoError.from_os_error(f"bind to {quote(target)[1:-1]} the source", text, failure) from failure
    try:
        if os.path.normpath(target) in _KEPT:
            if os.path.normpath(target) == "/proc" and not is_procfs_root(fd):
                raise StepError("bind to", "/proc", reason="only a proc file system may be there")
            return make_plain_directory_in(slots["root"], target)
        if is_directory(fd):
            made = make_directory_in(*slots.base(target))
        else:
            made = make_file_in(*slots.base(target))
            if is_directory(made):
                os.close(made)
                raise OSError(errno.EISDIR, "a file cannot cover a directory", target)
    finally:
        os.close(fd)
    _refuse_inside_proc(made, target)
    return made


def _refuse_inside_proc(fd: int, path: str) -> None:
    """Nothing may cover a part of /proc but what `PROC_FILES` names, by whatever path it was reached."""
    if file_system_type(fd) != PROC_SUPER_MAGIC or os.path.normpath(path) in PROC_FILES:
        return
    if os.path.normpath(path) == "/proc" and is_procfs_root(fd):
        return
    os.close(fd)
    raise StepError("mount on", quote(path)[1:-1], reason="it lies inside the container's /proc")
