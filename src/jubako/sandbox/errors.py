"""What can go wrong with a program that did start: it took too long, or (where the caller cares) it failed."""

from __future__ import annotations

from jubako.errors import JubakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.sandbox.result import Result


class TimeLimitError(JubakoError):
    """The container was killed because its time was up. `stdout` and `stderr` hold what came until then."""

    def __init__(self, command: str, seconds: float, stdout: str | bytes | None, stderr: str | bytes | None) -> None:
        super().__init__("run", command, reason=f"it was killed after {seconds:g} seconds", hint="see timeout=")
        self.seconds = seconds
        self.stdout = stdout
        self.stderr = stderr


class ProgramError(JubakoError):
    """With `check=True`: the program ended with an exit code other than 0. `result` has its output."""

    def __init__(self, command: str, result: Result[str] | Result[bytes]) -> None:
        code = result.exit_code
        how = f"it was ended by signal {code - 128}" if 128 < code < 193 else f"it ended with exit code {code}"
        super().__init__("run", command, reason=how)
        self.result = result
        self.exit_code = code
