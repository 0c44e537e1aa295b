"""Loading a compiled system call filter: seccomp(2), and the filter with execve(2) as one step.

The program is classic BPF as libseccomp exports it (an array of `struct sock_filter`). The caller needs CAP_SYS_ADMIN
in its user namespace or `no_new_privs`; else the kernel answers EACCES.
"""

from __future__ import annotations

import errno
import gc
import os

from jubako.linux import foreign as ctypes
from jubako.linux.libc import SYS, error, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from ctypes import Array
    from ctypes import _NamedFuncPointer as NamedFunction

SECCOMP_FILTER_FLAG_TSYNC = 1 << 0
SECCOMP_FILTER_FLAG_LOG = 1 << 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1 << 2
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5

INSTRUCTION_SIZE = 8
MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS

_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_RET_ALLOW = 0x7FFF0000
_AT_SYMLINK_NOFOLLOW = 0x100

# A handle of our own: argument types are set once here, and nobody else's use of `libc.execve` can change them.
_execve = ctypes.PyDLL(None, use_errno=True).execve
_execve.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]
_execve.restype = ctypes.c_int


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


def load_filter(program: bytes, flags: int = 0) -> int:
    """Put the calling thread under `program` for good, and answer 0, or with `SECCOMP_FILTER_FLAG_NEW_LISTENER` the
    listener's descriptor (close-on-exec). Programs stack; the strictest answer holds."""
    call, arguments, _owner = _prepared(program, flags)
    result: int = call(*arguments)
    if result < 0:
        raise error(ctypes.get_errno(), "seccomp", f"filter of {len(program) // INSTRUCTION_SIZE} instructions")
    return result


def filter_and_exec(
    program: bytes,
    path: str | bytes,
    argv: Sequence[str | bytes],
    envp: Sequence[str | bytes],
    flags: int = 0,
    directory: int = -1,
) -> int:
    """Load `program` (none when empty) and become `path`; returns only when execve(2) failed, with its errno.

    With the descriptor of a `directory`, `path` is a name in there, and no link is followed (execveat(2)).

    Between the two calls the interpreter makes none of its own: all objects are built and both functions have been
    called once before, the garbage collector is off, and the lock is not released. So even a filter that allows
    nothing but execve lets the program start. After a failure the filter is in force: whoever reports it may find
    that it may not. Raises `OSError` of "seccomp" when the filter itself is refused; then nothing has changed.
    """
    target = os.fsencode(path)
    arguments = _strings(argv)
    environment = _strings(envp)
    argument_pointer = ctypes.cast(arguments, ctypes.c_void_p)
    environment_pointer = ctypes.cast(environment, ctypes.c_void_p)
    get_errno, execve = ctypes.get_errno, _execve
    call: tuple[object, ...] = (target, argument_pointer, environment_pointer)
    if directory >= 0:
        execveat, no_follow = ctypes.c_long(SYS["execveat"]), ctypes.c_int(_AT_SYMLINK_NOFOLLOW)
        execve, call = libc.syscall, (execveat, ctypes.c_int(directory), *call, no_follow)
        execve(execveat, ctypes.c_int(-1), None, None, None, ctypes.c_int(0))
    else:
        execve(None, None, None)  # EFAULT: the call's own machinery is warm from here on
    get_errno()
    if not program:
        execve(*call)
        return get_errno()
    load, load_arguments, _owner = _prepared(program, flags)
    collecting = gc.isenabled()
    gc.disable()
    if load(*load_arguments) >= 0:
        execve(*call)
        return get_errno()
    number = get_errno()
    if collecting:
        gc.enable()
    raise error(number, "seccomp", f"filter of {len(program) // INSTRUCTION_SIZE} instructions")


def _prepared(program: bytes, flags: int) -> tuple[NamedFunction, tuple[object, ...], object]:
    """The call that loads `program`, its arguments, and what must live until then.

    The rehearsal tells whether seccomp(2) is there: where an outer filter answers ENOSYS, prctl(2) does the same for a
    filter without flags.
    """
    count = len(program) // INSTRUCTION_SIZE
    if len(program) % INSTRUCTION_SIZE or not 0 < count <= MOST_INSTRUCTIONS:
        raise error(errno.EINVAL, "seccomp", f"filter of {len(program)} bytes")
    instructions = ctypes.create_string_buffer(program, len(program))
    holder = _Program(count, ctypes.cast(instructions, ctypes.c_void_p))
    number = ctypes.c_long(SYS["seccomp"])
    wanted = ctypes.c_uint32(_RET_ALLOW)
    zero = ctypes.c_ulong(0)
    rehearsal = libc.syscall(number, ctypes.c_ulong(_GET_ACTION_AVAIL), zero, ctypes.byref(wanted))
    owner = (instructions, holder)
    if rehearsal < 0 and ctypes.get_errno() == errno.ENOSYS and not flags:
        libc.prctl(ctypes.c_int(21), zero, zero, zero, zero)  # PR_GET_SECCOMP, for warmth
        return (
            libc.prctl,
            (ctypes.c_int(_PR_SET_SECCOMP), ctypes.c_ulong(_MODE_FILTER), ctypes.byref(holder), zero, zero),
            owner,
        )
    return (
        libc.syscall,
        (number, ctypes.c_ulong(_SET_MODE_FILTER), ctypes.c_ulong(flags), ctypes.byref(holder)),
        owner,
    )


def _strings(values: Sequence[str | bytes]) -> Array[ctypes.c_char_p]:
    """A NULL-ended `char *[]`; the array keeps its strings alive."""
    array = (ctypes.c_char_p * (len(values) + 1))()
    for index, value in enumerate(values):
        array[index] = os.fsencode(value)
    return array
