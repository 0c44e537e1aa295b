"""Numbers, sizes, truth values and modes as docker and podman take them, each with one clear error."""

from __future__ import annotations

from jubako.errors import UsageError

_UNITS = "bkmgtp"
_TRUE = ("1", "t", "true")  # Go's strconv.ParseBool, in any case
_FALSE = ("0", "f", "false")


def refuse(flag: str, value: str, reason: str, hint: str = "") -> UsageError:
    """The error for one flag's value, in the one shape: "read --flag 'value': reason"."""
    return UsageError(f"read --{flag}", repr(value), reason=reason, hint=hint)


def is_digits(text: str) -> bool:
    """Whether `text` is a decimal number and nothing else, no foreign digits included."""
    return text.isascii() and text.isdigit()


def parse_number(text: str, flag: str, least: int, most: int, value: str = "") -> int:
    """A whole number from `least` to `most`; `value` is the whole text it stands in, for the message."""
    if is_digits(text.removeprefix("-")) and len(text) <= 20 and least <= int(text) <= most:
        return int(text)
    raise refuse(flag, value or text, f"{text!r} is not a whole number from {least} to {most}")


def parse_size(text: str, flag: str, value: str = "") -> int:
    """Bytes: a number with an optional unit b, k, m, g, t or p (powers of 1024), as in "64m", "1.5GiB"."""
    number = text.strip().lower()
    for ending in ("ib", "b"):
        if number.endswith(ending) and number[: -len(ending)][-1:] in _UNITS[1:]:
            number = number.removesuffix(ending)
            break
    factor = 1
    if number and number[-1] in _UNITS:
        factor = 1024 ** _UNITS.index(number[-1])
        number = number[:-1].rstrip()
    whole, dot, part = number.partition(".")
    if not is_digits(whole) or (dot and not is_digits(part)) or len(number) > 20:
        raise refuse(flag, value or text, f"{text!r} is not a size", "write bytes, or a number with k, m, g or t: 64m")
    size = int(whole) * factor + (int(part) * factor // 10 ** len(part) if part else 0)
    if size > 0x7FFFFFFFFFFFFFFF:
        raise refuse(flag, value or text, f"{text!r} is more bytes than the kernel can count")
    return size


def parse_bool(text: str, flag: str, value: str = "") -> bool:
    """true or false, in any of Go's spellings."""
    lower = text.lower()
    if lower in _TRUE:
        return True
    if lower in _FALSE:
        return False
    raise refuse(flag, value or text, f"{text!r} is neither true nor false")


def parse_octal(text: str, flag: str, most: int = 0o7777, value: str = "") -> int:
    """Permission bits in octal, with or without the leading zero."""
    if text and len(text) <= 6 and all(digit in "01234567" for digit in text) and int(text, 8) <= most:
        return int(text, 8)
    raise refuse(flag, value or text, f"{text!r} is not an octal mode of at most {most:o}")
