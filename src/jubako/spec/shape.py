"""How JSON values become records and records JSON: one small codec a kind of value, combined in tables.

A document is read and written by the same table (`document`), so the two cannot drift apart. What is wrong is raised as
`Wrong`, and every level on its way out puts its own name before the path: nothing is paid for paths that nobody asks
for. Unknown properties are ignored, as the specification demands; `null` counts as absent, since Go programs write it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# When a property is missing: fine; fine, but it is always written; an error.
OPTIONAL, ALWAYS, REQUIRED = 0, 1, 2

U32 = 0xFFFFFFFF
U64 = 0xFFFFFFFFFFFFFFFF
I64 = 0x7FFFFFFFFFFFFFFF

MOST = 65536
"""Entries of a list or an object: no container needs more, and whoever sends millions gets an answer at once."""
_LONGEST = 100


class Wrong(ValueError):
    """A value that does not fit, with the path to it ("process.args[0]")."""

    def __init__(self, text: str, path: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.path = path

    def below(self, parent: str) -> Wrong:
        """The same fault, seen from one level further out."""
        self.path = parent + self.path
        return self

    def __str__(self) -> str:
        told = f"{self.path.lstrip('.')}: {self.text}" if self.path else self.text
        if told.isprintable():
            return told
        # Names in the path are the document's, and may hold what moves a terminal's cursor.
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in told)


class Codec:
    """Reads one kind of JSON value, and writes it."""

    def read(self, value: Any) -> Any:
        """`value` as it stands in a record. Raises `Wrong`."""
        raise NotImplementedError

    def write(self, value: Any) -> Any:
        """The JSON value for what stands in a record."""
        return value


class Text(Codec):
    """A string that may be handed to the kernel: without NUL."""

    def read(self, value: Any) -> str:
        if not isinstance(value, str):
            raise Wrong(f"must be a string, not {kind_of(value)}")
        if "\0" in value:
            raise Wrong("must not contain a NUL character")
        if not value.isascii():
            try:
                value.encode("utf-8", "surrogateescape")  # as every path and argument is handed to the kernel
            except UnicodeEncodeError:
                raise Wrong("must not contain a lone surrogate") from None
        return value


class Flag(Codec):
    """true or false."""

    def read(self, value: Any) -> bool:
        if value is not True and value is not False:
            raise Wrong(f"must be true or false, not {kind_of(value)}")
        return value


class Integer(Codec):
    """A whole number within bounds, both included."""

    def __init__(self, least: int, most: int) -> None:
        self.least = least
        self.most = most

    def read(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise Wrong(f"must be a whole number, not {kind_of(value)}")
        if not self.least <= value <= self.most:
            raise Wrong(f"must lie between {self.least} and {self.most}, not {_short(str(value))}")
        return value


class ListOf(Codec):
    """An array of one kind of value, kept as a tuple; more than `most` of them are refused without looking at one."""

    def __init__(self, item: Codec, most: int = MOST) -> None:
        self.item = item
        self.most = most

    def read(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise Wrong(f"must be an array, not {kind_of(value)}")
        _count(value, self.most)
        result = []
        read = self.item.read
        for position, one in enumerate(value):
            try:
                result.append(read(one))
            except Wrong as wrong:
                raise wrong.below(f"[{position}]") from None
        return tuple(result)

    def write(self, value: Any) -> list[Any]:
        return [self.item.write(one) for one in value]


class PairsOf(Codec):
    """An object with free names, kept as a tuple of (name, value) in the document's order."""

    def __init__(self, item: Codec) -> None:
        self.item = item

    def read(self, value: Any) -> tuple[tuple[str, Any], ...]:
        if not isinstance(value, dict):
            raise Wrong(f"must be an object, not {kind_of(value)}")
        _count(value, MOST)
        result = []
        for name, one in value.items():
            try:
                result.append((TEXT.read(name), self.item.read(one)))
            except Wrong as wrong:
                raise wrong.below(f".{_printable(name)}") from None
        return tuple(result)

    def write(self, value: Any) -> dict[str, Any]:
        return {name: self.item.write(one) for name, one in value}


class ObjectOf(Codec):
    """An object with known properties, kept as a record.

    `rows` are (attribute, property, codec) or (attribute, property, codec, OPTIONAL | ALWAYS | REQUIRED).
    """

    def __init__(self, kind: type[Any], *rows: tuple[Any, ...]) -> None:
        self.kind = kind
        self.fields: tuple[tuple[str, str, Codec, int], ...] = tuple(
            (*row, OPTIONAL) if len(row) == 3 else row for row in rows
        )

    def read(self, value: Any) -> Any:
        return self.kind(**self.read_fields(value))

    def read_fields(self, value: Any) -> dict[str, Any]:
        """The record's fields that `value` sets."""
        if not isinstance(value, dict):
            raise Wrong(f"must be an object, not {kind_of(value)}")
        found: dict[str, Any] = {}
        for attribute, name, codec, presence in self.fields:
            one = value.get(name)
            if one is None:
                if presence == REQUIRED:
                    raise Wrong("is required", f".{name}")
                continue
            try:
                found[attribute] = codec.read(one)
            except Wrong as wrong:
                raise wrong.below(f".{name}") from None
        return found

    def write(self, value: Any) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for attribute, name, codec, presence in self.fields:
            one = getattr(value, attribute)
            if presence == OPTIONAL and one == getattr(self.kind, attribute):
                continue
            result[name] = codec.write(one)
        return result


class NamedObjects(Codec):
    """An object whose free names lead to objects, kept as a tuple of records that hold the name in `attribute`."""

    def __init__(self, attribute: str, item: ObjectOf) -> None:
        self.attribute = attribute
        self.item = item

    def read(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, dict):
            raise Wrong(f"must be an object, not {kind_of(value)}")
        _count(value, MOST)
        result = []
        for name, one in value.items():
            try:
                result.append(self.item.kind(**{self.attribute: TEXT.read(name)}, **self.item.read_fields(one)))
            except Wrong as wrong:
                raise wrong.below(f".{_printable(name)}") from None
        return tuple(result)

    def write(self, value: Any) -> dict[str, Any]:
        return {getattr(one, self.attribute): self.item.write(one) for one in value}


def kind_of(value: Any) -> str:
    """What JSON calls `value`, for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {_short(str(value))}"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list | tuple) else "an object"


def quoted(text: str) -> str:
    """`text` for a message: in quotes, on one line, and not longer than a reader takes."""
    return repr(_short(text))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _printable(name: str) -> str:
    """A free name as a part of a path in a message."""
    return name if name.isprintable() and len(name) <= _LONGEST else quoted(name)


def _count(values: Any, most: int) -> None:
    if len(values) > most:
        raise Wrong(f"has {len(values)} entries, {most} are the most")


TEXT = Text()
FLAG = Flag()
UINT16 = Integer(0, 0xFFFF)
UINT32 = Integer(0, U32)
UINT64 = Integer(0, U64)
INT32 = Integer(-0x80000000, 0x7FFFFFFF)
INT64 = Integer(-I64 - 1, I64)
TEXTS = ListOf(TEXT)
TEXT_PAIRS = PairsOf(TEXT)
