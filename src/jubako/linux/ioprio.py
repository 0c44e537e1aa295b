"""Whose requests a disk serves first: ioprio_set(2)."""

from __future__ import annotations

from jubako.linux import foreign as ctypes
from jubako.linux.libc import SYS, check, libc

CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}

_WHO_PROCESS = 1
_CLASS_SHIFT = 13


def set_io_priority(pid: int, class_: int, level: int) -> None:
    """Class and level (0 first to 7 last) of the process `pid` (0: the caller)."""
    value = ctypes.c_int(class_ << _CLASS_SHIFT | level)
    number = libc.syscall(SYS["ioprio_set"], ctypes.c_int(_WHO_PROCESS), ctypes.c_int(pid), value)
    check(number, "ioprio_set", f"pid {pid}")


def get_io_priority(pid: int = 0) -> tuple[int, int]:
    """(class, level) of the process `pid` (0: the caller)."""
    number = libc.syscall(SYS["ioprio_get"], ctypes.c_int(_WHO_PROCESS), ctypes.c_int(pid))
    value = check(number, "ioprio_get", f"pid {pid}")
    return value >> _CLASS_SHIFT, value & ((1 << _CLASS_SHIFT) - 1)
