"""DHCP messages as servers send them, as RFC 2131 and 2132 have them, and as somebody hostile would."""

from __future__ import annotations

import random
import socket
import struct

import pytest

from jubako.net.dhcp import (
    BROADCAST,
    DISCOVER,
    NAK,
    OFFER,
    REQUEST,
    Answer,
    Question,
    decode,
    encode,
    frame,
    unframe,
)
from jubako.record import replace

MAC, SERVER_MAC = bytes.fromhex("020000000005"), bytes.fromhex("02000000aaaa")
QUESTION = Question(DISCOVER, b"abcd", MAC)
MASK24 = b"\x01\x04\xff\xff\xff\x00"
USUAL = MASK24 + b"\x03\x04\x0a\x00\x03\x01\x06\x08\x0a\x00\x03\x01\x08\x08\x08\x08\x33\x04\x00\x00\x0e\x10"


def message(
    options: bytes = USUAL,
    kind: int = OFFER,
    address: str = "10.0.3.5",
    transaction: bytes = b"abcd",
    mac: bytes = MAC,
    file: bytes = b"",
    end: bytes = b"\xff",
) -> bytes:
    fixed = struct.pack("!BBBB4s", 2, 1, 6, 0, transaction) + bytes(8) + socket.inet_aton(address) + bytes(8)
    fixed += mac.ljust(16, b"\0") + bytes(64) + file.ljust(128, b"\0") + b"\x63\x82\x53\x63"
    return fixed + bytes((53, 1, kind)) + b"\x36\x04\x0a\x00\x03\x01" + options + end


def test_an_offer_is_read() -> None:
    assert decode(message(), QUESTION, SERVER_MAC) == Answer(
        OFFER,
        address="10.0.3.5",
        prefix=24,
        routers=("10.0.3.1",),
        dns=("10.0.3.1", "8.8.8.8"),
        server="10.0.3.1",
        seconds=3600,
        renew=1800,
        rebind=3150,
        sender=SERVER_MAC,
    )


def test_the_servers_own_times_of_renewal_are_kept_where_they_make_sense() -> None:
    times = b"\x3a\x04\x00\x00\x00\x64\x3b\x04\x00\x00\x00\xc8"
    answer = decode(message(USUAL + times), QUESTION)
    assert answer is not None
    assert (answer.renew, answer.rebind) == (100, 200)
    answer = decode(message(USUAL + b"\x3a\x04\xff\xff\xff\xff\x3b\x04\x00\x00\x00\x01"), QUESTION)
    assert answer is not None
    assert (answer.renew, answer.rebind) == (1800, 3150)


def test_a_refusal_is_read() -> None:
    answer = decode(message(b"", NAK, "0.0.0.0"), QUESTION)
    assert answer is not None
    assert answer.kind == NAK


def test_pieces_of_an_option_are_joined_and_overloaded_fields_are_read() -> None:
    options = MASK24 + b"\x06\x02\x0a\x00\x34\x01\x01\x06\x02\x03\x01"
    answer = decode(message(options, file=b"\x1a\x02\x05\x78\xff"), QUESTION)
    assert answer is not None
    assert (answer.dns, answer.mtu) == (("10.0.3.1",), 1400)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(message(transaction=b"abce"), id="another client's transaction"),
        pytest.param(message(mac=SERVER_MAC), id="another client's hardware address"),
        pytest.param(b"\x01" + message()[1:], id="a question"),
        pytest.param(message(kind=DISCOVER), id="not a server's kind"),
        pytest.param(message(address="0.0.0.0"), id="no address"),
        pytest.param(message(address="127.0.0.1"), id="loopback"),
        pytest.param(message(address="224.0.0.1"), id="multicast"),
        pytest.param(message(address="10.0.3.255"), id="the broadcast address"),
        pytest.param(message(address="10.0.3.0"), id="the network's address"),
        pytest.param(message(b"\x01\x04\xff\x00\xff\x00"), id="a mask with holes"),
        pytest.param(message(b"\x01\x04\x00\x00\x00\x00"), id="everybody's network"),
        pytest.param(message(b"\x01\x03\xff\xff\xff"), id="a mask that is too short"),
        pytest.param(message(b"\x06\xff\x0a", end=b""), id="an option that is cut short"),
        pytest.param(message(b"\x06", end=b""), id="an option without a length"),
        pytest.param(message()[:236], id="no cookie"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_does_not_hold_is_no_answer(data: bytes) -> None:
    assert decode(data, QUESTION) is None


def test_servers_that_are_none_are_left_out() -> None:
    servers = b"\x03\x04\x7f\x00\x00\x01\x06\x0c\x00\x00\x00\x00\xff\xff\xff\xff\x0a\x00\x03\x09"
    answer = decode(message(MASK24 + servers), QUESTION)
    assert answer is not None
    assert (answer.routers, answer.dns) == ((), ("10.0.3.9",))
    many = decode(message(MASK24 + b"\x06\x28" + b"\x0a\x00\x03\x09" * 10), QUESTION)
    assert many is not None
    assert len(many.dns) == 3


def test_junk_is_never_more_than_no_answer() -> None:
    """Messages and frames with bytes changed, cut and put in at random: no failure, and nothing that does not hold."""
    chance = random.Random(2131)
    whole = bytearray(udp(message(USUAL + b"\x34\x01\x03", file=b"\x1a\x02\x05\x78\xff")))
    for _ in range(20_000):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            place = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[place] = chance.choice((0, 1, 4, 52, 53, 255, chance.randrange(256)))
                case 1:
                    del data[place:]
                case _:
                    data[place:place] = chance.randbytes(chance.randrange(9))
            if not data:
                break
        found = unframe(bytes(data))
        for text in (found[0] if found else b"", bytes(data[42:])):
            answer = decode(text, QUESTION, SERVER_MAC)
            if answer is not None and answer.kind != NAK:
                assert 0 < answer.prefix <= 32
                assert 0 < socket.inet_aton(answer.address)[0] < 224
                assert 0 <= answer.renew <= answer.rebind <= answer.seconds <= 1 << 31
                assert len(answer.dns) <= 3


def udp(payload: bytes, source: int = 67, target: int = 68) -> bytes:
    """An Ethernet frame as a server sends it, with no checksums."""
    body = struct.pack("!HHHH", source, target, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0)
    return MAC + SERVER_MAC + b"\x08\x00" + head + socket.inet_aton("10.0.3.1") + b"\xff" * 4 + body


def test_a_message_is_taken_out_of_its_frame() -> None:
    assert unframe(udp(b"x" * 300) + bytes(18)) == (b"x" * 300, SERVER_MAC)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(udp(b"x", source=53), id="not from a server"),
        pytest.param(udp(b"x", target=67), id="to a server"),
        pytest.param(udp(b"x")[:40], id="cut short"),
        pytest.param(udp(b"x").replace(b"\x08\x00\x45", b"\x86\xdd\x45"), id="not IPv4"),
        pytest.param(udp(b"x")[:20] + b"\x20\x00" + udp(b"x")[22:], id="a fragment"),
        pytest.param(udp(b"x")[:14] + b"\x4f" + udp(b"x")[15:], id="a header that is longer than the packet"),
        pytest.param(udp(b"x")[:38] + b"\xff\xff" + udp(b"x")[40:], id="a length that is too large"),
        pytest.param(udp(b"x")[:38] + b"\x00\x07" + udp(b"x")[40:], id="a length that is too small"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_not_for_a_client_is_left(data: bytes) -> None:
    assert unframe(data) is None


def test_a_question_has_what_servers_and_relays_want() -> None:
    data = encode(replace(QUESTION, kind=REQUEST, requested="10.0.3.5", server="10.0.3.1"))
    assert len(data) >= 300
    assert data[:3] == b"\x01\x01\x06"
    assert data[10:12] == b"\x80\x00"  # answered by broadcast
    for option in (b"\x35\x01\x03", b"\x32\x04\x0a\x00\x03\x05", b"\x36\x04\x0a\x00\x03\x01"):
        assert option in data[240:]
    renewing = encode(replace(QUESTION, kind=REQUEST, address="10.0.3.5"))
    assert (renewing[10:12], renewing[12:16]) == (b"\0\0", socket.inet_aton("10.0.3.5"))
    assert b"\x32\x04" not in renewing[240:260]  # RFC 2131, 4.3.2: neither who renews


def test_a_frame_has_checksums_that_hold() -> None:
    def total(data: bytes) -> int:
        words = sum(struct.unpack(f"!{len(data) // 2}H", data))
        while words >> 16:
            words = (words & 0xFFFF) + (words >> 16)
        return words

    data = frame(QUESTION)
    assert data[:14] == BROADCAST + MAC + b"\x08\x00"
    assert total(data[14:34]) == 0xFFFF
    segment = data[34:] + b"\0" * (len(data) % 2)
    assert total(data[26:34] + struct.pack("!HH", 17, len(data) - 34) + segment) == 0xFFFF
