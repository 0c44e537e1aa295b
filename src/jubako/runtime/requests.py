"""What a caller and its launcher say to each other: one packet each, fields ended by NUL, descriptors beside them.

A request carries a *template* (text that the launcher understands and keeps the plan of), the arguments and the
environment of this one call, and four descriptors: the socket for the answers, and the three standard streams. What is
too large for a packet (unix(7): a packet must fit into the sender's buffer) travels in a memory file.
"""

from __future__ import annotations

import os

from jubako import errors
from jubako.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, JubakoError
from jubako.linux import scm
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.linux.scm import Socket

LARGEST_PACKET = 1 << 16
READY, PROCESS = b"ready", b"process"
"""What a launcher says before it serves: that it does, and (with a pidfd) which process it is."""
_RUN, _LARGE = b"run", b"large"


@record
class Request:
    """One container to start: see the module's text. With `announce` the launcher says when the program runs."""

    template: bytes
    arguments: tuple[bytes, ...]
    environment: tuple[bytes, ...] = ()
    announce: bool = False


@record
class Refused:
    """The container could not be made, or its program not be started: the error with all its fields."""

    kind: str
    operation: str
    subject: str
    errno: int
    reason: str
    hint: str
    exit_code: int
    position: int = 0
    total: int = 0
    step: str = ""

    @classmethod
    def of(cls, failure: JubakoError) -> Refused:
        """`failure` as an answer."""
        return cls(
            type(failure).__name__, failure.operation, failure.subject, failure.errno, failure.reason, failure.hint,
            failure.exit_code, *(failure.step or (0, 0, "")),
        )  # fmt: skip

    def error(self) -> JubakoError:
        """The exception, of the class it had."""
        by_code: dict[int, type[JubakoError]] = {
            EXIT_NOT_EXECUTABLE: errors.NotExecutableError,
            EXIT_NOT_FOUND: errors.ProgramNotFoundError,
        }
        known = getattr(errors, self.kind, JubakoError)
        kind: type[JubakoError] = known if issubclass(known, JubakoError) else JubakoError
        kind = by_code.get(self.exit_code, kind)
        return kind(
            self.operation, self.subject, errno=self.errno, reason=self.reason, hint=self.hint,
            step=(self.position, self.total, self.step) if self.total else None,
        )  # fmt: skip


def send_request(socket: Socket, request: Request, descriptors: tuple[int, ...]) -> None:
    """Send `request` with its answer socket and standard streams. Raises `OSError` when the other end is gone."""
    fields = (
        _RUN, request.template, b"1" if request.announce else b"", b"%d" % len(request.arguments),
        *request.arguments, *request.environment,
    )  # fmt: skip
    packet = b"\0".join(fields)
    if len(packet) <= LARGEST_PACKET:
        scm.send(socket, packet, descriptors)
        return
    memory = os.memfd_create("jubako-request", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", buffering=0, closefd=False) as file:
            view = memoryview(packet)
            while view:
                view = view[file.write(view) :]
        scm.send(socket, _LARGE, (*descriptors, memory))
    finally:
        os.close(memory)


def receive_request(socket: Socket, count: int = 4) -> tuple[Request | None, tuple[int, ...]]:
    """The next request and its `count` descriptors; None when the sender is gone. Raises `ValueError` for all else."""
    packet, descriptors = scm.receive(socket, LARGEST_PACKET)
    if not packet:
        return None, ()
    try:
        if packet == _LARGE and len(descriptors) == count + 1:
            packet = _read_all(descriptors[count])
            os.close(descriptors[count])
            descriptors = descriptors[:count]
        fields = packet.split(b"\0")
        if fields[0] != _RUN or len(fields) < 4 or len(descriptors) != count:
            raise ValueError("not a request")
        end = 4 + int(fields[3])
        if len(fields) < end:
            raise ValueError("arguments are missing")
        request = Request(fields[1], tuple(fields[4:end]), tuple(fields[end:]), announce=bool(fields[2]))
    except BaseException:
        for fd in descriptors:
            os.close(fd)
        raise
    return request, descriptors


def encode_refusal(answer: Refused) -> bytes:
    """`answer` as a packet; text that is far too long is cut."""
    fields = ["Refused", *(str(value).replace("\0", "")[:8192] for value in answer.__dict__.values())]
    return "\0".join(fields).encode("utf-8", "surrogateescape")


def decode_refusal(packet: bytes) -> Refused | None:
    """The refusal in `packet`; None if it is another kind of answer."""
    name, *fields = packet.decode("utf-8", "surrogateescape").split("\0")
    if name != "Refused":
        return None
    kind, operation, subject, errno, reason, hint, exit_code, position, total, step = fields
    return Refused(kind, operation, subject, int(errno), reason, hint, int(exit_code), int(position), int(total), step)


def _read_all(memory: int) -> bytes:
    size = os.fstat(memory).st_size
    parts: list[bytes] = []
    offset = 0
    while offset < size:
        part = os.pread(memory, size - offset, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
