"""JSON without importing `json`: that package pulls in `re` and doubles a bare interpreter's start.

The interpreter's own C scanner and string encoder do the work; where they are missing (another Python
implementation), the standard package is used. Accepts and produces exactly RFC 8259, with two refusals that matter for
untrusted documents: NaN and infinities, and duplicate names in an object.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    from _json import encode_basestring as _quote
    from _json import make_scanner as _make_scanner
except ImportError:  # not CPython
    _make_scanner = None  # type: ignore[assignment, misc]

_SPACE = " \t\n\r"


def loads(text: str | bytes) -> Any:
    """The value that `text` denotes. Raises `ValueError` saying what is wrong and at which character."""
    if isinstance(text, bytes):
        text = text.removeprefix(b"\xef\xbb\xbf").decode()  # the codec utf-8-sig would be one more module
    if _make_scanner is None:
        return _loads_slowly(text)
    start = 0
    while start < len(text) and text[start] in _SPACE:
        start += 1
    try:
        value, end = _make_scanner(_Context())(text, start)  # type: ignore[arg-type]
    except StopIteration as stop:
        raise ValueError(f"a value was expected at character {stop.value}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except SystemError:  # the scanner wants json.decoder imported to say what is wrong
        return _loads_slowly(text)
    if text[end:].strip(_SPACE):
        raise ValueError(f"unexpected text after the value, at character {end}")
    return value


def _loads_slowly(text: str) -> Any:
    import json

    return json.loads(text, object_pairs_hook=_object, parse_float=_float, parse_constant=_refuse_constant)


def dumps(value: Any, indent: int | None = None) -> str:
    """`value` (None, bool, int, float, str, dict, list, tuple) as JSON text; names keep their order."""
    parts: list[str] = []
    _write(value, parts.append, indent, "\n")
    return "".join(parts)


def _write(value: Any, put: Any, indent: int | None, newline: str) -> None:
    if value is None:
        put("null")
    elif value is True:
        put("true")
    elif value is False:
        put("false")
    elif isinstance(value, str):
        put(quote(value))
    elif isinstance(value, int):
        put(int.__repr__(value))
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError("JSON has no NaN and no infinity")
        put(repr(value))
    elif isinstance(value, dict):
        colon = ": " if indent else ":"
        _write_items([(quote(str(k)) + colon, v) for k, v in value.items()], "{}", put, indent, newline)
    elif isinstance(value, list | tuple):
        _write_items([("", v) for v in value], "[]", put, indent, newline)
    else:
        raise TypeError(f"JSON cannot hold a {type(value).__name__}")


def _write_items(items: list[tuple[str, Any]], ends: str, put: Any, indent: int | None, newline: str) -> None:
    inner = newline + " " * indent if indent else ""
    put(ends[0])
    separator = ""
    for prefix, item in items:
        put(separator + inner + prefix)
        _write(item, put, indent, inner)
        separator = ","
    put((newline if indent and items else "") + ends[1])


def quote(text: str) -> str:
    """`text` as a JSON string. Bytes that were not UTF-8 (surrogate escapes) are kept as escapes."""
    quoted: str = _quote(text)
    if quoted.isascii():
        return quoted
    return "".join(c if not "\ud800" <= c <= "\udfff" else f"\\u{ord(c):04x}" for c in quoted)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands twice in one object")
    return result


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


class _Context:
    """What the C scanner asks its caller for."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_object)
    parse_float = staticmethod(_float)
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)
    memo: dict[str, str] = {}


if _make_scanner is None:
    from json.encoder import py_encode_basestring as _quote
