"""Messages of the domain name system: what a question says, and answers to it (RFC 1035, section 4).

Questions come from containers and are hostile. Only the first question is read, name compression in it is refused (a
question's name stands first, so there is nothing to refer to), and every length is checked before anything is taken.
"""

from __future__ import annotations

from _struct import pack, unpack_from

from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

A, NS, PTR, AAAA, ANY, OPT = 1, 2, 12, 28, 255, 41
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
UDP_MOST = 512
"""Bytes of an answer over UDP to who has not asked for more."""
MESSAGE_MOST = 65535

_HEADER = 12
_QR, _AA, _TC, _RD, _RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
_LABEL_MOST, _NAME_MOST = 63, 255
_NAME_PLACE = 0xC000 | _HEADER
"""A pointer to the question's name."""


class Malformed(Exception):
    """Not a question. `answerable` says that there is at least a header to answer with FORMERR."""

    def __init__(self, answerable: bool) -> None:
        super().__init__()
        self.answerable = answerable


@record
class Question:
    """What is asked: the labels in lower case, `section` the question as it came, for the answer to repeat."""

    id: int
    flags: int
    labels: tuple[bytes, ...]
    kind: int
    cls: int
    section: bytes
    more: bool
    """Whether other sections follow (EDNS, RFC 6891)."""

    @property
    def name(self) -> str:
        """The name with dots and without the last one."""
        return b".".join(self.labels).decode("ascii", "replace")

    @property
    def opcode(self) -> int:
        """0 is a standard query."""
        return (self.flags & _OPCODE) >> 11


def parse_question(data: bytes) -> Question:
    """The question in `data`. Raises `Malformed`."""
    if len(data) < _HEADER:
        raise Malformed(answerable=False)
    identifier, flags, questions, answers, authorities, additional = unpack_from("!6H", data)
    if flags & _QR:
        raise Malformed(answerable=False)  # an answer to an answer would go round for ever
    if questions != 1 or answers or authorities or len(data) > MESSAGE_MOST:
        raise Malformed(answerable=True)
    labels, place = _parse_name(data, _HEADER)
    if place + 4 > len(data):
        raise Malformed(answerable=True)
    kind, cls = unpack_from("!HH", data, place)
    return Question(identifier, flags, labels, kind, cls, data[_HEADER : place + 4], additional > 0)


def _parse_name(data: bytes, place: int) -> tuple[tuple[bytes, ...], int]:
    labels: list[bytes] = []
    start = place
    while True:
        if place >= len(data):
            raise Malformed(answerable=True)
        length = data[place]
        place += 1
        if length == 0:
            return tuple(labels), place
        if length > _LABEL_MOST or place + length > len(data) or place + length - start >= _NAME_MOST:
            raise Malformed(answerable=True)
        labels.append(data[place : place + length].lower())
        place += length


def refuse(data: bytes, code: int) -> bytes:
    """An answer with nothing but the error `code` to a message of which only the header can be trusted."""
    identifier, flags = unpack_from("!HH", data)
    return pack("!6H", identifier, _QR | flags & (_OPCODE | _RD) | _RA | code, 0, 0, 0, 0)


def answer(
    question: Question, code: int, values: Iterable[tuple[int, bytes]] = (), *, ttl: int = 0, most: int = MESSAGE_MOST
) -> bytes:
    """The answer with the records `values`, each a type and its data. What takes more than `most` bytes is left out,
    and the answer says that it was cut, so that the question comes again over TCP."""
    flags = _QR | _AA | question.flags & (_OPCODE | _RD) | _RA | code
    records = []
    size = _HEADER + len(question.section)
    for kind, value in values:
        one = pack("!HHHIH", _NAME_PLACE, kind, IN, ttl, len(value)) + value
        size += len(one)
        if size > most:
            flags |= _TC
            break
        records.append(one)
    head = pack("!6H", question.id, flags, 1, len(records), 0, 0)
    return head + question.section + b"".join(records)


def is_answer_to(data: bytes, identifier: int, section: bytes) -> bool:
    """Whether `data` answers the question that was sent as `identifier`: the same number, and the same question."""
    if len(data) < _HEADER:
        return False
    theirs, flags, questions = unpack_from("!3H", data)
    if theirs != identifier or not flags & _QR or questions != 1:
        return False
    repeated = data[_HEADER : _HEADER + len(section)]
    return repeated[:-4].lower() == section[:-4].lower() and repeated[-4:] == section[-4:]  # case may be changed


def with_id(data: bytes, identifier: int) -> bytes:
    """The message under another number."""
    return pack("!H", identifier) + data[2:]


def encode_name(name: str) -> bytes:
    """`name` as labels."""
    labels = [label.encode("ascii") for label in name.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def address_of_reverse(labels: tuple[bytes, ...]) -> bytes | None:
    """The address that `4.3.2.1.in-addr.arpa` or a name of `ip6.arpa` stands for; None for any other name, and for one
    that names a network."""
    if len(labels) == 6 and labels[4:] == (b"in-addr", b"arpa"):
        parts = [int(label) for label in labels[3::-1] if label.isdigit() and len(label) <= 3]
        return bytes(parts) if len(parts) == 4 and max(parts) < 256 else None
    if len(labels) == 34 and labels[32:] == (b"ip6", b"arpa"):
        digits = b"".join(labels[31::-1])
        try:
            return bytes.fromhex(digits.decode("ascii")) if len(digits) == 32 else None
        except ValueError:
            return None
    return None
