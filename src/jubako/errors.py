"""The one shape of every error: operation, subject, errno name, hint.

`JubakoError` is what library users catch and what the command line prints. Its children say only
*whose* fault it was, since that decides the exit code (125, 126 or 127, as users of docker and podman
know them). No other exception type crosses a room's border on purpose.
"""

from __future__ import annotations

import errno as _errno
import os

EXIT_FAILED = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127

_LONGEST = 4096
"""Characters of one part of a message: a path fits, and who sends nonsense by the megabyte does not get it back."""


class JubakoError(Exception):
    """An operation that failed: what was done, to what, why, and what may help.

    `operation` and `subject` are plain words ("mount overlay", "/var/lib/x/merged"); `errno` is 0 when the
    kernel had no part in it, and then `reason` carries the cause. `step` is (position, total, name) when a plan's
    step failed. `str(error)` is the text a user sees, without the program's name.
    """

    exit_code = EXIT_FAILED
    runtime_exit_code = 1
    """What a command of the OCI runtime ends with, as engines know it."""

    def __init__(
        self,
        operation: str,
        subject: str = "",
        *,
        errno: int = 0,
        reason: str = "",
        hint: str = "",
        step: tuple[int, int, str] | None = None,
    ) -> None:
        super().__init__(operation, subject)
        self.operation = operation
        self.subject = subject
        self.errno = errno
        self.reason = reason
        self.hint = hint
        self.step = step

    @classmethod
    def from_os_error(cls, operation: str, subject: str, error: OSError, hint: str = "") -> JubakoError:
        """The same failure as `error`, told in our shape."""
        number = error.errno or 0
        return cls(operation, subject, errno=number, reason="" if number else str(error), hint=hint)

    def __str__(self) -> str:
        line = f"{self.operation} {_shortened(self.subject)}".strip()
        cause = _shortened(self.reason)
        if self.errno:
            name = _errno.errorcode.get(self.errno, str(self.errno))
            cause = f"{cause or os.strerror(self.errno)} ({name})"
        if cause:
            line = f"{line}: {cause}"
        if self.step is not None:
            line += f"\n  step {self.step[0]} of {self.step[1]}: {self.step[2]}"
        if self.hint:
            line += "".join(f"\n  hint: {hint}" for hint in self.hint.splitlines())
        return line


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


class UsageError(JubakoError):
    """The request itself is wrong: an unknown flag, a malformed value, a combination that cannot be."""


class NotFoundError(JubakoError):
    """A container, image, user or file that was named does not exist."""


class StepError(JubakoError):
    """A step of a plan failed while it was being applied."""


class NotExecutableError(JubakoError):
    """The program is there but cannot be executed (exit code 126)."""

    exit_code = EXIT_NOT_EXECUTABLE


class ProgramNotFoundError(JubakoError):
    """The program is not in the container's file system (exit code 127)."""

    exit_code = EXIT_NOT_FOUND
