"""Small immutable value types, declared like data classes and cheap to import.

`dataclasses` pulls in `inspect` and costs more than a whole container start, so the start path uses this:
annotated fields, defaults, keyword and positional construction, equality by value, `replace`. Type checkers see a
frozen data class through `dataclass_transform`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_options: object) -> Callable[[T], T]:
        return lambda decorated: decorated


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make `cls` a frozen value type of its annotated fields (inherited fields first). Private names,
    capitals and `ClassVar`s are no fields."""
    return build(cls)


def build(cls: type[T]) -> type[T]:
    """Give `cls` its constructor, equality, hash and repr; shared by every decorator of this kind."""
    fields: list[str] = []
    defaults: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        for name, annotation in base.__dict__.get("__annotations__", {}).items():
            if name.startswith("_") or name.isupper() or annotation.startswith("ClassVar"):
                continue
            if name not in fields:
                fields.append(name)
            if name in base.__dict__:
                defaults[name] = base.__dict__[name]
    names = tuple(fields)

    def __init__(self: object, *args: object, **kwargs: object) -> None:
        if len(args) > len(names):
            raise TypeError(f"{cls.__name__} takes {len(names)} fields, got {len(args)}")
        values = dict(defaults)
        values.update(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names:
                raise TypeError(f"{cls.__name__} has no field {name!r}")
            if args and name in names[: len(args)]:
                raise TypeError(f"{cls.__name__} got {name!r} twice")
            values[name] = value
        if len(values) != len(names):
            missing = ", ".join(name for name in names if name not in values)
            raise TypeError(f"{cls.__name__} needs {missing}")
        for name in names:
            self.__dict__[name] = values[name]

    methods: dict[str, object] = {
        "__init__": __init__,
        "__setattr__": _refuse_change,
        "__delattr__": _refuse_change,
        "__eq__": _equal,
        "__hash__": _hash,
        "FIELDS": names,
    }
    if "__repr__" not in cls.__dict__:
        methods["__repr__"] = _show
    for name, value in methods.items():
        setattr(cls, name, value)
    return cls


def replace(value: T, /, **changes: Any) -> T:
    """A copy of the record `value` with some fields changed."""
    return type(value)(**{**value.__dict__, **changes})


def as_dict(value: object) -> dict[str, object]:
    """The record's fields by name, in order; nested records are left as they are."""
    return dict(value.__dict__)


def _refuse_change(self: object, name: str, *_value: object) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} cannot be changed: records are immutable")


def _equal(self: object, other: object) -> object:
    if type(self) is not type(other):
        return NotImplemented
    same: bool = self.__dict__ == other.__dict__
    return same


def _hash(self: object) -> int:
    return hash((type(self), tuple(self.__dict__.values())))


def _show(self: object) -> str:
    inside = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
    return f"{type(self).__name__}({inside})"
