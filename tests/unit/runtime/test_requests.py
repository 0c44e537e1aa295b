"""The packets between a caller and its launcher."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from jubako import errors
from jubako.linux import scm
from jubako.runtime.requests import (
    Refused,
    Request,
    decode_refusal,
    encode_refusal,
    receive_request,
    send_request,
)


@pytest.fixture
def ends() -> Iterator[tuple[scm.Socket, scm.Socket]]:
    ours, theirs = scm.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def passed(ends: tuple[scm.Socket, scm.Socket], request: Request, count: int = 4) -> Request | None:
    null = os.open("/dev/null", os.O_RDWR)
    try:
        send_request(ends[0], request, (null,) * count)
        received, descriptors = receive_request(ends[1], count)
        assert len(descriptors) == count
        for fd in descriptors:
            assert os.fstat(fd).st_rdev == os.fstat(null).st_rdev
            assert not os.get_inheritable(fd)
            os.close(fd)
    finally:
        os.close(null)
    return received


@pytest.mark.parametrize(
    "request_",
    [
        Request(b"{}", (b"true",)),
        Request(b"{}", (), (b"A=1",), announce=True),
        Request(b"", (b"", b"\xff"), (b"A=", b"B=\n")),
        Request(b"{}", (b"x" * 100,) * 10_000),
        Request(b"{}", (b"env",), tuple(b"V%d=%s" % (n, b"y" * 1000) for n in range(1000))),
    ],
    ids=["small", "announced", "odd bytes", "ten thousand arguments", "a mebibyte of environment"],
)
def test_a_request_arrives_as_it_was(ends: tuple[scm.Socket, scm.Socket], request_: Request) -> None:
    assert passed(ends, request_) == request_
    assert passed(ends, request_, count=3) == request_


def test_the_end_of_the_caller_is_no_request(ends: tuple[scm.Socket, scm.Socket]) -> None:
    ends[0].close()
    assert receive_request(ends[1]) == (None, ())


@pytest.mark.parametrize("packet", [b"large", b"run", b"run\0{}\0\07\0a", b"else\0{}\0\00", b"run\0{}\0\0x"])
def test_anything_else_is_refused_and_its_descriptors_are_closed(
    ends: tuple[scm.Socket, scm.Socket], packet: bytes
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    scm.send(ends[0], packet, (0, 1, 2, 0))
    with pytest.raises(ValueError):
        receive_request(ends[1])
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "failure",
    [
        errors.JubakoError("mount", "/x", errno=1, reason="why", hint="do\nthat"),
        errors.UsageError("use", "-v", reason="ünï"),
        errors.ProgramNotFoundError("execute", "prog", errno=2),
        errors.NotExecutableError("execute", "prog", errno=13),
        errors.StepError("mount proc on", "/proc", errno=1, step=(3, 9, "MountFileSystem")),
    ],
)
def test_an_error_keeps_its_class_and_its_fields(failure: errors.JubakoError) -> None:
    answer = decode_refusal(encode_refusal(Refused.of(failure)))
    assert answer is not None
    again = answer.error()
    assert type(again) is type(failure)
    assert again.__dict__ == failure.__dict__
    assert str(again) == str(failure)
