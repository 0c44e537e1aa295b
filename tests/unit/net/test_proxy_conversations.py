"""Conversations with the proxy, over real sockets on loopback."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from world.proxied import SECONDS, echo, mirror, peer, read_all, read_exactly, read_request

OK = b"HTTP/1.1 200"


def connect_head(host: str, port: int) -> bytes:
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


def get(host: str, port: int, *fields: str) -> bytes:
    lines = (f"GET http://{host}:{port}/x HTTP/1.1", f"Host: {host}:{port}", *fields)
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def socks_connect(host: str, port: int) -> bytes:
    return b"\x05\x01\x00\x05\x01\x00\x03" + bytes((len(host),)) + host.encode() + port.to_bytes(2, "big")


def await_count(proxy, kind: str, least: int) -> dict:
    """The status file, once it counts so many."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            status = json.loads(Path(proxy.tally._path).read_text())
            if status[kind] >= least:
                return status
        except FileNotFoundError:
            pass
        time.sleep(0.02)
    pytest.fail(f"{kind} did not become {least}")


# --- what works -------------------------------------------------------------------------------------------------------


def test_a_tunnel_carries_bytes_both_ways_also_those_that_come_at_once(proxy):
    with peer(echo) as port:
        opened = proxy(f"127.0.0.1:{port}")
        with opened.connect() as client:
            client.sendall(connect_head("127.0.0.1", port) + b"early ")
            answer = read_exactly(client, len(b"HTTP/1.1 200 Connection established\r\n\r\n"))
            assert answer.startswith(OK)
            client.sendall(b"late")
            assert read_exactly(client, 10) == b"early late"


def test_a_socks_tunnel_carries_bytes_both_ways_also_those_that_come_at_once(proxy):
    with peer(echo) as port:
        opened = proxy(f"127.0.0.1:{port}")
        answer = opened.ask(socks_connect("127.0.0.1", port) + b"early", close=True)
        assert answer == b"\x05\x00" + b"\x05\x00\x00\x01" + bytes(6) + b"early"


def test_a_socks_request_may_come_octet_by_octet(proxy):
    with peer(echo) as port:
        opened = proxy(f"localhost:{port}", f"127.0.0.1:{port}", hosts={"localhost": ["127.0.0.1"]})
        with opened.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for octet in socks_connect("localhost", port):
                client.send(bytes((octet,)))
            assert read_exactly(client, 12)[:4] == b"\x05\x00\x05\x00"


def test_each_side_of_a_tunnel_may_close_its_direction_alone(proxy):
    def count(connection: socket.socket) -> None:
        total = len(read_all(connection))
        connection.sendall(str(total).encode())

    with peer(count) as port:
        opened = proxy(f"127.0.0.1:{port}")
        answer = opened.ask(connect_head("127.0.0.1", port) + b"x" * 1000, close=True)
        assert answer.endswith(b"\r\n\r\n1000")


def test_a_server_that_closes_first_still_gets_what_the_client_sends(proxy):
    got = []

    def close_first(connection: socket.socket) -> None:
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        got.append(read_all(connection))

    with peer(close_first) as port:
        opened = proxy(f"127.0.0.1:{port}")
        with opened.connect() as client:
            client.sendall(connect_head("127.0.0.1", port))
            assert read_all(client).endswith(b"\r\n\r\nbye")
            client.sendall(b"y" * 3_000_000)
    assert got == [b"y" * 3_000_000]


def test_much_goes_through_a_tunnel_whole_when_the_other_side_is_slow_to_read(proxy):
    data = bytes(range(256)) * 40_000
    with peer(lambda connection: connection.sendall(data)) as port:
        opened = proxy(f"127.0.0.1:{port}")
        with opened.connect() as client:
            client.sendall(connect_head("127.0.0.1", port))
            time.sleep(0.2)
            assert read_all(client).partition(b"\r\n\r\n")[2] == data


def test_a_plain_request_is_forwarded_and_its_connection_ends_with_it(proxy):
    with peer(mirror) as port:
        opened = proxy(f"127.0.0.1:{port}")
        answer = opened.ask(get("127.0.0.1", port, "Proxy-Authorization: Basic eA==", "A: b"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(OK)
    assert b"Connection: close" in head
    assert b"eep-" not in head  # neither Keep-Alive nor Connection: keep-alive
    assert body == f"GET /x HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nA: b\r\nConnection: close\r\n\r\n".encode()


def test_a_second_request_behind_the_first_reaches_nobody(proxy):
    seen = []

    def keep_all(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.settimeout(1)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        try:
            seen.append(connection.recv(1000))
        except TimeoutError:
            pass

    with peer(keep_all) as port:
        opened = proxy(f"127.0.0.1:{port}")
        second = get("127.0.0.1", port).replace(b"/x", b"/smuggled")
        assert opened.ask(get("127.0.0.1", port) + second).endswith(b"ok")
        posted = get("127.0.0.1", port, "Content-Length: 3").replace(b"GET", b"POST") + b"abc"
        assert opened.ask(posted + second).endswith(b"ok")
        posted = get("127.0.0.1", port, "Transfer-Encoding: chunked").replace(b"GET", b"POST")
        assert opened.ask(posted + b"3\r\nabc\r\n0\r\n\r\n" + second).endswith(b"ok")
    assert len(b"".join(seen).split(b"HTTP/1.1\r\n")) == 4
    assert b"smuggled" not in b"".join(seen)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_large_body_is_forwarded_whole(proxy, is_chunked):
    body = b"z" * 2_000_000
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body
    field = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(body)}"
    with peer(mirror) as port:
        opened = proxy(f"127.0.0.1:{port}")
        answer = opened.ask(get("127.0.0.1", port, field).replace(b"GET", b"POST") + framed)
    assert answer.endswith(framed)


def test_a_server_that_answers_before_the_body_is_there_is_heard(proxy):
    def refuse(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 413 Too much\r\nContent-Length: 0\r\n\r\n")

    with peer(refuse) as port:
        opened = proxy(f"127.0.0.1:{port}")
        with opened.connect() as client:
            client.sendall(get("127.0.0.1", port, "Content-Length: 100000000") + b"a" * 1000)
            assert b" 413 " in client.recv(65536)


def test_interim_answers_come_through(proxy):
    def go_on(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = connection.recv(4)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body)

    with peer(go_on) as port:
        opened = proxy(f"127.0.0.1:{port}")
        with opened.connect() as client:
            client.sendall(get("127.0.0.1", port, "Content-Length: 4", "Expect: 100-continue"))
            assert read_exactly(client, 25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"body")
            assert read_all(client).endswith(b"\r\n\r\nbody")


def test_ipv6_is_reached_by_its_address(proxy):
    try:
        with peer(echo, socket.AF_INET6, "::1") as port:
            opened = proxy(f"[::1]:{port}")
            assert opened.ask(connect_head("[::1]", port) + b"six", close=True).endswith(b"six")
    except OSError:
        pytest.skip("no IPv6 loopback here")


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_no_rule_names_is_refused_and_not_even_looked_up(proxy):
    opened = proxy("allowed.example:443", "*.wild.example")
    for host, port in (("other.example", 443), ("allowed.example", 80), ("wild.example", 443), ("127.0.0.1", 443)):
        answer = opened.ask(connect_head(host, port))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"no --allow names" in answer
        assert opened.ask(get(host, port)).startswith(b"HTTP/1.1 403 ")
        assert opened.ask(socks_connect(host, port))[:4] == b"\x05\x00\x05\x02"
    assert opened.asked == []
    status = await_count(opened, "refused", 12)
    assert status["hosts"]["refused"]["other.example:443"] == 3
    assert status["allowed"] == 0
    assert "refused other.example:443: no --allow names this host and port" in opened.log()


@pytest.mark.parametrize(
    "answer",
    ["127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
     "::1", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1", "fd00::1", "168.63.129.16"],
)  # fmt: skip
def test_a_name_that_leads_to_an_address_that_is_not_public_is_refused(proxy, answer):
    opened = proxy("rebind.example:*", hosts={"rebind.example": [answer]})
    said = opened.ask(connect_head("rebind.example", 80))
    assert said.startswith(b"HTTP/1.1 403 ")
    assert b"not a public one" in said
    assert opened.ask(socks_connect("rebind.example", 80))[:4] == b"\x05\x00\x05\x02"


def test_a_name_may_lead_to_a_private_address_that_a_rule_names(proxy):
    with peer(echo) as port:
        opened = proxy(f"db.example:{port}", f"127.0.0.1:{port}", hosts={"db.example": ["10.0.0.9", "127.0.0.1"]})
        assert opened.ask(connect_head("db.example", port) + b"x", close=True).endswith(b"x")


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(proxy):
    """A name server that says something else the second time is not asked a second time."""
    with peer(echo) as port:
        opened = proxy(f"rebind.example:{port}", f"127.0.0.2:{port}")
        answers = [["127.0.0.2"], ["127.0.0.1"], ["127.0.0.1"]]
        opened.resolve = lambda name: [(socket.AF_INET, (one, 0)) for one in answers.pop(0)]
        said = opened.ask(connect_head("rebind.example", port) + b"x", close=True)
        assert said.startswith(b"HTTP/1.1 502 ")  # nobody is at 127.0.0.2
        assert len(answers) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
        b"PUT http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        b"GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n",
        b"CONNECT 0x7f.1:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://" + b"a" * 40_000 + b"/ HTTP/1.1\r\n",
        b"X" * 40_000,
    ],
)
def test_a_bad_request_is_told_so_and_the_connection_closed(proxy, data):
    opened = proxy("a.example", "b.example")
    assert opened.ask(data).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert opened.asked == []
    assert await_count(opened, "refused", 1)["hosts"]["refused"][""] == 1


@pytest.mark.parametrize("data", [b"\x16\x03\x01", b"\x04\x01\x00P\x7f\x00\x00\x01\x00", b"\x00", b"\r\n", b" GET"])
def test_what_is_neither_http_nor_socks_gets_no_answer(proxy, data):
    opened = proxy("a.example")
    with opened.connect() as client:
        client.sendall(data)
        try:
            assert client.recv(100) == b""
        except ConnectionResetError:
            pass


def test_a_bad_chunk_ends_the_exchange(proxy):
    with peer(mirror) as port:
        opened = proxy(f"127.0.0.1:{port}")
        said = opened.ask(get("127.0.0.1", port, "Transfer-Encoding: chunked") + b"5\r\nhello, and more\r\n0\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400 ")


def test_a_name_server_without_an_answer_is_told(proxy):
    opened = proxy("gone.example")
    assert opened.ask(connect_head("gone.example", 443)).startswith(b"HTTP/1.1 502 ")
    assert opened.ask(socks_connect("gone.example", 443))[:4] == b"\x05\x00\x05\x04"


def test_a_server_that_is_not_there_is_told(proxy):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    opened = proxy(f"127.0.0.1:{port}")
    assert opened.ask(connect_head("127.0.0.1", port)).startswith(b"HTTP/1.1 502 ")
    assert opened.ask(socks_connect("127.0.0.1", port))[:4] == b"\x05\x00\x05\x05"
    assert await_count(opened, "failed", 2)["refused"] == 0


@pytest.mark.parametrize(
    "said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", b"H" * 40_000]
)
def test_a_server_that_does_not_speak_http_is_told(proxy, said):
    def speak(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(said)

    with peer(speak) as port:
        opened = proxy(f"127.0.0.1:{port}")
        assert opened.ask(get("127.0.0.1", port)).startswith(b"HTTP/1.1 502 ")


# --- who is slow, or many ---------------------------------------------------------------------------------------------


def test_a_head_that_does_not_end_is_cut_off_however_much_of_it_trickles_in(proxy):
    opened = proxy("a.example", head=0.4)
    with opened.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(b"GET http://a.example/ HTTP/1.1\r\n")
        is_over = threading.Event()

        def trickle() -> None:
            try:
                while not is_over.wait(0.05):
                    client.send(b"X")
            except OSError:
                pass

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert client.recv(1000).startswith(b"HTTP/1.1 408 ")
        finally:
            is_over.set()
            thread.join()


def test_who_says_nothing_is_cut_off(proxy):
    opened = proxy("a.example", head=0.2)
    assert opened.ask(b"") == b""
    assert opened.ask(b"\x05\x01") == b""


def test_a_server_that_does_not_answer_is_given_up(proxy):
    is_over = threading.Event()
    with peer(lambda connection: is_over.wait(SECONDS) and None) as port:
        opened = proxy(f"127.0.0.1:{port}", answer=0.3, idle=0.3)
        assert opened.ask(get("127.0.0.1", port)).startswith(b"HTTP/1.1 504 ")
        assert opened.ask(connect_head("127.0.0.1", port)).startswith(OK)  # and is closed then
        is_over.set()


def test_a_name_server_that_hangs_is_given_up_and_stops_nobody_else(proxy):
    is_over = threading.Event()
    with peer(echo) as port:
        opened = proxy("*.hang.example", f"127.0.0.1:{port}", lookup=0.5)
        opened.resolve = lambda _name: [is_over.wait(SECONDS)][1:]
        hanging = [opened.connect() for _ in range(8)]
        for number, client in enumerate(hanging):
            client.sendall(connect_head(f"{number}.hang.example", 443))
        assert opened.ask(connect_head("127.0.0.1", port) + b"x", close=True).endswith(b"x")
        answers = [read_all(client) for client in hanging]
        is_over.set()
        for client in hanging:
            client.close()
    assert all(answer.startswith(b"HTTP/1.1 502 ") for answer in answers)
    assert sum(b"too many names" in answer for answer in answers) == 4
    assert sum(b"does not answer" in answer for answer in answers) == 4


def test_many_who_ask_for_one_name_ask_the_name_server_once(proxy):
    with peer(echo) as port:
        opened = proxy(f"one.example:{port}", f"127.0.0.1:{port}", hosts={"one.example": ["127.0.0.1"]})
        clients = [opened.connect() for _ in range(20)]
        for client in clients:
            client.sendall(connect_head("one.example", port) + b"x")
        for client in clients:
            assert read_exactly(client, 40).endswith(b"x")
            client.close()
    assert opened.asked == ["one.example"]


def test_who_is_above_the_number_of_connections_waits_for_a_place(proxy):
    with peer(echo) as port:
        opened = proxy(f"127.0.0.1:{port}", connections=3)
        first = [opened.connect() for _ in range(3)]
        for client in first:
            client.sendall(connect_head("127.0.0.1", port) + b"x")
            read_exactly(client, 40)
        with opened.connect() as late:
            late.sendall(connect_head("127.0.0.1", port) + b"x")
            late.settimeout(0.4)
            with pytest.raises(TimeoutError):
                late.recv(1)
            first[0].close()
            late.settimeout(SECONDS)
            assert read_exactly(late, 40).endswith(b"x")
        for client in first:
            client.close()


def test_one_who_takes_nothing_and_one_who_takes_much_stop_nobody_else(proxy):
    def flood(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"f" * 65536)

    with peer(flood) as loud, peer(echo) as port:
        opened = proxy(f"127.0.0.1:{loud}", f"127.0.0.1:{port}")
        stuck, busy = opened.connect(), opened.connect()
        for client in (stuck, busy):
            client.sendall(connect_head("127.0.0.1", loud))
        is_over = threading.Event()

        def swallow() -> None:
            while not is_over.is_set():
                busy.recv(65536)

        thread = threading.Thread(target=swallow)
        thread.start()
        for _ in range(20):
            assert opened.ask(connect_head("127.0.0.1", port) + b"x", close=True).endswith(b"x")
        is_over.set()
        thread.join()
        stuck.close()
        busy.close()


def test_who_goes_away_leaves_no_descriptor_behind(proxy):
    import os

    with peer(echo) as port:
        opened = proxy(f"127.0.0.1:{port}")
        opened.ask(connect_head("127.0.0.1", port), close=True)
        before = len(os.listdir("/proc/self/fd"))
        for data in (b"", b"GET", b"\x05", connect_head("127.0.0.1", port), get("127.0.0.1", port), b"\x16"):
            client = opened.connect()
            client.sendall(data)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()  # with a reset
        deadline, settled = time.monotonic() + SECONDS, False
        while not settled and time.monotonic() < deadline:
            time.sleep(0.02)
            settled = not opened.tally.connections and len(os.listdir("/proc/self/fd")) <= before
    assert settled, (opened.tally.connections, before)


def test_what_is_counted_and_said_is_bounded(proxy):
    opened = proxy("a.example")
    for number in range(300):
        opened.ask(connect_head(f"{number}.example", 443))
    status = await_count(opened, "refused", 300)
    assert status["hosts"]["refused"]["others"] == 300 - 256
    assert len(status["hosts"]["refused"]) == 257
    assert len(opened.log().splitlines()) < 100
