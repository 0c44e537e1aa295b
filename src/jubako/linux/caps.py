"""Capabilities of the calling process: capget(2), capset(2), the bounding and the ambient set (capabilities(7)).

Sets travel as integer masks, bit N for capability number N; names are the kernel's (`CAP_X`), as in OCI documents.
"""

from __future__ import annotations

import errno

from jubako.linux import foreign as ctypes
from jubako.linux.libc import error, libc, syscall
from jubako.linux.prctl import PR_CAP_AMBIENT, PR_CAPBSET_DROP, PR_CAPBSET_READ, prctl
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
NUMBERS = {name: number for number, name in enumerate(NAMES)}

_VERSION_3 = 0x20080522
_PR_CAP_AMBIENT_IS_SET, _PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 1, 2, 4
_MOST = 63  # the ABI's two 32-bit words hold no more


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Word(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


_Words = _Word * 2
_last = -1


@record
class Sets:
    """The three sets of capget(2), as masks."""

    effective: int
    permitted: int
    inheritable: int


def mask(names: Iterable[str]) -> int:
    """The mask that holds exactly `names`; `KeyError` for one that is not a capability."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name]
    return bits


def names(bits: int) -> tuple[str, ...]:
    """The names in a mask, by number; one that this table does not know yet reads `CAP_41`."""
    found = [number for number in range(_MOST + 1) if bits >> number & 1]
    return tuple(NAMES[number] if number < len(NAMES) else f"CAP_{number}" for number in found)


def last_cap() -> int:
    """The highest capability number of the running kernel, asked of prctl(2) since /proc may not be mounted."""
    global _last
    if _last < 0:
        number = len(NAMES) - 1
        while number >= 0 and not _kernel_knows(number):
            number -= 1
        while number < _MOST and _kernel_knows(number + 1):
            number += 1
        _last = number
    return _last


def capget(pid: int = 0) -> Sets:
    """The effective, permitted and inheritable sets of process `pid` (0: the caller)."""
    header, words = _Header(_VERSION_3, pid), _Words()
    syscall("capget", ctypes.byref(header), words, subject=f"pid {pid}")
    low, high = words[0], words[1]
    return Sets(
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the caller's three sets; permitted can only shrink, and effective must lie within it."""
    words = _Words()
    for index, shift in ((0, 0), (1, 32)):
        words[index].effective = effective >> shift & 0xFFFFFFFF
        words[index].permitted = permitted >> shift & 0xFFFFFFFF
        words[index].inheritable = inheritable >> shift & 0xFFFFFFFF
    header = _Header(_VERSION_3, 0)
    syscall("capset", ctypes.byref(header), words, subject=f"permitted {permitted:#x}")


def bounding() -> int:
    """The caller's bounding set."""
    bits = 0
    for number in range(last_cap() + 1):
        bits |= prctl(PR_CAPBSET_READ, number) << number
    return bits


def limit_bounding(keep: int) -> None:
    """Drop from the bounding set all that is not in `keep`, capabilities newer than this table too (`PR_CAPBSET_DROP`,
    wants CAP_SETPCAP: do it before capset)."""
    drop, zero = ctypes.c_int(PR_CAPBSET_DROP), ctypes.c_ulong(0)  # made once: every container pays for this loop
    for number in range(last_cap() + 1):
        if keep >> number & 1 or libc.prctl(drop, ctypes.c_ulong(number), zero, zero, zero) >= 0:
            continue
        number_ = ctypes.get_errno()
        if prctl(PR_CAPBSET_READ, number):  # without CAP_SETPCAP nothing can be dropped; what is not there need not be
            raise error(number_, "prctl", f"PR_CAPBSET_DROP {number}")


def ambient() -> int:
    """The caller's ambient set."""
    bits = 0
    for number in range(last_cap() + 1):
        bits |= prctl(PR_CAP_AMBIENT, _PR_CAP_AMBIENT_IS_SET, number) << number
    return bits


def set_ambient(bits: int) -> None:
    """Make the ambient set exactly `bits`, each of which must be permitted and inheritable already."""
    prctl(PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(bits.bit_length()):
        if bits >> number & 1:
            prctl(PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)


def _kernel_knows(number: int) -> bool:
    result = libc.prctl(ctypes.c_int(PR_CAPBSET_READ), ctypes.c_ulong(number), *[ctypes.c_ulong(0)] * 3)
    if result < 0 and ctypes.get_errno() != errno.EINVAL:
        raise error(ctypes.get_errno(), "prctl", "PR_CAPBSET_READ")
    return bool(result >= 0)
