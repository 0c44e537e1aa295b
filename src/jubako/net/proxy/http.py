"""HTTP/1.1 messages as a proxy reads and writes them: RFC 9110 and RFC 9112.

A message is read strictly and written anew, so that nothing in it can mean one thing here and another at the server:
one request line, one Host, one way of saying how long the body is. Anything else is refused.
"""

from __future__ import annotations

from jubako.net.proxy.addresses import Address, BadHost, parse_host, parse_number
from jubako.record import record

LONGEST_HEAD = 32768
_MOST_FIELDS = 128
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0")
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer upgrade".split()
)
_NOT_HOP_BY_HOP = frozenset((b"host", b"content-length", b"transfer-encoding"))
"""What a Connection field may not take out of a message."""
REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"

Fields = list[tuple[bytes, bytes]]


class BadMessage(ValueError):
    """A message that is refused; `code` is the status to answer with."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@record
class Request:
    """What somebody asks of the proxy: a tunnel (`head` is empty then), or one request to send on as `head`.

    `body` is the number of octets that follow, -1 where they are chunked.
    """

    host: Address | str
    port: int
    head: bytes = b""
    body: int = 0

    @property
    def is_tunnel(self) -> bool:
        return not self.head


def find_head(data: bytes | bytearray) -> int:
    """Where the head of a message ends, 0 while it goes on. Raises `BadMessage` for one that is too long."""
    end = data.find(b"\r\n\r\n", 0, LONGEST_HEAD)
    if end < 0 and len(data) >= LONGEST_HEAD:
        raise BadMessage(431, "a head that is too long")
    return end + 4 if end >= 0 else 0


def read_request(head: bytes) -> Request:
    """The request whose head is `head`, with the empty line. Raises `BadMessage`."""
    line, fields = _read_head(head)
    method, target, version = _read_request_line(line)
    hosts = [value for name, value in fields if name.lower() == b"host"]
    if len(hosts) > 1 or (not hosts and version == b"HTTP/1.1"):
        raise BadMessage(400, "two Host fields" if hosts else "no Host field")
    body = _body_length(fields, version)
    if method == b"CONNECT":
        if body:
            raise BadMessage(400, "CONNECT with a body")
        host, port = _read_authority(target, None)
        return Request(host, port)
    if target[:7].lower() != b"http://":
        raise BadMessage(400, "this is a proxy: http://HOST/… or CONNECT HOST:PORT is wanted")
    rest = target[7:]
    end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if b"#" in target:
        raise BadMessage(400, "a fragment in the request's target")
    host, port = _read_authority(authority, 80)
    if hosts and _read_authority(hosts[0], 80) != (host, port):
        raise BadMessage(400, "a Host field that says something else than the request's target")
    if path[:1] != b"/":
        path = b"/" + path
    lines = [b" ".join((method, path, version)), b"Host: " + authority]
    lines += _end_to_end([field for field in fields if field[0].lower() != b"host"])
    return Request(host, port, _join(lines), body)


def read_response(head: bytes) -> tuple[int, bytes]:
    """The status of a server's response, and its head as the client gets it. Raises `BadMessage`."""
    line, fields = _read_head(head)
    version, _, rest = line.partition(b" ")
    status = rest[:3]
    if version not in _VERSIONS or len(status) != 3 or not status.isdigit() or rest[3:4] not in (b"", b" "):
        raise BadMessage(502, "no HTTP response")
    return int(status), _join([b"%b %b" % (version, rest), *_end_to_end(fields, is_final=not _is_interim(int(status)))])


def _is_interim(status: int) -> bool:
    return 100 <= status < 200


def refusal(code: int, reason: str) -> bytes:
    """A whole response that says why there is no other."""
    text = f"jubako's proxy: {reason}\n".encode()
    head = f"HTTP/1.1 {code} {REASONS[code]}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}"
    return f"{head}\r\nConnection: close\r\n\r\n".encode() + text


class Chunks:
    """Finds the end of a chunked body (RFC 9112, section 7.1), and refuses what is not exactly one."""

    _LONGEST_LINE = 1024
    _LONGEST_TRAILERS = 8192

    def __init__(self) -> None:
        self.is_over = False
        self._line = b""
        self._left = 0  # of the chunk, with the line end behind it
        self._in_trailers = False
        self._trailers = 0

    def take(self, data: bytes) -> int:
        """How many octets of `data`, which comes next, belong to the body. Raises `BadMessage`."""
        at = 0
        while at < len(data) and not self.is_over:
            if self._left > 2:
                step = min(self._left - 2, len(data) - at)
                self._left -= step
                at += step
            elif self._left:
                if data[at] != b"\r\n"[2 - self._left]:
                    raise BadMessage(400, "a chunk that does not end where it should")
                self._left -= 1
                at += 1
            else:
                at = self._take_line(data, at)
        return at

    def _take_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        stop = len(data) if end < 0 else end + 1
        self._line += data[at:stop]
        if len(self._line) > self._LONGEST_LINE:
            raise BadMessage(400, "a chunk's line that is too long")
        if end >= 0:
            line, self._line = self._line, b""
            if line[-2:] != b"\r\n" or b"\r" in line[:-2] or b"\0" in line:
                raise BadMessage(400, "a line end that is none")
            self._end_line(line[:-2])
        return stop

    def _end_line(self, line: bytes) -> None:
        if self._in_trailers:
            self._trailers += len(line) + 2
            if self._trailers > self._LONGEST_TRAILERS:
                raise BadMessage(400, "trailers that are too long")
            self.is_over = not line
            return
        size = line.partition(b";")[0].rstrip(b" \t")
        if not 0 < len(size) <= 15 or not frozenset(b"0123456789abcdefABCDEF").issuperset(size):
            raise BadMessage(400, "a chunk without a size")
        self._in_trailers = int(size, 16) == 0
        self._left = 0 if self._in_trailers else int(size, 16) + 2


def _read_head(head: bytes) -> tuple[bytes, Fields]:
    first, *lines = head[:-4].split(b"\r\n")
    if any(octet in head.replace(b"\r\n", b"") for octet in (b"\r", b"\n", b"\0")):
        raise BadMessage(400, "a line end or a NUL where none may be")
    if len(lines) > _MOST_FIELDS:
        raise BadMessage(431, "too many fields")
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or not _TOKEN.issuperset(name):
            raise BadMessage(400, "a line that is no field")
        fields.append((name, value.strip(b" \t")))
    return first, fields


def _read_request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    words = line.split(b" ")
    if len(words) != 3 or words[2] not in _VERSIONS or not words[0] or not _TOKEN.issuperset(words[0]):
        raise BadMessage(400, "no HTTP/1.1 request line")
    method, target, version = words
    if any(not 0x21 <= octet <= 0x7E for octet in target):
        raise BadMessage(400, "a target with characters that have to be percent-encoded")
    return method, target, version


def _read_authority(text: bytes, default: int | None) -> tuple[Address | str, int]:
    """HOST:PORT of RFC 3986 without user information; without a port only where there is a default."""
    written = text.decode("latin-1")
    if "@" in written:
        raise BadMessage(400, "user information before the host")
    if written.startswith("["):
        host, bracket, rest = written.partition("]")
        host, colon, digits = host + bracket, rest[:1], rest[1:]
        if colon not in ("", ":"):
            raise BadMessage(400, "no port behind the address")
    else:
        host, colon, digits = written.partition(":")
    port = parse_number(digits, 65535) if colon else default
    if not port:
        raise BadMessage(400, "no port from 1 to 65535")
    try:
        return parse_host(host), port
    except BadHost as failure:
        raise BadMessage(400, str(failure)) from None


def _body_length(fields: Fields, version: bytes) -> int:
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    codings = [value.lower() for name, value in fields if name.lower() == b"transfer-encoding"]
    if codings:
        if lengths or version != b"HTTP/1.1":
            raise BadMessage(400, "two ways of saying how long the body is")
        if codings != [b"chunked"]:
            raise BadMessage(501, "a transfer coding other than chunked")
        return -1
    if not lengths:
        return 0
    length = lengths[0]
    if len(lengths) > 1 or not 0 < len(length) <= 15 or not frozenset(b"0123456789").issuperset(length):
        raise BadMessage(400, "no single Content-Length")
    return int(length)


def _end_to_end(fields: Fields, is_final: bool = True) -> list[bytes]:
    """The fields that go on to the other side, as lines. The connection ends with its one request."""
    options = {
        option.strip(b" \t").lower()
        for name, value in fields
        if name.lower() == b"connection"
        for option in value.split(b",")
    }
    if not options.isdisjoint(_NOT_HOP_BY_HOP):
        raise BadMessage(400, "a Connection field that names what belongs to the message")
    dropped = _HOP_BY_HOP | options
    lines = [name + b": " + value for name, value in fields if name.lower() not in dropped]
    return [*lines, b"Connection: close"] if is_final else lines


def _join(lines: list[bytes]) -> bytes:
    return b"\r\n".join(lines) + b"\r\n\r\n"
