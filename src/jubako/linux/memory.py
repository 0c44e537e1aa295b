"""Which of its pages a forked process came to write to, and writing to them ahead of time.

After a fork every page that is written to costs a fault and a copy. Children that do the same work write to the same
pages, so what one of them has found out, the next can do at once while it waits: `MADV_POPULATE_WRITE` of madvise(2)
(Linux 5.14), proc_pid_pagemap(5). Only a matter of speed: where the kernel does not help, the faults come later.
"""

from __future__ import annotations

import ctypes

from jubako.linux.libc import libc

Ranges = tuple[tuple[int, int], ...]

_MADV_POPULATE_WRITE = 23
_PAGE = 4096
_OWN = 1 << 63 | 1 << 56  # present, and mapped by this process alone
_GAP = 2
_MOST_PAGES = 1024


def own_pages(pagemap: int) -> Ranges:
    """(address, size) of the private, writable pages that this process has copies of its own of.

    `pagemap` is its open /proc/self/pagemap. Pages that lie close together are taken as one range; nothing comes out
    where this machine's pages are of another size, or where far too many seem to be written to.
    """
    import os

    if os.sysconf("SC_PAGE_SIZE") != _PAGE:
        return ()
    with open("/proc/self/maps", "rb", buffering=0) as file:
        text = b"".join(iter(lambda: file.read(1 << 16), b""))
    found: list[tuple[int, int]] = []
    count = 0
    for line in text.splitlines():
        bounds, rights, _rest = line.split(b" ", 2)
        if rights != b"rw-p" or line.endswith(b"[stack]"):
            continue
        first, last = (int(bound, 16) // _PAGE for bound in bounds.split(b"-"))
        entries = os.pread(pagemap, (last - first) * 8, first * 8)
        for index in range(len(entries) // 8):
            if int.from_bytes(entries[index * 8 : index * 8 + 8], "little") & _OWN != _OWN:
                continue
            page = first + index
            count += 1
            if found and 0 <= page - sum(found[-1]) <= _GAP and found[-1][0] >= first:
                found[-1] = (found[-1][0], page + 1 - found[-1][0])
            else:
                found.append((page, 1))
    return tuple((page * _PAGE, pages * _PAGE) for page, pages in found) if count <= _MOST_PAGES else ()


def make_own(ranges: Ranges) -> None:
    """Have copies of one's own of the pages in `ranges`, at once."""
    advice = ctypes.c_int(_MADV_POPULATE_WRITE)
    for address, size in ranges:
        libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), advice)
