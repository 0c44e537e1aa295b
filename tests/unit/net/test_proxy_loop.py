"""The proxy's own loop, and the driver's options."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import UsageError
from jubako.net.drivers.proxy import Driver
from jubako.net.link import NetworkOptions
from jubako.net.proxy import http, socks
from jubako.net.proxy.loop import READ, Loop, TimedOut, now, wait


def test_a_task_that_fails_is_reported_and_the_others_go_on():
    failures: list[Exception] = []
    loop = Loop(failures.append)
    reader, writer = os.pipe()
    got = []

    def fail():
        yield {}, now()
        raise KeyError("a mistake of ours")

    def go_on():
        yield from wait(reader, READ, now() + 20)
        got.append(os.read(reader, 10))

    loop.start(fail())
    loop.start(go_on())
    while not failures:
        loop.turn()
    os.write(writer, b"x")
    loop.turn()
    assert got == [b"x"]
    assert [type(failure) for failure in failures] == [KeyError]
    assert len(loop) == 0
    loop.close()
    os.close(reader)
    os.close(writer)


def test_a_descriptor_that_comes_back_under_its_number_is_watched_anew():
    loop = Loop(lambda failure: pytest.fail(str(failure)))
    got = []

    def reopen():
        for _ in range(3):
            reader, writer = os.pipe()
            try:
                os.write(writer, b"x")
                yield from wait(reader, READ, now() + 5)
                got.append((reader, os.read(reader, 10)))
            finally:
                loop.release(reader)
                os.close(reader)
                os.close(writer)

    loop.start(reopen())
    while len(loop):
        loop.turn()
    loop.close()
    assert len({number for number, _ in got}) == 1
    assert [data for _, data in got] == [b"x"] * 3


def test_who_waits_too_long_is_told():
    loop = Loop(lambda failure: pytest.fail(str(failure)))
    reader, writer = os.pipe()
    got = []

    def give_up():
        try:
            yield from wait(reader, READ, now() + 0.05)
        except TimedOut:
            got.append("timed out")

    loop.start(give_up())
    while len(loop):
        loop.turn()
    loop.close()
    os.close(reader)
    os.close(writer)
    assert got == ["timed out"]


# --- hostile bytes ----------------------------------------------------------------------------------------------------

PIECES = (
    b"GET ", b"CONNECT ", b"http://", b"e.org", b"127.0.0.1", b"[::1]", b":80", b"/", b" HTTP/1.1", b"\r\n", b"\n",
    b"\r", b"Host: e.org", b"Host: evil.net", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Connection: host",
    b"@", b"\0", b" ", b"\t", b"%2e", b"#", b"?",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=24))
def test_a_head_is_read_in_one_way_or_refused(pieces):
    head = b"".join(pieces).replace(b"\r\n\r\n", b"\r\n") + b"\r\n\r\n"
    try:
        request = http.read_request(head)
    except http.BadMessage:
        return
    if not request.is_tunnel:
        lines = request.head.lower().split(b"\r\n")
        assert sum(line.startswith(b"host:") for line in lines) <= 1
        assert sum(line.startswith((b"content-length:", b"transfer-encoding:")) for line in lines) <= 1
        assert request.head.endswith(b"\r\n\r\n")
        assert request.head.count(b"\r\n\r\n") == 1


@given(st.binary(max_size=300))
def test_any_octets_are_a_socks_request_an_unfinished_one_or_refused(data):
    try:
        socks.read_greeting(data)
        request = socks.read_request(data)
    except socks.BadRequest:
        return
    assert request is None or 0 < request.port < 65536


CHUNK_PIECES = (b"5", b"a", b"0", b"\r\n", b"\n", b";", b"hello", b"x" * 40)


@given(st.lists(st.sampled_from(CHUNK_PIECES), max_size=30), st.integers(1, 9))
def test_the_pieces_of_a_chunked_body_make_no_difference(pieces, step):
    data = b"".join(pieces)

    def read(size: int) -> tuple[int, bool] | str:
        chunks, taken = http.Chunks(), 0
        try:
            for at in range(0, len(data), size):
                taken += chunks.take(data[at : at + size])
        except http.BadMessage:
            return "refused"
        return taken, chunks.is_over

    assert read(step) == read(len(data) or 1)


# --- the driver -------------------------------------------------------------------------------------------------------


def test_the_driver_says_what_it_gives_before_it_starts_anything():
    link = Driver(NetworkOptions(rules=("example.org",))).plan()
    variables = dict(link.environment)
    assert variables["http_proxy"] == variables["HTTPS_PROXY"] == variables["all_proxy"] == "http://127.0.0.1:3128"
    assert variables["no_proxy"] == variables["NO_PROXY"] == "localhost,127.0.0.1,::1"
    assert link.device == "lo"


def test_the_driver_explains_its_rules():
    told = "\n".join(Driver(NetworkOptions(rules=("*.example.org", "10.0.0.0/8:5432"))).explain())
    assert "*.example.org, ports 80, 443" in told
    assert "10.0.0.0/8, port 5432" in told
    assert "nothing" in "\n".join(Driver(NetworkOptions()).explain())


@pytest.mark.parametrize(
    "options",
    [{"mtu": 1500}, {"cidr": "10.0.2.0/24"}, {"host_loopback": True}, {"ipv6": True}, {"rules": ("example.org:x",)}],
    ids=str,
)
def test_options_that_it_cannot_keep_are_refused(options):
    with pytest.raises(UsageError):
        Driver(NetworkOptions(**options))


def test_the_helper_imports_little():
    """What a container with the default network waits for: none of the libraries that take long."""
    script = "import jubako.net.drivers.proxy, jubako.net.proxy.serve, sys; print(*sys.modules)"
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = (sys.executable, "-S", "-c", script)
    loaded = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    slow = {"asyncio", "typing", "re", "json", "enum", "socket", "threading", "ipaddress", "dataclasses", "ssl", "http"}
    assert "jubako.net.proxy.serve" in loaded
    assert slow.isdisjoint(loaded)
