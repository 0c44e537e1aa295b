"""From which nodes of the machine a process gets its memory: set_mempolicy(2), numa(7)."""

from __future__ import annotations

from jubako.linux import foreign as ctypes
from jubako.linux.libc import SYS, check, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}

_WORD = 64
_MOST = 4096  # nodes; the kernel refuses masks that are longer than a page


def set_memory_policy(mode: int, nodes: Sequence[int]) -> None:
    """The caller's policy, `mode` with its flags, for itself and what it executes."""
    words = max(nodes, default=-1) // _WORD + 1
    mask = (ctypes.c_ulong * max(words, 1))()
    for node in nodes:
        mask[node // _WORD] |= 1 << node % _WORD
    # The kernel reads one bit less than it is told.
    length = words * _WORD + 1 if nodes else 0
    number = libc.syscall(
        SYS["set_mempolicy"], ctypes.c_int(mode), ctypes.byref(mask) if nodes else None, ctypes.c_ulong(length)
    )
    check(number, "set_mempolicy", ",".join(map(str, nodes)))


def get_memory_policy() -> tuple[int, tuple[int, ...]]:
    """(mode with its flags, nodes) of the caller."""
    mode, mask = ctypes.c_int(0), (ctypes.c_ulong * (_MOST // _WORD))()
    number = libc.syscall(
        SYS["get_mempolicy"], ctypes.byref(mode), ctypes.byref(mask), ctypes.c_ulong(_MOST), None, ctypes.c_ulong(0)
    )
    check(number, "get_mempolicy")
    nodes = tuple(node for node in range(_MOST) if mask[node // _WORD] >> node % _WORD & 1)
    return mode.value, nodes
