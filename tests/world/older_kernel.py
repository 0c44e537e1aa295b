"""Runs a command as on a kernel that lacks some system calls: a filter answers ENOSYS to them.

    python3 -I tests/world/older_kernel.py mount_setattr,openat2 jubako run …

The filter wants no_new_privs, so newuidmap cannot work below it: make the base first, without it (seccomp(2)).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

NUMBERS = {
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "pidfd_open": 434, "clone3": 435, "close_range": 436,
    "openat2": 437, "pidfd_getfd": 438, "faccessat2": 439, "mount_setattr": 442, "fchmodat2": 452, "statmount": 457,
}  # fmt: skip
"""The same on all architectures: they came after the numbers were unified."""
SINCE_5_10 = ("mount_setattr", "fchmodat2", "statmount")
SINCE_5_0 = tuple(name for name in NUMBERS if not name.startswith("pidfd"))

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ENOSYS = 0x7FFF0000, 0x00050000 | 38
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def take_away(names: tuple[str, ...]) -> None:
    """From here on these calls do not exist for this process and its children."""
    lines = [(_LOAD, 0, 0, 0)]
    for place, name in enumerate(names):
        lines.append((_EQUAL, len(names) - place, 0, NUMBERS[name]))
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ENOSYS)]
    code = b"".join(struct.pack("<HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(code)
    program = _Program(len(lines), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0), (_PR_SET_SECCOMP, _FILTER, ctypes.byref(program))):
        if libc.prctl(*arguments, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    take_away(tuple(sys.argv[1].split(",")))
    os.execvp(sys.argv[2], sys.argv[2:])
