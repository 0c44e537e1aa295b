"""The system's libseccomp, as far as compiling needs it (seccomp_init(3), seccomp_rule_add(3), seccomp_export_bpf(3)).

The library is opened at first use: who only runs with a compiled filter never pays for it, and may lack it.
"""

from __future__ import annotations

import ctypes
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any

LIBRARY = "libseccomp.so.2"

# enum scmp_compare
COMPARISONS = {
    "SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5, "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}  # fmt: skip

# enum scmp_filter_attr
ACT_BADARCH = 2
CTL_OPTIMIZE = 8
API_SYSRAWRC = 9

UNKNOWN = -1  # __NR_SCMP_ERROR

_library: Any = None


class _Version(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint)]


class _Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


def open_library(path: str = LIBRARY) -> Any:
    """The library's handle; `OSError` (ELIBACC) when the system does not have it."""
    global _library
    if _library is None:
        try:
            library = ctypes.CDLL(path)
        except OSError as failure:
            raise OSError(errno.ELIBACC, f"dlopen: {failure}", path) from None
        context, number, action = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32
        library.seccomp_version.restype = ctypes.POINTER(_Version)
        library.seccomp_init.argtypes = [action]
        library.seccomp_init.restype = context
        library.seccomp_release.argtypes = [context]
        library.seccomp_release.restype = None
        library.seccomp_arch_native.restype = ctypes.c_uint32
        library.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
        library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
        library.seccomp_arch_add.argtypes = [context, ctypes.c_uint32]
        library.seccomp_arch_remove.argtypes = [context, ctypes.c_uint32]
        library.seccomp_attr_set.argtypes = [context, number, ctypes.c_uint32]
        library.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
        library.seccomp_rule_add_array.argtypes = [
            context, action, number, ctypes.c_uint, ctypes.POINTER(_Comparison),
        ]  # fmt: skip
        library.seccomp_export_bpf.argtypes = [context, number]
        _library = library
    return _library


def version() -> tuple[int, int, int]:
    """The library's version, which decides what it compiles to."""
    found = open_library().seccomp_version().contents
    return found.major, found.minor, found.micro


def architecture_token(name: str) -> int:
    """The kernel's `AUDIT_ARCH_…` of an architecture that the library calls `name` ("x86_64", "aarch64", "x86"), or
    0."""
    token: int = open_library().seccomp_arch_resolve_name(name.encode())
    return token


def system_call_number(name: str, token: int | None = None) -> int:
    """The number of system call `name` for an architecture (None: this machine's): `UNKNOWN` when the library knows
    no such call, another negative number when only other architectures have it."""
    library = open_library()
    if token is None:
        token = library.seccomp_arch_native()
    number: int = library.seccomp_syscall_resolve_name_arch(token, name.encode())
    return number


class Compiler:
    """One filter in the making; a context manager, since the library's memory is not Python's."""

    def __init__(self, default_action: int, tokens: Sequence[int]) -> None:
        """Begin a filter for the architectures `tokens` only."""
        self._library = open_library()
        self._context = self._library.seccomp_init(default_action)
        if not self._context:
            raise OSError(errno.EINVAL, "seccomp_init: refused", f"action {default_action:#x}")
        native = self._library.seccomp_arch_native()
        for token in tokens:
            if token != native:
                self._check(self._library.seccomp_arch_add(self._context, token), "seccomp_arch_add", hex(token))
        if native not in tokens:
            self._check(self._library.seccomp_arch_remove(self._context, native), "seccomp_arch_remove", hex(native))

    def set_attribute(self, attribute: int, value: int) -> None:
        """seccomp_attr_set(3)."""
        self._check(self._library.seccomp_attr_set(self._context, attribute, value), "seccomp_attr_set", str(attribute))

    def add_rule(self, action: int, name: str, comparisons: Sequence[tuple[int, int, int, int]] = ()) -> None:
        """Answer `action` to the call `name` where all `comparisons` (argument, operator, datum a, datum b) hold."""
        array = (_Comparison * len(comparisons))(*[_Comparison(*one) for one in comparisons])
        result = self._library.seccomp_rule_add_array(
            self._context, action, system_call_number(name), len(comparisons), array
        )
        self._check(result, "seccomp_rule_add", name)

    def export(self) -> bytes:
        """The program, an array of `struct sock_filter`."""
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            self._check(self._library.seccomp_export_bpf(self._context, fd), "seccomp_export_bpf", "")
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def __enter__(self) -> Compiler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.seccomp_release(self._context)
        self._context = None

    @staticmethod
    def _check(result: int, call: str, subject: str) -> None:
        if result < 0:
            raise OSError(-result, f"{call}: {os.strerror(-result)}", subject)
