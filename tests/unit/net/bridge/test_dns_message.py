"""Questions and answers of the domain name system, byte by byte; what comes in is whatever a container likes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.net.bridge import dns_message
from jubako.net.bridge.dns_message import (
    FORMERR,
    NOERROR,
    NXDOMAIN,
    A,
    Malformed,
    address_of_reverse,
    answer,
    encode_name,
    is_answer_to,
    parse_question,
    refuse,
    with_id,
)
from world.bridges import query, read_answer


def test_a_question_is_read_in_lower_case_and_repeated_as_it_came() -> None:
    data = query("Db.Example", 28, 77)
    question = parse_question(data)
    assert (question.id, question.labels, question.kind, question.cls) == (77, (b"db", b"example"), 28, 1)
    assert question.section == data[12:]
    assert answer(question, NOERROR)[12:] == data[12:]


@pytest.mark.parametrize(
    ("data", "answerable"),
    [
        (b"", False),
        (bytes(11), False),
        (bytes(12), True),
        (query("db")[:-1], True),
        (query("db")[:-5], True),
        (query("db")[:12], True),
        (query("db")[:12] + b"\xc0\x0c\0\1\0\1", True),  # compression
        (query("db")[:12] + b"\x40" + b"a" * 64 + b"\0\0\1\0\1", True),  # a label of 64 bytes
        (query(".".join(["a" * 63] * 4)), True),  # a name of 257 bytes
        (query("db")[:2] + b"\x80\0" + query("db")[4:], False),  # an answer
        (query("db")[:4] + b"\0\2" + query("db")[6:], True),  # two questions
        (query("db")[:6] + b"\0\1" + query("db")[8:], True),  # with an answer in it
    ],
)
def test_what_is_no_question_is_refused(data: bytes, answerable: bool) -> None:
    with pytest.raises(Malformed) as caught:
        parse_question(data)
    assert caught.value.answerable is answerable
    if answerable:
        flags, counts = struct.unpack("!2xH4H", refuse(data, FORMERR))[0], refuse(data, FORMERR)[4:]
        assert flags & 0x800F == 0x8000 | FORMERR
        assert counts == bytes(8)


def test_the_longest_name_is_read() -> None:
    name = ".".join(["a" * 63] * 3 + ["a" * 61])
    assert parse_question(query(name)).name == name


@given(st.binary(max_size=600))
def test_no_bytes_make_the_reader_fail_otherwise(data: bytes) -> None:
    try:
        question = parse_question(data)
    except Malformed as failure:
        if failure.answerable:
            assert len(refuse(data, FORMERR)) == 12
    else:
        assert len(question.section) <= 255 + 4
        assert parse_question(data[:12] + question.section) is not None
        address_of_reverse(question.labels)


@given(st.binary(min_size=1, max_size=40), st.integers(0, 60), st.binary(max_size=4))
def test_no_change_of_a_good_question_makes_the_reader_fail_otherwise(new: bytes, place: int, more: bytes) -> None:
    data = bytearray(query("some.container") + more)
    data[place : place + len(new)] = new
    try:
        parse_question(bytes(data))
    except Malformed:
        pass


def test_what_does_not_fit_is_cut_and_said_to_be() -> None:
    question = parse_question(query("all"))
    values = [(A, bytes((10, 0, 0, number))) for number in range(100)]
    whole = answer(question, NOERROR, values)
    assert len(read_answer(whole)["values"]) == 100
    cut = answer(question, NOERROR, values, most=512)
    assert len(cut) <= 512
    assert read_answer(cut)["cut"]
    assert not read_answer(whole)["cut"]


def test_only_the_answer_to_the_very_question_counts() -> None:
    question = parse_question(query("host.example", 1, 5))
    good = answer(question, NXDOMAIN)
    assert is_answer_to(good, 5, question.section)
    assert is_answer_to(good.replace(b"host", b"HOST"), 5, question.section)
    assert not is_answer_to(good, 6, question.section)
    assert not is_answer_to(good.replace(b"host", b"hast"), 5, question.section)
    assert not is_answer_to(query("host.example", 1, 5), 5, question.section)
    assert not is_answer_to(good[:11], 5, question.section)
    assert not is_answer_to(b"", 5, question.section)
    assert not is_answer_to(answer(parse_question(query("host.example", 28, 5)), 0), 5, question.section)
    assert with_id(good, 9)[:2] == b"\0\x09"


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("4.3.2.10.in-addr.arpa", bytes((10, 2, 3, 4))),
        ("3.2.10.in-addr.arpa", None),
        ("256.3.2.10.in-addr.arpa", None),
        ("x.3.2.10.in-addr.arpa", None),
        ("1." + "0." * 30 + "f.ip6.arpa", bytes((0xF0, *(0,) * 14, 1))),
        ("11." + "0." * 30 + "f.ip6.arpa", None),
        ("g." + "0." * 30 + "f.ip6.arpa", None),
        ("db", None),
    ],
)
def test_a_reverse_name_is_an_address(name: str, address: bytes | None) -> None:
    assert address_of_reverse(parse_question(query(name)).labels) == address


def test_a_name_is_written_as_labels() -> None:
    assert encode_name("db.example") == b"\2db\7example\0"
    assert dns_message.encode_name("") == b"\0"
