"""The C library as every module of this room sees it: one handle, one way to turn -1 into `OSError`.

The handle keeps the interpreter's lock during calls (`PyDLL`): these calls are short, the processes that make them are
single-threaded, and a raw `clone(2)` must not return into a child that waits for a lock.
System calls without a wrapper in glibc 2.31 go through `syscall(2)` by number.
"""

from __future__ import annotations

import os

from jubako.linux import foreign as ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

libc: Any = ctypes.PyDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

_NUMBERS = {
    "x86_64": {
        "clone": 56, "pivot_root": 155, "capget": 125, "capset": 126, "add_key": 248, "keyctl": 250,
        "unshare": 272, "setns": 308, "seccomp": 317, "bpf": 321, "execveat": 322, "personality": 135,
        "ioprio_set": 251, "ioprio_get": 252, "sched_setattr": 314, "sched_getattr": 315, "set_mempolicy": 238,
        "get_mempolicy": 239,
    },
    "aarch64": {
        "clone": 220, "pivot_root": 41, "capget": 90, "capset": 91, "add_key": 217, "keyctl": 219,
        "unshare": 97, "setns": 268, "seccomp": 277, "bpf": 280, "execveat": 281, "personality": 92, "ioprio_set": 30,
        "ioprio_get": 31, "sched_setattr": 274, "sched_getattr": 275, "set_mempolicy": 237, "get_mempolicy": 236,
    },
}  # fmt: skip
_COMMON = {
    "pidfd_send_signal": 424, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "fspick": 433, "pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437, "pidfd_getfd": 438,
    "mount_setattr": 442, "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446,
}  # fmt: skip

MACHINE = os.uname().machine
SYS: dict[str, int] = {**_NUMBERS.get(MACHINE, _NUMBERS["aarch64"]), **_COMMON}


def check(result: int, call: str, subject: object = None) -> int:
    """`result`, unless it is -1: then the `OSError` of `call`, with `subject` as its file name."""
    if result < 0:
        raise error(ctypes.get_errno(), call, subject)
    return result


def error(number: int, call: str, subject: object = None) -> OSError:
    """The `OSError` for errno `number` of system call `call`."""
    if isinstance(subject, bytes):
        subject = os.fsdecode(subject)
    failure = OSError(number, os.strerror(number), subject)
    failure.call = call  # type: ignore[attr-defined]
    return failure


def syscall(name: str, *arguments: Any, subject: object = None) -> int:
    """Make the system call `name`; integers are passed as they are, bytes as pointers to NUL-ended strings."""
    return check(libc.syscall(SYS[name], *[_argument(a) for a in arguments]), name, subject)


def _argument(value: Any) -> Any:
    return ctypes.c_long(value) if isinstance(value, int) else value
