"""Which descriptors a process holds: close_range(2)."""

from __future__ import annotations

import errno
import os

from jubako.linux.libc import syscall

CLOSE_RANGE_CLOEXEC = 4
_LAST = (1 << 32) - 1


def close_all_but(keep: tuple[int, ...]) -> None:
    """Close every descriptor that is not in `keep`."""
    _each_gap(keep, 0)


def close_on_exec_all_but(keep: tuple[int, ...]) -> None:
    """Mark every descriptor that is not in `keep` close-on-exec (Linux 5.11; before that they are closed one by one
    in /proc/self/fd)."""
    _each_gap(keep, CLOSE_RANGE_CLOEXEC)


def _each_gap(keep: tuple[int, ...], flags: int) -> None:
    first = 0
    try:
        for fd in sorted(set(keep)):
            if fd > first:
                syscall("close_range", first, fd - 1, flags)
            first = fd + 1
        syscall("close_range", first, _LAST, flags)
    except OSError as failure:
        if failure.errno not in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
            raise
        _one_by_one(keep, flags)


def _one_by_one(keep: tuple[int, ...], flags: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd in keep:
            continue
        try:
            if flags:
                os.set_inheritable(fd, False)
            else:
                os.close(fd)
        except OSError:  # the listing's own descriptor
            continue
