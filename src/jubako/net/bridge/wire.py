"""What is said to the keeper and how it answers: JSON objects in packets, descriptors beside them.

A connection is one container's (or one command's). Its requests, by `do`:

`reserve`   a container wants addresses on networks; answered with what it gets (`attachments`, `dns`)
`attach`    the network namespace comes along, and perhaps a pidfd; answered when packets can pass
`add`       a running container (`id`) is to be on one more network
`remove`    it is to leave one
`members`   who is there
`uplink`    how the outside is reached

A container leaves when its connection ends; where it has handed over a pidfd, when that process ends. What the keeper
says unasked has `notice`.
"""

from __future__ import annotations

from jubako import jsontext
from jubako.errors import JubakoError, NotFoundError, UsageError
from jubako.linux import scm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SOCKET = "keeper"
_KINDS = {"JubakoError": JubakoError, "NotFoundError": NotFoundError, "UsageError": UsageError}


def send(socket: scm.Socket, document: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    """One request or answer."""
    scm.send(socket, jsontext.dumps(document).encode("utf-8", "surrogateescape"), descriptors)


def receive(socket: scm.Socket) -> tuple[dict[str, Any] | None, tuple[int, ...]]:
    """The next one and its descriptors; None when the peer is gone."""
    try:
        data, descriptors = scm.receive(socket)
    except ConnectionResetError:
        return None, ()
    if not data:
        return None, descriptors
    document = jsontext.loads(data)
    return (document if isinstance(document, dict) else {}), descriptors


def failure_document(failure: JubakoError | OSError) -> dict[str, Any]:
    """An answer that tells of a failure."""
    if isinstance(failure, OSError):
        failure = JubakoError.from_os_error("connect to the network", str(failure.filename or ""), failure)
    name = type(failure).__name__
    return {
        "error": {
            "kind": name if name in _KINDS else "JubakoError",
            "operation": failure.operation,
            "subject": failure.subject,
            "errno": failure.errno,
            "reason": failure.reason,
            "hint": failure.hint,
        }
    }


def raise_failure(document: dict[str, Any]) -> None:
    """Raise what an answer tells of, if it does."""
    error = document.get("error")
    if error:
        raise _KINDS[error["kind"]](
            error["operation"],
            error["subject"],
            errno=error["errno"],
            reason=error["reason"],
            hint=error["hint"],
        )
