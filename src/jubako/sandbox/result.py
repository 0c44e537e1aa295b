"""What came of a container's program."""

from __future__ import annotations

from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Generic, TypeVar

    Text = TypeVar("Text", str, bytes)
else:
    Text = None

    class Generic:
        """Stands in for `typing.Generic`, whose import costs more than a container."""

        def __class_getitem__(cls, _item):
            return cls


@record
class Result(Generic[Text]):
    """A program that ran to its end. Exit codes are the shell's: the program's own, or 128+N when signal N ended it.

    `stdout` and `stderr` are what it wrote (text, or bytes with `text=False`); empty for a stream that went elsewhere.
    `truncated` says that the program wrote more than `output_limit`, and was ended for it.
    """

    args: tuple[str, ...]
    exit_code: int
    stdout: Text
    stderr: Text
    truncated: bool = False

    @property
    def ok(self) -> bool:
        """Whether the exit code is 0."""
        return self.exit_code == 0

    def check(self) -> Result[Text]:
        """This result, or `ProgramError` if the exit code is not 0."""
        if self.exit_code:
            from jubako.sandbox.errors import ProgramError

            raise ProgramError(" ".join(self.args), self)
        return self
