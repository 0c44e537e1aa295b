"""prctl(2): what a process may say about itself."""

from __future__ import annotations

from jubako.linux import foreign as ctypes
from jubako.linux.libc import check, libc

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47


def prctl(option: int, *arguments: int) -> int:
    """prctl(2) with up to four integer arguments; the rest are 0, as newer options demand."""
    values = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return check(libc.prctl(ctypes.c_int(option), *values), "prctl", f"option {option}")


def set_dumpable(dumpable: bool) -> None:
    """Whether others of this user may read this process's memory, descriptors and executable (`PR_SET_DUMPABLE`)."""
    prctl(PR_SET_DUMPABLE, int(dumpable))


def set_no_new_privs() -> None:
    """From now on no execve(2) gains privileges, in this process and all that come from it."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def has_no_new_privs() -> bool:
    """Whether set-uid programs such as newuidmap are powerless for the caller."""
    return prctl(PR_GET_NO_NEW_PRIVS) == 1


def set_parent_death_signal(signal: int) -> None:
    """Have the kernel send `signal` when the thread that forked this process ends (a second belt only)."""
    prctl(PR_SET_PDEATHSIG, signal)


def set_name(name: str) -> None:
    """The name that ps(1) shows, at most 15 bytes."""
    check(libc.prctl(ctypes.c_int(PR_SET_NAME), name.encode()[:15], 0, 0, 0), "prctl", "PR_SET_NAME")
