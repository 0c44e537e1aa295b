"""How the kernel schedules a process: sched_setattr(2), sched(7)."""

from __future__ import annotations

from jubako.linux import foreign as ctypes
from jubako.linux.libc import SYS, check, libc

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}


class _Attributes(ctypes.Structure):
    """`struct sched_attr` as of its first version, which every kernel takes."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def set_scheduler(
    pid: int,
    policy: int,
    flags: int = 0,
    nice: int = 0,
    priority: int = 0,
    runtime: int = 0,
    deadline: int = 0,
    period: int = 0,
) -> None:
    """sched_setattr(2) on the process `pid` (0: the caller); times are nanoseconds."""
    attributes = _Attributes(0, policy, flags, nice, priority, runtime, deadline, period)
    attributes.size = ctypes.sizeof(attributes)
    number = libc.syscall(SYS["sched_setattr"], ctypes.c_int(pid), ctypes.byref(attributes), ctypes.c_uint(0))
    check(number, "sched_setattr", f"pid {pid}")


def get_scheduler(pid: int = 0) -> tuple[int, int, int, int]:
    """(policy, flags, nice, priority) of the process `pid` (0: the caller)."""
    found = _Attributes()
    size = ctypes.sizeof(found)
    number = libc.syscall(
        SYS["sched_getattr"], ctypes.c_int(pid), ctypes.byref(found), ctypes.c_uint(size), ctypes.c_uint(0)
    )
    check(number, "sched_getattr", f"pid {pid}")
    return found.policy, found.flags, found.nice, found.priority
