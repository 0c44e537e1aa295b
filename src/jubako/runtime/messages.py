"""What the processes of one container say to each other: typed, one packet a message, fields ended by NUL.

No JSON: these processes start and end with a container, and must not import anything for their talk.
"""

from __future__ import annotations

from jubako.errors import JubakoError, StepError
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.linux.scm import Socket

_LONGEST = 1 << 13
"""More of an error's text nobody reads; a program's name alone may fill a packet."""


@record
class Baton:
    """The steps before `position` are done; whoever's step stands there goes on."""

    position: int


@record
class Failed:
    """A step failed: everything that the error in the user's terminal will say, also where nobody knows the plan."""

    position: int
    operation: str
    subject: str
    errno: int
    reason: str
    hint: str
    exit_code: int
    total: int = 0
    step: str = ""

    @classmethod
    def of(cls, error: JubakoError, position: int = 0) -> Failed:
        """`error` as a message."""
        at, total, step = error.step or (position, 0, "")
        operation, subject, reason, hint = (
            text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
            for text in (error.operation, error.subject, error.reason, error.hint)
        )
        return cls(position or at, operation, subject, error.errno, reason, hint, error.exit_code, total, step)

    def error(self, names: tuple[str, ...] = ()) -> JubakoError:
        """The exception, which says which step it was if the message or the names of all steps tell."""
        at = (self.position, self.total, self.step) if self.step else None
        if at is None and 0 < self.position <= len(names):
            at = (self.position, len(names), names[self.position - 1])
        failure = StepError(
            self.operation, self.subject, errno=self.errno, reason=self.reason, hint=self.hint,
            step=at if self.exit_code == StepError.exit_code else None,
        )  # fmt: skip
        failure.exit_code = self.exit_code
        return failure


@record
class Started:
    """The program runs; `pid` is its PID 1 as the host's /proc counts it, 0 where nobody asked."""

    pid: int


@record
class Exited:
    """The container ended with this exit code (128+N for signal N)."""

    code: int


@record
class Signal:
    """Pass this signal on to the container's first process."""

    number: int


@record
class Resize:
    """The terminal at the other end has this size now."""

    rows: int
    columns: int


@record
class Detach:
    """The client goes; the container stays."""

    reason: str = ""


@record
class Attach:
    """The client wants the container's streams; `stdin` is 1 if it will send input."""

    stdin: int


@record
class Attached:
    """Comes with descriptors: to read output and errors from and, where asked for and open, to write input to.

    With `terminal` there is a pty, and everything comes as output.
    """

    terminal: int


@record
class GiveNamespaces:
    """The client wants descriptors of the container's namespaces, to join them."""

    pid: int = 0


@record
class Namespaces:
    """Comes with descriptors: the namespaces `kinds` (separated by commas) in order, and last a pidfd of PID 1."""

    kinds: str


@record
class Ask:
    """The client wants something of the container's network: `verb` says what, `text` the rest."""

    verb: str
    text: str


@record
class Answer:
    """It is done; `text` is what there is to say."""

    text: str


Message = (
    Baton | Failed | Started | Exited | Signal | Resize | Detach | Attach | Attached | GiveNamespaces | Namespaces | Ask
    | Answer
)  # fmt: skip
_TYPES: tuple[type, ...] = (
    Baton, Failed, Started, Exited, Signal, Resize, Detach, Attach, Attached, GiveNamespaces, Namespaces, Ask, Answer,
)  # fmt: skip
_BY_NAME = {kind.__name__: kind for kind in _TYPES}


def encode(message: Message) -> bytes:
    """`message` as one packet."""
    fields = [type(message).__name__, *(str(value).replace("\0", "") for value in message.__dict__.values())]
    return "\0".join(fields).encode("utf-8", "surrogateescape")


def decode(data: bytes) -> Message:
    """The message of one packet. Raises `ValueError` for anything else."""
    name, *fields = data.decode("utf-8", "surrogateescape").split("\0")
    kind = _BY_NAME.get(name)
    if kind is None:
        raise ValueError(f"unknown message {name!r}")
    types: dict[str, str] = kind.__annotations__
    names = tuple(types)
    if len(fields) != len(names):
        raise ValueError(f"a {name} has {len(names)} fields, not {len(fields)}")
    values = [int(text) if types[field] == "int" else text for field, text in zip(names, fields, strict=True)]
    make: Callable[..., Message] = kind
    return make(*values)


def send(socket: Socket, message: Message, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message, with descriptors if any."""
    from jubako.linux import scm

    scm.send(socket, encode(message), descriptors)


def receive(socket: Socket) -> tuple[Message | None, tuple[int, ...]]:
    """The next message and its descriptors; None when the peer is gone."""
    from jubako.linux import scm

    try:
        data, descriptors = scm.receive(socket)
    except ConnectionResetError:
        # The peer closed with a packet of ours unread. That is told once, ahead of the packets that it sent before.
        try:
            data, descriptors = scm.receive(socket)
        except ConnectionResetError:
            return None, ()
    return (decode(data) if data else None), descriptors
