"""Which pages a forked child writes to, asked of the kernel."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable

from jubako.linux.memory import make_own, own_pages

PAGE = mmap.PAGESIZE


def in_a_child(work: Callable[[], object]) -> str:
    """What `work` gives back in a forked child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, str(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


def has(ranges: tuple[tuple[int, int], ...], address: int) -> bool:
    return any(start <= address < start + size for start, size in ranges)


def test_a_child_finds_the_page_it_wrote_to_and_not_the_others() -> None:
    block = mmap.mmap(-1, 64 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.write(b"x" * len(block))
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))

    def work() -> tuple[bool, bool]:
        block[20 * PAGE] = 1
        fd = os.open("/proc/self/pagemap", os.O_RDONLY)
        ranges = own_pages(fd)
        return has(ranges, address + 20 * PAGE), has(ranges, address + 40 * PAGE)

    assert in_a_child(work) == "(True, False)"


def test_pages_made_ones_own_are_found_as_such_and_keep_what_they_held() -> None:
    block = mmap.mmap(-1, 64 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.write(b"x" * len(block))
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))

    def work() -> tuple[bool, bool]:
        make_own(((address + 30 * PAGE, PAGE), (1 << 20, PAGE)))  # the second is nothing of ours: no harm
        fd = os.open("/proc/self/pagemap", os.O_RDONLY)
        return has(own_pages(fd), address + 30 * PAGE), block[30 * PAGE] == ord("x")

    assert in_a_child(work) == "(True, True)"
