"""DHCP messages and the frames in which they travel: RFC 2131, RFC 2132, RFC 791, RFC 768.

Whoever is on the network may answer, so every length and every value is checked before it is used; what does not hold
is no answer (`None`). Nothing here opens a socket: see `jubako.net.dhcp_client`.
"""

from __future__ import annotations

import _socket
from _struct import pack, unpack_from

from jubako.record import record

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE = 1, 2, 3, 4, 5, 6, 7
SERVER_PORT, CLIENT_PORT = 67, 68
BROADCAST = b"\xff" * 6

_NONE = "0.0.0.0"
_EVERYBODY = "255.255.255.255"
_BOOTREQUEST, _BOOTREPLY = 1, 2
_COOKIE = b"\x63\x82\x53\x63"
_BROADCAST_FLAG = 0x8000
_FIXED = 236  # up to the cookie
_PAD, _MASK, _ROUTER, _DNS, _MTU, _REQUESTED, _SECONDS, _OVERLOAD, _KIND, _SERVER, _WANTED, _T1, _T2, _CLIENT, _END = (
    0, 1, 3, 6, 26, 50, 51, 52, 53, 54, 55, 58, 59, 61, 255,
)  # fmt: skip
_MOST_SERVERS = 3  # as many as resolv.conf(5) takes
_IPV4, _UDP = 0x0800, 17
_ETHERNET_HEADER, _IP_HEADER, _UDP_HEADER = 14, 20, 8
_MORE_FRAGMENTS_OR_OFFSET = 0x3FFF
_LONGEST_LEASE = 1 << 31


@record
class Answer:
    """A server's answer: an OFFER, an ACK or a NAK, with what it says. 0 and empty: nothing said, or nothing usable.

    `seconds`, `renew` and `rebind` count from the answer. `sender` is the hardware address that it came from.
    """

    kind: int
    address: str = ""
    prefix: int = 0
    routers: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    server: str = ""
    seconds: int = 0
    renew: int = 0
    rebind: int = 0
    mtu: int = 0
    sender: bytes = BROADCAST


@record
class Question:
    """What a client sends. `address` is the one that it has (renewing), `requested` the one that it would like."""

    kind: int
    transaction: bytes
    hardware_address: bytes
    address: str = _NONE
    requested: str = ""
    server: str = ""
    elapsed: int = 0


def encode(question: Question) -> bytes:
    """The message, padded to the length that old relays want (RFC 1542)."""
    options = _option(_KIND, bytes([question.kind])) + _option(_CLIENT, b"\x01" + question.hardware_address)
    if question.requested:
        options += _option(_REQUESTED, _socket.inet_aton(question.requested))
    if question.server:
        options += _option(_SERVER, _socket.inet_aton(question.server))
    if question.kind in (DISCOVER, REQUEST):
        options += _option(_WANTED, bytes((_MASK, _ROUTER, _DNS, _MTU, _SECONDS, _SERVER, _T1, _T2)))
    flags = 0 if question.address != _NONE else _BROADCAST_FLAG  # who has no address yet cannot be sent to
    fixed = pack("!BBBB4sHH", _BOOTREQUEST, 1, 6, 0, question.transaction, min(question.elapsed, 0xFFFF), flags)
    fixed += _socket.inet_aton(question.address) + bytes(12) + question.hardware_address.ljust(16, b"\0") + bytes(192)
    return (fixed + _COOKIE + options + bytes([_END])).ljust(300, b"\0")


def decode(message: bytes, question: Question, sender: bytes = BROADCAST) -> Answer | None:
    """What `message` answers to `question`; None if it is no answer to it, or makes no sense."""
    if len(message) < _FIXED + len(_COOKIE) or message[_FIXED : _FIXED + 4] != _COOKIE:
        return None
    if message[0] != _BOOTREPLY or message[1] != 1 or message[2] != 6:
        return None
    if message[4:8] != question.transaction or message[28:34] != question.hardware_address:
        return None
    options = _options(message)
    if options is None or len(options.get(_KIND, b"")) != 1 or options[_KIND][0] not in (OFFER, ACK, NAK):
        return None
    server = _address(options.get(_SERVER, b""))
    if options[_KIND][0] == NAK:
        return Answer(NAK, server=server, sender=sender)
    address = _address(message[16:20])
    prefix = _prefix(options.get(_MASK, b""), address)
    if not address or not prefix or not _is_host(address, prefix):
        return None
    seconds = min(_number(options.get(_SECONDS, b"")), _LONGEST_LEASE)
    renew, rebind = _number(options.get(_T1, b"")), _number(options.get(_T2, b""))
    if not 0 < renew < rebind < seconds:  # none, or nonsense: as RFC 2131, 4.4.5 has them
        renew, rebind = seconds // 2, seconds * 7 // 8
    mtu = options.get(_MTU, b"")
    return Answer(
        options[_KIND][0],
        address=address,
        prefix=prefix,
        routers=_addresses(options.get(_ROUTER, b""))[:1],
        dns=_addresses(options.get(_DNS, b""))[:_MOST_SERVERS],
        server=server,
        seconds=seconds,
        renew=renew,
        rebind=rebind,
        mtu=int.from_bytes(mtu, "big") if len(mtu) == 2 else 0,
        sender=sender,
    )


def frame(question: Question, to: bytes = BROADCAST, server: str = _EVERYBODY) -> bytes:
    """The Ethernet frame that carries the message to `server` at the hardware address `to`."""
    message = encode(question)
    source, target = _socket.inet_aton(question.address), _socket.inet_aton(server)
    length = _UDP_HEADER + len(message)
    pseudo = source + target + pack("!BBH", 0, _UDP, length)
    ports = pack("!HHH", CLIENT_PORT, SERVER_PORT, length)
    checksum = _checksum(pseudo + ports + b"\0\0" + message) or 0xFFFF
    head = pack("!BBHHHBB", 0x45, 0, _IP_HEADER + length, 0, 0, 64, _UDP)
    header = head + pack("!H", _checksum(head + b"\0\0" + source + target)) + source + target
    link = to + question.hardware_address + pack("!H", _IPV4)
    return link + header + ports + pack("!H", checksum) + message


def unframe(data: bytes) -> tuple[bytes, bytes] | None:
    """The DHCP message for a client in an Ethernet frame, and who sent it; None where it is something else.

    Checksums are not verified: between a bridge and a container of one host they are not even filled in.
    """
    if len(data) < _ETHERNET_HEADER + _IP_HEADER or data[12:14] != pack("!H", _IPV4):
        return None
    packet = data[_ETHERNET_HEADER:]
    header = (packet[0] & 0xF) * 4
    (total,) = unpack_from("!H", packet, 2)
    (fragment,) = unpack_from("!H", packet, 6)
    if packet[0] >> 4 != 4 or header < _IP_HEADER or packet[9] != _UDP or fragment & _MORE_FRAGMENTS_OR_OFFSET:
        return None
    if total > len(packet) or total < header + _UDP_HEADER:
        return None
    source, target, length = unpack_from("!HHH", packet, header)
    if source != SERVER_PORT or target != CLIENT_PORT or not _UDP_HEADER <= length <= total - header:
        return None
    return packet[header + _UDP_HEADER : header + length], data[6:12]


def _option(code: int, value: bytes) -> bytes:
    return bytes((code, len(value))) + value


def _options(message: bytes) -> dict[int, bytes] | None:
    """The options by code, pieces of one joined (RFC 3396), those in the overloaded fields too; None if cut short."""
    found: dict[int, bytes] = {}
    if not _gather(message[_FIXED + len(_COOKIE) :], found):
        return None
    overload = found.get(_OVERLOAD, b"")
    if len(overload) == 1:
        if overload[0] & 1 and not _gather(message[108:236], found):
            return None
        if overload[0] & 2 and not _gather(message[44:108], found):
            return None
    return found


def _gather(data: bytes, found: dict[int, bytes]) -> bool:
    place = 0
    while place < len(data):
        code = data[place]
        place += 1
        if code == _PAD:
            continue
        if code == _END:
            return True
        if place >= len(data) or place + 1 + data[place] > len(data):
            return False
        found[code] = found.get(code, b"") + data[place + 1 : place + 1 + data[place]]
        place += 1 + data[place]
    return True


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big") if len(value) == 4 else 0


def _addresses(value: bytes) -> tuple[str, ...]:
    if len(value) % 4:
        return ()
    pieces = (_address(value[place : place + 4]) for place in range(0, len(value), 4))
    return tuple(piece for piece in pieces if piece)


def _address(value: bytes) -> str:
    """One host's address; empty for what is none: this network, loopback, multicast and above."""
    if len(value) != 4 or value[0] in (0, 127) or value[0] >= 224:
        return ""
    return _socket.inet_ntoa(value)


def _prefix(mask: bytes, address: str) -> int:
    """The length of the mask; without one, that of the address's old class. 0 for a mask with holes."""
    if not mask and address:
        first = _socket.inet_aton(address)[0]
        return 8 if first < 128 else 16 if first < 192 else 24
    if len(mask) != 4:
        return 0
    inverse = ~int.from_bytes(mask, "big") & 0xFFFFFFFF
    return 0 if inverse & (inverse + 1) else 32 - inverse.bit_length()


def _is_host(address: str, prefix: int) -> bool:
    """Whether the address is neither its network's own nor its broadcast address."""
    host = (1 << (32 - prefix)) - 1
    return prefix >= 31 or int.from_bytes(_socket.inet_aton(address), "big") & host not in (0, host)


def _checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(unpack_from(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
