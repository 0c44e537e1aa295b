"""What a step is, what a plan is, and the slots through which values known only at run time pass.

A step is an immutable value that knows how to do itself (`apply`: one to a few system calls), how to explain itself
(`call`: the system call with its arguments; `why`: one line), and whose turn it is (`actor`). A plan is one
totally ordered tuple of steps for all processes that take part; where the actor changes, the applier passes a baton.
"""

from __future__ import annotations

import os

from jubako.record import build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_options: object) -> Callable[[T], T]:
        return lambda decorated: decorated


RUNTIME = "runtime"
SUPERVISOR = "supervisor"
INIT = "init"


class Slots:
    """Descriptors and numbers that steps leave for later steps, by name; one table a process.

    A child made by a step inherits a copy of the table with the descriptors themselves.
    """

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        self.values: dict[str, Any] = dict(values or {})

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.values[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def path(self, path: str) -> str:
        """`path`, or a way to it by a descriptor opened while this process still might walk there (`OpenPaths`)."""
        fd = self.values.get("path:" + path)
        if fd is not None:
            return f"/proc/self/fd/{fd}"
        parent, _, name = path.rpartition("/")
        fd = self.values.get("path:" + parent)
        return path if fd is None else f"/proc/self/fd/{fd}/{name}"

    def base(self, path: str) -> tuple[int, str]:
        """Below which descriptor the container's `path` is to be looked up, and as what: below our own mount at /dev,
        /proc or /sys where that is held, wherever its directory has gone meanwhile; else below the root."""
        clean = os.path.normpath("/" + path.lstrip("/"))
        for name in ("/dev", "/proc", "/sys"):
            fd = self.values.get("mount:" + name)
            if fd is not None and clean.startswith(name + "/"):
                return fd, clean[len(name) :]
        return self.values["root"], path

    def close(self, name: str) -> None:
        """Close the descriptor in a slot, and forget it; a slot that is not filled is left alone."""
        fd = self.values.pop(name, -1)
        if fd >= 0:
            os.close(fd)


class Step:
    """The base of all steps; see the module's text. Subclasses are declared with `@step`."""

    actor = INIT
    why = ""
    produces: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()

    def apply(self, slots: Slots) -> None:
        """Do it. Raises `OSError` (or `JubakoError` where the cause is not a system call)."""
        raise NotImplementedError

    def call(self) -> str:
        """The system call or calls, as a reader of strace would know them."""
        raise NotImplementedError

    def purpose(self) -> str:
        """Why the step is taken, in one line, for `explain`: `why`, unless the fields say more."""
        return self.why

    def operation(self) -> str:
        """What failed, in words, when it fails: "mount proc on"."""
        return _words(type(self).__name__)

    def subject(self) -> str:
        """To what, when it fails: a path, a name; empty if the operation says it all."""
        return ""

    def hint(self, errno: int) -> str:
        """What may help against `errno`; empty if nothing is known."""
        return ""


@dataclass_transform(frozen_default=True)
def step(*, actor: str = INIT, why: str = "") -> Callable[[type[T]], type[T]]:
    """Declare a step: a record of its fields, done by `actor`. `why` is the one-line reason, else the docstring's."""

    def decorate(cls: type[T]) -> type[T]:
        build(cls)
        cls.actor = actor  # type: ignore[attr-defined]
        cls.why = why or (cls.__doc__ or "").partition("\n")[0]  # type: ignore[attr-defined]
        return cls

    return decorate


class Plan:
    """A totally ordered tuple of steps, and what must be in the slots before it starts."""

    def __init__(self, steps: tuple[Step, ...], given: tuple[str, ...] = ()) -> None:
        self.steps = steps
        self.given = given

    def check_slots(self) -> None:
        """Raise `ValueError` when a step needs what no earlier step produced: a fault of a planner."""
        filled = set(self.given)
        for position, item in enumerate(self.steps, 1):
            for name in item.needs:
                if name not in filled:
                    raise ValueError(f"step {position} ({type(item).__name__}) needs {name!r}, which nobody produced")
            filled.update(item.produces)

    def actors(self) -> tuple[str, ...]:
        """The actors that take part, in order of their first step."""
        return tuple(dict.fromkeys(item.actor for item in self.steps))


def quote(text: str) -> str:
    """`text` as strace shows strings: in double quotes, with C's escapes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'


def printable(text: str) -> str:
    """`text` with C's escapes for what would break a line or move a terminal's cursor."""
    if text.isprintable():
        return text
    shown = text.replace("\n", "\\n").replace("\t", "\\t")
    return "".join(c if c.isprintable() else f"\\{ord(c):o}" for c in shown)


def _words(name: str) -> str:
    return "".join(" " + c.lower() if c.isupper() else c for c in name).strip()
