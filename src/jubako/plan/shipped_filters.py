"""The default system call filter as the package ships it: what most containers have, for one file read.

It is there for each architecture, with and without CAP_SYS_CHROOT, the only capability of the default set that the
profile asks about. Every start imports this; what compiles other filters is in `plan.seccomp`.
"""

from __future__ import annotations

import os

from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_DATA = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/data/seccomp"
DEFAULT_PROFILE = f"{_DATA}/default.json"

# The capabilities that the default profile asks about; a test compares this with the profile.
GATES = frozenset(
    f"CAP_{name}"
    for name in (
        "AUDIT_WRITE", "BPF", "DAC_READ_SEARCH", "NET_RAW", "PERFMON", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT",
        "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_TIME", "SYS_TTY_CONFIG",
    )
)  # fmt: skip
SHIPPED_MACHINES = ("x86_64", "aarch64")
SHIPPED_GATES = {"": frozenset({"CAP_SYS_CHROOT"}), "-strict": frozenset[str]()}


@record
class CompiledFilter:
    """A program to load with `flags`; `warning`, when not empty, says how it is stricter than what was asked."""

    program: bytes
    flags: int = 0
    warning: str = ""


def shipped_filter(machine: str, capabilities: Collection[str]) -> CompiledFilter | None:
    """The default filter for a container with this bounding set, where it is one of those shipped."""
    gates = GATES.intersection(capabilities)
    variant = variant_for(gates)
    if gates != SHIPPED_GATES[variant] or machine not in SHIPPED_MACHINES:
        return None
    return CompiledFilter(read_shipped(machine, variant))


def variant_for(gates: Collection[str]) -> str:
    """The shipped filter that is not weaker than these capabilities allow."""
    return "" if "CAP_SYS_CHROOT" in gates else "-strict"


def read_shipped(machine: str, variant: str) -> bytes:
    """A compiled default filter; `variant` is a key of `SHIPPED_GATES`."""
    with open(shipped_path(machine, variant), "rb", 0) as file:
        return file.read()


def shipped_path(machine: str, variant: str) -> str:
    """Where the package keeps a compiled default filter; `variant` is a key of `SHIPPED_GATES`."""
    return f"{_DATA}/{machine}{variant}.bpf"
