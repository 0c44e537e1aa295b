"""The parts of the port drivers, each alone, without a namespace."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.errors import JubakoError, UsageError
from jubako.linux.sockdiag import takes_datagrams
from jubako.net.link import Link
from jubako.net.ports import pipes as pipes_module
from jubako.net.ports.builtin import own_addresses
from jubako.net.ports.clients import can_be_kept
from jubako.net.ports.connector import Answer, Connector, Request
from jubako.net.ports.implicit import choose_ports, open_implicit, pasta_arguments
from jubako.net.ports.listening import bind, check_free
from jubako.net.ports.loop import Loop
from jubako.net.ports.pipes import Budget, Pipes
from jubako.net.ports.publish import publish
from jubako.net.ports.pump import Pump
from jubako.net.ports.slirp4netns import Slirp4netnsForwarder
from jubako.net.ports.spec import PortSpec
from jubako.net.ports.wire import pack_words, unpack_words

V4, V6 = socket.AF_INET, socket.AF_INET6


# --- the builtin driver -----------------------------------------------------------------------------------------------


def test_requests_and_answers_survive_their_way() -> None:
    request = Request(7, "tcp", "4", "10.0.2.100", 80, "192.0.2.1", 4567, True, 2, True)
    assert Request.read(unpack_words(pack_words(*request.words()))) == request
    answer = Answer(7, 0, 3, "::1", True, False)
    assert Answer.read(unpack_words(pack_words(*answer.words()))) == answer


def test_a_connection_goes_to_the_containers_own_address_first_and_to_its_loopback_next() -> None:
    connector = Connector({V4: "10.0.2.100", V6: "fd00::100"})

    def targets(client: str, **rest: str) -> list[str]:
        request = Request(1, "tcp", rest.get("family", ""), rest.get("address", ""), 80, client, 1, True)
        return [target for _family, target in connector.targets(request)]

    assert targets("192.0.2.1") == ["10.0.2.100", "127.0.0.1", "fd00::100", "::1"]
    assert targets("2001:db8::1") == ["fd00::100", "::1", "10.0.2.100", "127.0.0.1"]
    assert targets("192.0.2.1", family="4") == ["10.0.2.100", "127.0.0.1"]
    assert targets("192.0.2.1", address="172.17.0.2") == ["172.17.0.2"]
    connector.own = {}
    assert targets("192.0.2.1") == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.255.0.9", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "ff02::1"],
)
def test_addresses_that_mean_something_else_inside_are_not_kept(address: str) -> None:
    assert not can_be_kept(V6 if ":" in address else V4, address)


@pytest.mark.parametrize("address", ["192.0.2.1", "10.0.2.2", "223.255.255.255", "2001:db8::1", "fd00::2"])
def test_addresses_of_other_machines_are_kept(address: str) -> None:
    assert can_be_kept(V6 if ":" in address else V4, address)


def test_the_first_address_of_each_family_is_the_containers_own() -> None:
    link = Link("test", addresses=("10.0.2.100/24", "10.0.2.101/24", "fd00::100/64"))
    assert own_addresses(link) == {V4: "10.0.2.100", V6: "fd00::100"}
    assert own_addresses(Link("none")) == {}


def test_the_kernel_says_whether_somebody_takes_datagrams() -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert takes_datagrams(V4, socket.inet_aton("127.0.0.1"), port)
        assert not takes_datagrams(V4, socket.inet_aton("127.0.0.2"), port)
    assert not takes_datagrams(V4, socket.inet_aton("127.0.0.1"), port)


def test_a_port_that_is_in_use_in_one_family_is_bound_in_none() -> None:
    with socket.socket(V6) as taken:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(("::", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="Address already in use"):
            bind(PortSpec("", port, "", 80))
        with socket.socket(V4) as free:
            free.bind(("0.0.0.0", port))


def test_a_free_port_is_free_in_both_families() -> None:
    sockets = bind(PortSpec("", 0, "", 80))
    assert len({made.getsockname()[1] for made in sockets}) == 1
    assert [made.family for made in sockets] == [V4, V6][: len(sockets)]
    for made in sockets:
        made.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.epoll.close()


def test_pipes_that_may_not_grow_are_used_as_they_are(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> int:
        raise PermissionError(errno.EPERM, "above the limit")

    monkeypatch.setattr(pipes_module.fcntl, "fcntl", refuse)
    pool = Pipes(Budget(loop, 100))
    pipe = pool.take(large=True)
    assert pipe
    assert not pipe.large
    pool.give(pipe)
    assert pool.take(large=True) is pipe
    pool.give(pipe)
    pool.close_free()
    assert pool.budget.used == 0


def test_the_number_of_large_pipes_is_bounded(loop: Loop) -> None:
    pool = Pipes(Budget(loop, 1000))
    taken = [pool.take(large=True) for _ in range(pipes_module.MOST_LARGE + 5)]
    assert sum(pipe is not None and pipe.large for pipe in taken) <= pipes_module.MOST_LARGE
    for pipe in taken:
        assert pipe
        pool.give(pipe)
    pool.close_free()
    assert (pool.budget.used, pool.large) == (0, 0)


def test_without_descriptors_there_is_no_pipe_until_one_comes_back(loop: Loop) -> None:
    pool = Pipes(Budget(loop, 2))
    first = pool.take(large=False)
    assert first
    assert pool.take(large=False) is None
    woken: list[bool] = []
    pool.budget.wait(lambda: woken.append(True))
    pool.give(first)
    for work in loop.soon:
        work()
    assert woken == [True]
    again = pool.take(large=False)
    assert again
    again.close()


def test_a_pipe_that_still_holds_bytes_is_not_given_to_the_next(loop: Loop) -> None:
    pool = Pipes(Budget(loop, 100))
    pipe = pool.take(large=False)
    assert pipe
    os.write(pipe.writer, b"secret of another connection")
    pool.give(pipe, empty=False)
    assert pool.budget.used == 0
    other = pool.take(large=False)
    assert other
    with pytest.raises(BlockingIOError):
        os.read(other.reader, 100)
    other.close()


def test_a_pump_with_too_few_descriptors_moves_everything_all_the_same(loop: Loop) -> None:
    closed: list[int] = []

    def count(number: int) -> None:
        closed.append(number)
        loop.over = len(closed) == 8

    pump = Pump(loop, Pipes(Budget(loop, 8 * 2 + 2)), count)  # one pipe for eight connections
    ends = []
    for number in range(8):
        (client, near), (far, server) = tcp_pair(), tcp_pair()
        near.setblocking(False)
        far.setblocking(False)
        pump.start(number, near, far)
        ends.append((client, server))
    data = os.urandom(1 << 20)
    got: dict[int, bytes] = {}

    def send(client: socket.socket) -> None:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    def receive(number: int, server: socket.socket) -> None:
        found = bytearray()
        while piece := server.recv(1 << 16):
            found += piece
        got[number] = bytes(found)
        server.close()

    work = [threading.Thread(target=send, args=(client,)) for client, _server in ends]
    work += [threading.Thread(target=receive, args=(n, server)) for n, (_client, server) in enumerate(ends)]
    for each in work:
        each.start()
    loop.run()
    for each in work:
        each.join(20)
    for client, _server in ends:
        client.close()
    assert got == dict.fromkeys(range(8), data)
    assert sorted(closed) == list(range(8))
    pump.pipes.close_free()
    assert pump.pipes.budget.used == 0


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]


# --- pasta ------------------------------------------------------------------------------------------------------------


def test_pasta_is_told_of_ports_on_its_command_line() -> None:
    ports = (
        PortSpec("127.0.0.1", 8080, "", 80, "tcp"),
        PortSpec("", 8081, "", 81, "tcp"),
        PortSpec("::1", 5353, "", 53, "udp"),
    )
    assert pasta_arguments(ports) == (
        *("--tcp-ports", "127.0.0.1/8080:80", "--tcp-ports", "8081:81", "--udp-ports", "::1/5353:53"),
    )
    assert pasta_arguments(()) == ("--tcp-ports", "none", "--udp-ports", "none")
    assert pasta_arguments((), auto=True) == ("--tcp-ports", "auto", "--udp-ports", "auto")
    with pytest.raises(UsageError, match="either"):
        pasta_arguments(ports, auto=True)


def test_ports_for_pasta_get_their_numbers_before_it_starts() -> None:
    (chosen,) = choose_ports([PortSpec("127.0.0.1", 0, "", 80, "tcp")])
    assert chosen.host_port
    with pytest.raises(UsageError, match="own address only"):
        choose_ports([PortSpec("", 8080, "10.0.2.100", 80, "tcp")])
    forwarder = open_implicit([chosen])
    assert forwarder.add(PortSpec("127.0.0.1", 0, "", 80, "tcp")) == chosen
    with pytest.raises(JubakoError, match="under the same number"):
        open_implicit((), auto=True).add(chosen)


def test_a_port_that_somebody_has_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(JubakoError, match="EADDRINUSE"):
        check_free(PortSpec("127.0.0.1", server.getsockname()[1], "", 80))


# --- slirp4netns ------------------------------------------------------------------------------------------------------


class Api:
    """An API socket that answers each request with the next of `answers`."""

    def __init__(self, path: Path, answers: list[bytes]) -> None:
        self.asked: list[object] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.answers = answers
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        for answer in self.answers:
            with self.listener.accept()[0] as made:
                text = b""
                while data := made.recv(4096):
                    text += data
                self.asked.append(json.loads(text))
                made.sendall(answer)

    def close(self) -> None:
        self.thread.join(10)
        self.listener.close()


def test_slirp4netns_is_asked_for_a_port_and_to_take_it_back(tmp_path: Path) -> None:
    listed = b'{"return": {"entries": [{"id": 3, "proto": "tcp", "host_addr": "127.0.0.1", "host_port": 1,'
    listed += b' "guest_addr": "10.0.2.100", "guest_port": 80}]}}'
    api = Api(tmp_path / "api", [b'{"return": {"id": 3}}', listed, b'{"return": {}}'])
    forwarder = Slirp4netnsForwarder(str(tmp_path / "api"), Link("slirp4netns", addresses=("10.0.2.100/24",)))
    port = forwarder.add(PortSpec("127.0.0.1", 0, "", 80, "tcp4"))
    assert forwarder.listed() == (PortSpec("127.0.0.1", 1, "10.0.2.100", 80, "tcp"),)
    forwarder.remove(port)
    api.close()
    arguments = {"proto": "tcp", "host_addr": "127.0.0.1", "guest_addr": "10.0.2.100", "guest_port": 80}
    assert api.asked == [
        {"execute": "add_hostfwd", "arguments": {**arguments, "host_port": port.host_port}},
        {"execute": "list_hostfwd", "arguments": {}},
        {"execute": "remove_hostfwd", "arguments": {"id": 3}},
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b'{"error": {"desc": "bad request: no"}}', "bad request: no"),
        (b"", "not understood"),
        (b"[1]", "not understood"),
        (b'{"error": 1}', "not understood"),
        (b"\xff", "not understood"),
    ],
)
def test_what_slirp4netns_refuses_or_garbles_is_an_error(tmp_path: Path, answer: bytes, reason: str) -> None:
    free = check_free(PortSpec("127.0.0.1", 0, "", 80))
    api = Api(tmp_path / "api", [answer])
    forwarder = Slirp4netnsForwarder(str(tmp_path / "api"), Link("slirp4netns"))
    with pytest.raises(JubakoError, match=reason):
        forwarder.add(PortSpec("127.0.0.1", free, "", 80))
    api.close()


def test_a_slirp4netns_that_has_ended_is_an_error(tmp_path: Path) -> None:
    forwarder = Slirp4netnsForwarder(str(tmp_path / "api"), Link("slirp4netns"))
    free = check_free(PortSpec("127.0.0.1", 0, "", 80))
    with pytest.raises(JubakoError, match="ENOENT"):
        forwarder.add(PortSpec("127.0.0.1", free, "", 80))


# --- several at once --------------------------------------------------------------------------------------------------


class Forwarder:
    """Publishes what it can, into a list."""

    helpers = ()

    def __init__(self) -> None:
        self.ports: list[PortSpec] = []

    def add(self, port: PortSpec) -> PortSpec:
        if port.port == 99:
            raise JubakoError("publish", str(port), errno=errno.EADDRINUSE)
        self.ports.append(port)
        return port

    def remove(self, port: PortSpec) -> None:
        self.ports.remove(port)

    def close(self) -> None:
        self.ports = []


def test_of_several_ports_all_are_published_or_none() -> None:
    forwarder = Forwarder()
    good = [PortSpec("", 8080, "", 80), PortSpec("", 8081, "", 81)]
    with pytest.raises(JubakoError):
        publish(forwarder, [*good, PortSpec("", 8082, "", 99)])
    assert forwarder.ports == []
    assert publish(forwarder, good) == tuple(good)
