"""Signals by name or number (signal(7)), without the `signal` module, which pulls in `enum`."""

from __future__ import annotations

from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names; `_signal` has no stubs
else:
    import _signal

_LAST = 64  # SIGRTMAX on Linux


def parse_signal(text: str, flag: str = "signal") -> int:
    """A signal's number: `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`, `SIGRTMAX-1`."""
    if _is_digits(text):
        if 1 <= int(text[:4]) <= _LAST and len(text) < 4:
            return int(text)
        raise _refusal(flag, text, f"signals are numbered from 1 to {_LAST}")
    name = text.upper().removeprefix("SIG")
    for base, sign in (("RTMIN", "+"), ("RTMAX", "-")):
        steps = name.removeprefix(base + sign)
        if name != steps and _is_digits(steps) and len(steps) < 3:
            number = getattr(_signal, "SIG" + base) + int(sign + steps)
            if _signal.SIGRTMIN <= number <= _signal.SIGRTMAX:
                return int(number)
    number = getattr(_signal, "SIG" + name, None)
    # SIG_DFL and kin are not signals, nor is ITIMER_REAL; names of signals are letters and digits only.
    if isinstance(number, int) and name.isalnum() and 1 <= number <= _LAST:
        return int(number)
    raise _refusal(flag, text, "there is no such signal", "give a name such as TERM or SIGINT, or a number")


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _refusal(flag: str, text: str, reason: str, hint: str = "") -> UsageError:
    return UsageError(f"read --{flag}", repr(text), reason=reason, hint=hint)
