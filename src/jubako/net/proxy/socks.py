"""SOCKS version 5 without authentication: RFC 1928. Only CONNECT; names are welcome, since they are what rules name."""

from __future__ import annotations

from jubako.net.proxy.addresses import Address, BadHost, parse_host
from jubako.record import record

VERSION = 5
NO_AUTHENTICATION = b"\x05\x00"
NO_METHOD = b"\x05\xff"
(GRANTED, FAILED, NOT_ALLOWED, NO_NETWORK, NO_HOST, REFUSED, EXPIRED, NO_COMMAND, NO_KIND) = range(9)
LONGEST = 4 + 1 + 255 + 2
"""Octets of the longest request."""
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4


@record
class Request:
    """Where somebody wants to go, and how many octets said so."""

    host: Address | str
    port: int
    length: int


class BadRequest(ValueError):
    """A request that cannot be granted; `code` is the reply's."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def read_greeting(data: bytes) -> tuple[bytes, int] | None:
    """What to answer to the client's methods and how many octets they take; None while some are missing."""
    if len(data) < 2 or len(data) < 2 + data[1]:
        return None
    methods = data[2 : 2 + data[1]]
    return NO_AUTHENTICATION if 0 in methods else NO_METHOD, 2 + data[1]


def read_request(data: bytes) -> Request | None:
    """The request at the beginning of `data`; None while octets are missing. Raises `BadRequest`."""
    if len(data) < 5:
        return None
    version, command, reserved, kind, length = data[:5]
    if version != VERSION or reserved != 0:
        raise BadRequest(FAILED, "no SOCKS 5 request")
    if command != _CONNECT:
        raise BadRequest(NO_COMMAND, "a SOCKS command other than CONNECT")
    if kind not in (_IPV4, _NAME, _IPV6):
        raise BadRequest(NO_KIND, "an unknown kind of address")
    start, size = (5, length) if kind == _NAME else (4, 4 if kind == _IPV4 else 16)
    end = start + size + 2
    if len(data) < end:
        return None
    field = data[start : end - 2]
    port = int.from_bytes(data[end - 2 : end], "big")
    if port == 0:
        raise BadRequest(FAILED, "port 0")
    if kind != _NAME:
        return Request(Address(size * 8, int.from_bytes(field, "big")), port, end)
    try:
        text = field.decode("latin-1")
        return Request(parse_host(f"[{text}]" if ":" in text else text), port, end)
    except BadHost as failure:
        raise BadRequest(FAILED, str(failure)) from None


def reply(code: int) -> bytes:
    """The reply with that code. The address that it is to name is the proxy's own business."""
    return bytes((VERSION, code, 0, _IPV4, 0, 0, 0, 0, 0, 0))
