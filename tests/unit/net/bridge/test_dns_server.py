"""The name server without a network: what it answers, what it sends on, what it keeps of whom."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jubako.linux import scm
from jubako.net.bridge import dns_forward, dns_server
from jubako.net.bridge.dns_message import parse_question
from jubako.net.bridge.dns_server import Server
from world.bridges import AAAA, PTR, A, query, read_answer

HERE = socket.inet_aton("10.89.0.2")
STRANGER = socket.inet_aton("10.89.0.99")


@pytest.fixture
def server() -> Iterator[Server]:
    ours, theirs = scm.pair()
    made = Server(theirs, print)
    for network, subnet, outside in (("back", "10.89.0.0/24", False), ("front", "10.89.1.0/24", True)):
        made.learn({"what": "open", "network": network, "subnets": [subnet], "outside": outside, "servers": []}, ())
    put(made, "back", "1", ["web", "www"], ["10.89.0.2", "fd00:1::2"])
    put(made, "back", "2", ["db"], ["10.89.0.3"])
    put(made, "front", "1", ["web"], ["10.89.1.2"])
    put(made, "front", "3", ["lb"], ["10.89.1.3"])
    yield made
    ours.close()
    theirs.close()
    made.loop.epoll.close()


def put(server: Server, network: str, identifier: str, names: list[str], addresses: list[str]) -> None:
    server.learn({"what": "member", "network": network, "id": identifier, "names": names, "addresses": addresses}, ())


def ask(server: Server, name: str, kind: int = A, source: bytes = HERE, network: str = "back") -> dict[str, Any]:
    answers: list[bytes] = []
    server.ask((network, source), query(name, kind), answers.append, tcp=False)
    return read_answer(answers[0])


def test_names_and_aliases_have_the_addresses_of_the_kind_asked_for(server: Server) -> None:
    assert ask(server, "DB")["values"] == ["10.89.0.3"]
    assert ask(server, "www", AAAA)["values"] == ["fd00:1::2"]
    assert ask(server, "db", AAAA) == {"code": 0, "values": [], "cut": False}  # it exists, and has none
    assert ask(server, "db", 16) == {"code": 0, "values": [], "cut": False}
    assert ask(server, "nobody")["code"] == 3


def test_who_is_on_two_networks_sees_both_and_nobody_else_does(server: Server) -> None:
    assert ask(server, "lb")["values"] == ["10.89.1.3"]
    assert ask(server, "web")["values"] == ["10.89.0.2", "10.89.1.2"]
    assert ask(server, "lb", source=socket.inet_aton("10.89.0.3"))["code"] == 3
    assert ask(server, "lb", source=STRANGER)["code"] == 3


def test_an_address_has_a_name_only_on_networks_that_the_asker_sees(server: Server) -> None:
    assert ask(server, "3.0.89.10.in-addr.arpa", PTR)["values"] == ["db"]
    assert ask(server, "9.0.89.10.in-addr.arpa", PTR)["code"] == 3
    other = ask(server, "3.1.89.10.in-addr.arpa", PTR, socket.inet_aton("10.89.0.3"))
    assert (other["code"], other["values"]) == (3, [])


def test_a_container_that_has_gone_has_no_name_and_another_of_the_same_name_keeps_its(server: Server) -> None:
    put(server, "back", "4", ["worker", "db"], ["10.89.0.4"])
    assert ask(server, "db")["values"] == ["10.89.0.3", "10.89.0.4"]
    server.learn({"what": "gone", "network": "back", "id": "2"}, ())
    assert ask(server, "db")["values"] == ["10.89.0.4"]
    server.learn({"what": "gone", "network": "back", "id": "2"}, ())
    put(server, "back", "4", ["worker"], ["10.89.0.5"])
    assert ask(server, "db")["code"] == 3
    assert ask(server, "4.0.89.10.in-addr.arpa", PTR)["code"] == 3


def test_the_host_has_a_name_only_where_it_is_reached(server: Server) -> None:
    assert ask(server, "host.containers.internal")["code"] == 3
    server.learn({"what": "uplink", "servers": ["10.0.2.3"], "host": ["10.0.2.2"]}, ())
    assert ask(server, "host.containers.internal")["values"] == ["10.0.2.2"]
    assert ask(server, "host.docker.internal")["values"] == ["10.0.2.2"]
    assert ask(server, "other.containers.internal")["code"] == 3


def test_other_classes_and_operations_are_refused(server: Server) -> None:
    answers: list[bytes] = []
    server.ask(("back", HERE), query("db")[:-2] + b"\0\3", answers.append, tcp=False)
    assert read_answer(answers.pop())["code"] == 5
    server.ask(("back", HERE), query("db")[:2] + b"\x28\0" + query("db")[4:], answers.append, tcp=False)
    assert read_answer(answers.pop())["code"] == 4


def test_what_is_not_ours_goes_outside_and_fails_where_there_is_no_server(server: Server) -> None:
    lb = socket.inet_aton("10.89.1.3")
    assert ask(server, "host.example", source=lb, network="front")["code"] == 2
    assert ask(server, "host.example", source=socket.inet_aton("10.89.0.3"))["code"] == 3  # an internal network


def test_questions_outside_are_bounded_for_each_and_for_all(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_forward, "MOST_OF_ONE", 3)
    monkeypatch.setattr(dns_forward, "MOST", 5)
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    monkeypatch.setattr(dns_forward, "_PORT", silent.getsockname()[1])
    answers: list[bytes] = []
    question = parse_question(query("host.example"))
    for asker in ("a", "a", "a", "a", "b", "b", "b"):
        server.forwarder.ask(asker, question, query("host.example"), ("127.0.0.1",), answers.append, tcp=False)
    assert [read_answer(each)["code"] for each in answers] == [2, 2]
    assert server.forwarder.of == {"a": 3, "b": 2}
    silent.settimeout(10)
    asked = [silent.recvfrom(512) for _ in range(5)]
    assert len({port for _, (_, port) in asked}) == 5
    assert len({data[:2] for data, _ in asked}) > 1

    # An answer from elsewhere, under another number or to another question does not count; the good one does.
    data, address = asked[0]
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stranger.sendto(data[:2] + b"\x81\x80" + data[4:], address)
    silent.sendto(bytes((data[0] ^ 1, data[1])) + b"\x81\x80" + data[4:], address)
    silent.sendto(data[:2] + b"\x81\x80" + query("other.example")[4:], address)
    silent.sendto(data[:2] + b"\x81\x83" + data[4:], address)
    before = len(answers)
    for _ in range(5):
        if len(answers) == before:
            server.loop.turn()
    assert [read_answer(each)["code"] for each in answers[before:]] == [3]
    assert answers[-1][:2] == query("host.example")[:2]
    assert server.forwarder.count == 4
    silent.close()
    stranger.close()


def test_a_sender_has_so_many_questions_and_gets_more_with_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(dns_server.time, "monotonic", lambda: now)
    allowed = sum(server.may_ask(("back", HERE)) for _ in range(2000))
    assert allowed == dns_server.BURST
    assert server.may_ask(("back", STRANGER))
    now += 0.5
    assert sum(server.may_ask(("back", HERE)) for _ in range(400)) == dns_server.RATE / 2
    for number in range(10000):
        server.may_ask(("back", number.to_bytes(4, "big")))
    assert len(server.buckets) <= 8192


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.binary(max_size=300), st.sampled_from([HERE, STRANGER, bytes(16)]), st.booleans())
def test_nothing_that_is_asked_makes_it_fail(server: Server, data: bytes, source: bytes, tcp: bool) -> None:
    answers: list[bytes] = []
    server.ask(("back", source), data, answers.append, tcp=tcp)
    assert len(answers) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    st.lists(st.sampled_from(["db", "web", "a" * 63, "_", "3", "arpa", "in-addr", "ip6", "\x00"]), max_size=5),
    st.integers(0, 65535),
)
def test_no_name_and_no_kind_makes_it_fail(server: Server, labels: list[str], kind: int) -> None:
    answers: list[bytes] = []
    server.ask(("front", HERE), query(".".join(labels), kind), answers.append, tcp=False)
    assert len(answers) == 1
