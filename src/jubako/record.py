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


_MISSING = object()
_NONE: dict[str, str] = {}


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make `cls` a frozen value type of its annotated fields (inherited fields first). Private names,
    capitals and `ClassVar`s are no fields."""
    return build(cls)


def build(cls: type[T]) -> type[T]:
    """Give `cls` its constructor, equality, hash and repr; shared by every decorator of this kind."""
    template: dict[str, object] = {}  # every field in order, with its default
    for base in reversed(cls.__mro__):
        inside = base.__dict__
        for name, annotation in inside.get("__annotations__", _NONE).items():
            if name[0] == "_" or name.isupper() or annotation.startswith("ClassVar"):
                continue
            if name in inside or name not in template:
                template[name] = inside.get(name, _MISSING)
    names = tuple(template)
    needed = tuple([name for name in names if template[name] is _MISSING])

    # Every start makes some hundred records: no loop here runs in the interpreter but over what has no default.
    def __init__(self: object, *args: object, **kwargs: object) -> None:
        values = self.__dict__
        values.update(template)
        values.update(zip(names, args))  # noqa: B905 - `strict` would refuse what defaults are for
        values.update(kwargs)
        if len(values) != len(names) or len(args) > len(names) or (args and kwargs and _meet(kwargs, names, args)):
            raise _refusal(cls, args, kwargs)
        for name in needed:
            if values[name] is _MISSING:
                raise _refusal(cls, args, kwargs)

    for name, value in (("__init__", __init__), ("FIELDS", names), *_METHODS.items()):
        setattr(cls, name, value)
    if "__repr__" not in cls.__dict__:
        cls.__repr__ = _show  # type: ignore[method-assign]
    return cls


def _meet(kwargs: dict[str, object], names: tuple[str, ...], args: tuple[object, ...]) -> bool:
    """Whether a field is given by place and by name."""
    return not kwargs.keys().isdisjoint(names[: len(args)])


def _refusal(cls: type, args: tuple[object, ...], kwargs: dict[str, object]) -> TypeError:
    names: tuple[str, ...] = cls.FIELDS  # type: ignore[attr-defined]
    if len(args) > len(names):
        return TypeError(f"{cls.__name__} takes {len(names)} fields, got {len(args)}")
    for name in kwargs:
        if name not in names:
            return TypeError(f"{cls.__name__} has no field {name!r}")
        if name in names[: len(args)]:
            return TypeError(f"{cls.__name__} got {name!r} twice")
    missing = [name for name in names[len(args) :] if name not in kwargs and not hasattr(cls, name)]
    return TypeError(f"{cls.__name__} needs {', '.join(missing)}")


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


_METHODS = {"__setattr__": _refuse_change, "__delattr__": _refuse_change, "__eq__": _equal, "__hash__": _hash}
