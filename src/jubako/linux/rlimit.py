"""Resource limits by their names: getrlimit(2)."""

from __future__ import annotations

import resource

RLIM_INFINITY = resource.RLIM_INFINITY

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
    limits = tuple(-1 if value in (RLIM_INFINITY, (1 << 64) - 1) else value for value in (soft, hard))
    try:
        resource.setrlimit(NAMES[name], limits)  # type: ignore[arg-type]
    except ValueError as failure:
        number = 1 if "not allowed" in str(failure) else 22
        raise OSError(number, str(failure), name) from None


def get_rlimit(name: str) -> tuple[int, int]:
    """(soft, hard) of the calling process; -1 is no limit."""
    return resource.getrlimit(NAMES[name])
