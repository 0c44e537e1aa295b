"""Resource limits by their names: getrlimit(2)."""

from __future__ import annotations

from jubako.linux import foreign as ctypes
from jubako.linux.libc import check, libc

RLIM_INFINITY = -1

NAMES = {
    "RLIMIT_" + name: number
    for number, name in enumerate(
        (
            "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS",
            "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
        )
    )
}  # fmt: skip
"""The OCI runtime-spec's names (POSIX `RLIMIT_*`) and the kernel's numbers on x86-64 and aarch64."""


def set_rlimit(name: str, soft: int, hard: int) -> None:
    """Set one limit of the calling process; raising the hard one wants CAP_SYS_RESOURCE."""
    check(libc.setrlimit(ctypes.c_int(NAMES[name]), (ctypes.c_ulong * 2)(soft, hard)), "setrlimit", name)


def get_rlimit(name: str) -> tuple[int, int]:
    """(soft, hard) of the calling process; -1 is no limit."""
    limits = (ctypes.c_long * 2)()
    check(libc.getrlimit(ctypes.c_int(NAMES[name]), limits), "getrlimit", name)
    return limits[0], limits[1]
