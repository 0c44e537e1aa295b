"""Which system the kernel pretends to be for a program: personality(2)."""

from __future__ import annotations

from jubako.linux import foreign as ctypes
from jubako.linux.libc import SYS, check, libc

DOMAINS = {"LINUX": 0x0000, "LINUX32": 0x0008}
_ASK = 0xFFFFFFFF


def set_personality(value: int) -> None:
    """The caller's personality, inherited by what it executes."""
    check(libc.syscall(SYS["personality"], ctypes.c_ulong(value)), "personality", f"{value:#x}")


def get_personality() -> int:
    """The caller's personality."""
    return check(libc.syscall(SYS["personality"], ctypes.c_ulong(_ASK)), "personality")
