"""Signals read from a descriptor, with who sent them: signalfd(2). Only signals that are blocked come this way."""

from __future__ import annotations

import os
from _struct import unpack_from

from jubako.linux import foreign as ctypes
from jubako.linux.libc import check, libc

SI_KERNEL = 0x80
"""The code of a signal that a terminal, or another part of the kernel, has sent."""

_SFD_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK
_SIZE = 128


def open_signalfd(numbers: tuple[int, ...]) -> int:
    """A descriptor, closed on exec, from which the signals `numbers` can be read; the caller has blocked them."""
    mask = ctypes.c_uint64(sum(1 << number - 1 for number in set(numbers)))
    room = (ctypes.c_uint64 * 16)(mask.value)  # the C library's sigset_t is larger than the kernel's
    return check(libc.signalfd(ctypes.c_int(-1), ctypes.byref(room), ctypes.c_int(_SFD_FLAGS)), "signalfd")


def read_signals(fd: int) -> list[tuple[int, int, int]]:
    """The signals that have come: (number, code, the sender's pid) each; an empty list when there is none."""
    try:
        data = os.read(fd, _SIZE * 16)
    except BlockingIOError:
        return []
    found = []
    for at in range(0, len(data), _SIZE):
        number, _errno, code, pid = unpack_from("IiiI", data, at)
        found.append((number, code, pid))
    return found
