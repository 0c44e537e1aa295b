"""Which descriptors a process holds: close_range(2)."""

from __future__ import annotations

import errno
import os

from jubako.linux.libc import syscall

_LAST = (1 << 32) - 1
_HIGH = 1 << 16
_MANY = 1 << 20  # fs.nr_open, unless somebody raised it


def close_all_but(keep: tuple[int, ...]) -> None:
    """Close every descriptor that is not in `keep`."""
    kept = sorted(set(keep))
    gaps = [pair for pair in zip([0, *(fd + 1 for fd in kept)], [*kept, _LAST + 1], strict=True) if pair[0] < pair[1]]
    try:
        for first, end in gaps:
            syscall("close_range", first, end - 1, 0)
    except OSError as failure:
        if failure.errno not in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
            raise
        # Kernels before 5.9. What /proc/self/fd lists is not asked: that may be the container's, and tell lies.
        last = min(max(os.sysconf("SC_OPEN_MAX"), _HIGH), _MANY)
        for first, end in gaps:
            if first < last:
                os.closerange(first, min(end, last))
