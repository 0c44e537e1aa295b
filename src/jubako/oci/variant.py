"""Values in GVariant's text form, as the annotations `org.systemd.property.NAME` hold them, for D-Bus.

The part of the form that properties of units are made of: numbers with an optional type ("uint64 5"), strings, true and
false, and arrays of them (GLib, "GVariant Text Format").
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TYPES = {
    "boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "handle": "h", "uint32": "u", "int64": "x",
    "uint64": "t", "double": "d", "string": "s", "objectpath": "o", "signature": "g",
}  # fmt: skip
_BOUNDS = {
    "y": (0, 0xFF), "n": (-1 << 15, (1 << 15) - 1), "q": (0, 0xFFFF), "i": (-1 << 31, (1 << 31) - 1),
    "u": (0, 0xFFFFFFFF), "x": (-1 << 63, (1 << 63) - 1), "t": (0, (1 << 64) - 1),
}  # fmt: skip
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def parse_variant(text: str) -> tuple[str, Any]:
    """(signature, value). Raises `ValueError` saying what is wrong."""
    reader = _Reader(text)
    try:
        found = reader.value("")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if reader.rest():
        raise ValueError(f"unexpected {reader.rest()!r}")
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def rest(self) -> str:
        self.text = self.text.rstrip()
        while self.text[self.position : self.position + 1].isspace():
            self.position += 1
        return self.text[self.position :]

    def value(self, kind: str) -> tuple[str, Any]:
        """The next value; `kind` is its signature where that was said before."""
        rest = self.rest()
        if rest[:1] == "@":
            kind = self.word()[1:]
            if kind.lstrip("a") not in _TYPES.values() or len(kind.lstrip("a")) != 1:
                raise ValueError(f"the type {kind!r} is not known here")
            return self.value(kind)
        if rest[:1] in ("'", '"'):
            return self._checked(kind, "s", ("s", "o", "g"), self.string())
        if rest[:1] == "[":
            return self.array(kind)
        word = self.word()
        if word in _TYPES:
            return self.value(_TYPES[word])
        if word in ("true", "false"):
            return self._checked(kind, "b", ("b",), word == "true")
        return self.number(kind, word)

    def word(self) -> str:
        rest = self.rest()
        end = next((index for index, c in enumerate(rest) if c.isspace() or c in ",]["), len(rest))
        self.position += end
        if not end:
            raise ValueError(f"a value was expected before {rest!r}" if rest else "a value is missing")
        return rest[:end]

    def string(self) -> str:
        rest = self.rest()
        found, index = [], 1
        while index < len(rest) and rest[index] != rest[0]:
            if rest[index] == "\\" and index + 1 < len(rest):
                index += 1
                found.append(_ESCAPES.get(rest[index], rest[index]))
            else:
                found.append(rest[index])
            index += 1
        if index >= len(rest):
            raise ValueError(f"the string {rest} has no end")
        self.position += index + 1
        return "".join(found)

    def array(self, kind: str) -> tuple[str, Any]:
        if kind and kind[0] != "a":
            raise ValueError(f"an array is no {kind!r}")
        inner = kind[1:]
        values: list[Any] = []
        self.position += 1
        while self.rest()[:1] != "]":
            if values:
                if self.rest()[:1] != ",":
                    raise ValueError("a comma or ] is missing in an array")
                self.position += 1
            inner, value = self.value(inner)
            values.append(value)
        self.position += 1
        if not inner:
            raise ValueError("an empty array needs its type, as in @as []")
        return f"a{inner}", values

    def number(self, kind: str, word: str) -> tuple[str, Any]:
        try:
            if kind == "d" or (not kind and ("." in word or "e" in word.lower()) and not word.startswith("0x")):
                return "d", float(word)
            number = int(word, 0)
        except ValueError:
            raise ValueError(f"{word!r} is no value") from None
        kind = kind or "i"
        least, most = _BOUNDS.get(kind, (1, 0))
        if not least <= number <= most:
            raise ValueError(f"{word} is no {kind!r}")
        return kind, number

    def _checked(self, kind: str, natural: str, fitting: tuple[str, ...], value: Any) -> tuple[str, Any]:
        if kind and kind not in fitting:
            raise ValueError(f"{value!r} is no {kind!r}")
        return kind or natural, value
