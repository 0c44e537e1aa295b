"""The small HTTP server: whatever comes, in whatever pieces, it answers or ends the connection."""

from __future__ import annotations

import select
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.rootless.api.http import LARGEST_BODY, LARGEST_HEAD, MOST_CLIENTS, Client, Head, Server

OK = b"HTTP/1.1 200 OK\r\n"


def answer(method: str, target: str, body: bytes) -> tuple[int, Any]:
    return 200, {"method": method, "target": target, "length": len(body)}


def talk(*pieces: bytes) -> tuple[bytes, bool]:
    """What the server says to these pieces, and whether the connection goes on."""
    here, there = socket.socketpair()
    with here, there:
        there.setblocking(False)
        here.setblocking(False)
        client = Client(there)
        goes_on, said = True, b""
        for piece in pieces:
            while piece and goes_on:
                try:
                    piece = piece[here.send(piece) :]
                except BlockingIOError:
                    pass
                for _ in range(4):
                    goes_on = goes_on and client.move(client.events(), answer)
                    try:
                        said += here.recv(1 << 20)
                    except BlockingIOError:
                        pass
        return said, goes_on


def post(length: int, sent: int) -> bytes:
    return b"POST /a HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (length, b"x" * sent)


def test_a_request_in_any_pieces_is_answered() -> None:
    request = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
    for at in range(1, len(request)):
        said, goes_on = talk(request[:at], request[at:])
        assert said.startswith(OK)
        assert b'"length":4' in said
        assert goes_on


def test_requests_at_once_are_answered_in_order() -> None:
    said, _goes_on = talk(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(50)))
    assert said.count(OK) == 50
    assert [said.index(b'"/%d"' % n) for n in range(50)] == sorted(said.index(b'"/%d"' % n) for n in range(50))


@pytest.mark.parametrize(
    ("version", "header", "goes_on"),
    [
        (b"HTTP/1.1", b"", True), (b"HTTP/1.1", b"Connection: close\r\n", False), (b"HTTP/1.0", b"", False),
        (b"HTTP/1.0", b"Connection: Keep-Alive\r\n", True), (b"HTTP/1.1", b"connection: te , CLOSE\r\n", False),
    ],
)  # fmt: skip
def test_a_connection_is_kept_as_the_client_says(version: bytes, header: bytes, goes_on: bool) -> None:
    said, kept = talk(b"GET / " + version + b"\r\n" + header + b"\r\n")
    assert said.startswith(OK)
    assert kept == goes_on


@pytest.mark.parametrize(
    "head",
    [
        b"GET /\r\n\r\n", b"GET / HTTP/2\r\n\r\n", b"G:T / HTTP/1.1\r\n\r\n", b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n", b"GET / HTTP/1.1\r\nName : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: \xd9\xa3\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", b"x" * (LARGEST_HEAD + 1),
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * LARGEST_HEAD,
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_the_connection_ends(head: bytes) -> None:
    said, goes_on = talk(head)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b'{"message":' in said
    assert not goes_on


def test_a_body_too_large_is_read_to_its_end_and_refused() -> None:
    size = LARGEST_BODY + 1
    said, goes_on = talk(post(size, size) + b"GET /next HTTP/1.1\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(OK) == 1
    assert goes_on
    said, goes_on = talk(post(size, 10), b"x" * (size - 10) + b"GET /next HTTP/1.1\r\n\r\n")
    assert said.count(OK) == 1
    assert goes_on
    assert talk(post(1 << 40, 10))[1] is False
    assert talk(post(LARGEST_BODY, LARGEST_BODY))[0].startswith(OK)


def test_a_client_that_waits_for_leave_to_send_gets_it() -> None:
    head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    said, _goes_on = talk(head, b"body")
    assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    said, goes_on = talk(head.replace(b" 4", b" 4000000"))
    assert said.startswith(b"HTTP/1.1 400 ")
    assert not goes_on


def test_chunks_are_put_together() -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"3\r\nabc\r\n1;name=value\r\nd\r\n0\r\n\r\n"
    for at in range(1, len(body)):
        said, goes_on = talk(head + body[:at], body[at:])
        assert b'"length":4' in said, at
        assert goes_on


def test_chunks_of_one_byte_end_somewhere() -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    said, goes_on = talk(head, b"1\r\nx\r\n" * LARGEST_BODY)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert not goes_on


def test_who_has_said_all_still_hears_the_answers() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.sendall(b"GET /a HTTP/1.1\r\n\r\n" * 3)
        here.shutdown(socket.SHUT_WR)
        client = Client(there)
        while client.move(client.events(), answer):
            pass
        there.close()
        assert b"".join(iter(lambda: here.recv(1 << 16), b"")).count(OK) == 3


def test_who_does_not_read_fills_no_memory() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.setblocking(False)
        here.setblocking(False)
        client = Client(there)
        large = "x" * 100_000
        for _ in range(2000):
            try:
                here.send(b"GET /a HTTP/1.1\r\n\r\n" * 100)
            except BlockingIOError:
                pass
            assert client.move(client.events(), lambda *_: (200, large))
            assert len(client.unsent) <= len(large) + 200
            assert len(client.received) < LARGEST_HEAD + LARGEST_BODY + (1 << 17)


def test_a_target_with_a_host_is_a_path() -> None:
    found = Head.read(b"GET http://x/v1/info?a=b HTTP/1.1")
    assert found is not None
    assert found.target == "/v1/info?a=b"


PIECES = st.one_of(st.binary(max_size=200), st.sampled_from([b"GET / HTTP/1.1\r\n", b"\r\n\r\n", b"\r\n"]))


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=8))
def test_whatever_comes_is_answered_or_waited_for(pieces: list[bytes]) -> None:
    said, _goes_on = talk(*pieces)
    assert said == b"" or said.startswith(b"HTTP/1.1 ")


def test_the_client_that_was_silent_longest_makes_room(tmp_path: Any) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(128)
        server = Server(listener, answer)  # type: ignore[arg-type]
        clients = []
        for _ in range(MOST_CLIENTS + 5):
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(tmp_path / "s"))
            clients.append(client)
            poller = select.poll()
            server.register(poller)
            server.handle(dict(poller.poll(0)))
        assert len(server.clients) == MOST_CLIENTS
        assert [client.recv(1) for client in clients[:5]] == [b""] * 5
        server.close()
        for client in clients:
            client.close()
