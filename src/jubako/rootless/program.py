"""Becoming the program: execvp(3), with the signals as the caller had them, and an error that says what is missing."""

from __future__ import annotations

import _signal
import errno
import os

from jubako.errors import JubakoError, NotExecutableError, ProgramNotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_OURS = (9, 19, 32, 33)  # SIGKILL, SIGSTOP and the two that the C library keeps for itself
_IGNORED_BY_PYTHON = (_signal.SIGPIPE, _signal.SIGXFSZ)


def ignored_signals() -> frozenset[int]:
    """What the caller had ignored (nohup(1), a script's `&`), as it will be for the program too."""
    return frozenset(
        number
        for number in range(1, _signal.NSIG)
        if number not in _OURS
        and number not in _IGNORED_BY_PYTHON
        and _signal.getsignal(number) == _signal.SIG_IGN
    )


def restore_signals(ignored: frozenset[int]) -> None:
    """An empty mask and every disposition as it was before this interpreter started."""
    for number in range(1, _signal.NSIG):
        if number in _OURS or number in ignored or _signal.getsignal(number) == _signal.SIG_DFL:
            continue
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def execute(arguments: tuple[str, ...], variables: dict[str, str], ignored: frozenset[int]) -> NoReturn:
    """Become the program. Raises `ProgramNotFoundError` (127) or `NotExecutableError` (126)."""
    restore_signals(ignored)
    name = arguments[0]
    if not name:
        raise ProgramNotFoundError("execute", "''", reason="the program's name is empty")
    if "/" in name:
        raise _refusal(name, _attempt(name, arguments, variables), "")
    search = variables.get("PATH") or "/usr/local/bin:/usr/bin:/bin"
    refused = 0
    for directory in search.split(":"):
        number = _attempt(os.path.join(directory or ".", name), arguments, variables)
        if number not in (errno.ENOENT, errno.ENOTDIR):
            refused = refused or number
            if number != errno.EACCES:
                break
    raise _refusal(name, refused or errno.ENOENT, f"no such program in PATH ({search})")


def _attempt(path: str, arguments: tuple[str, ...], variables: dict[str, str]) -> int:
    """The errno of an execve(2) that came back; a directory is no program."""
    try:
        os.execve(path, arguments, variables)
    except OSError as failure:
        number = failure.errno or errno.EIO
    if number == errno.EACCES and not os.path.exists(path):
        return errno.ENOENT  # a directory of PATH that may not be looked into
    return number


def _refusal(name: str, number: int, hint: str) -> JubakoError:
    if number in (errno.ENOENT, errno.ENOTDIR):
        if "/" in name and os.path.exists(name):
            hint = "its interpreter, which its first line or its ELF header names, is missing"
        return ProgramNotFoundError("execute", name, errno=number, hint=hint)
    hints = {
        errno.ENOEXEC: "it is neither an ELF program of this machine nor a script that begins with #!",
        errno.E2BIG: "the arguments and the environment together are larger than the kernel takes",
        errno.EACCES: "it is not executable for you, or its file system is mounted noexec",
    }
    return NotExecutableError("execute", name, errno=number, hint=hints.get(number, ""))
