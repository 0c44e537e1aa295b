"""The builtin port driver: addresses of clients, many of them, and what hostile or failing peers can do to it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import selectors
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.errors import JubakoError
from world.two_networks import HOST, INSIDE, REMOTE, World, descriptors, is_readable, make_world, wait_until

UDP = socket.SOCK_DGRAM
TABLE = "27253"


@pytest.fixture
def world() -> Iterator[World]:
    """The driver opened for a container with a device; nothing is published yet."""
    with make_world() as made:
        made.open()
        yield made


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """This process may have as many descriptors as it is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- whose address the server sees ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("listening", ["everywhere", "its own address", "loopback"])
def test_a_tcp_server_sees_the_clients_own_address_and_port(world: World, version: int, listening: str) -> None:
    address = {"everywhere": ("0.0.0.0", "::"), "its own address": INSIDE, "loopback": ("127.0.0.1", "::1")}[listening]
    server = world.inside.listen(address[version], 80)
    world.add("", 8080, 80)
    client = world.remote.connect(HOST[version], 8080)
    inside, peer = server.accept()
    assert peer[:2] == client.getsockname()[:2]
    assert peer[0] == REMOTE[version]
    client.sendall(b"ping")
    assert inside.recv(10) == b"ping"
    inside.sendall(b"pong")
    assert client.recv(10) == b"pong"


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("listening", ["everywhere", "its own address", "loopback"])
def test_a_udp_server_sees_and_answers_the_clients_own_address_and_port(
    world: World, version: int, listening: str
) -> None:
    address = {"everywhere": ("0.0.0.0", "::"), "its own address": INSIDE, "loopback": ("127.0.0.1", "::1")}[listening]
    server = world.inside.listen(address[version], 53, UDP)
    world.add("", 5353, 53, "udp")
    clients = [world.remote.connect(HOST[version], 5353, kind=UDP) for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(b"question %d" % number)
    peers = {}
    for _client in clients:
        question, peer = server.recvfrom(100)
        peers[question] = peer
    for question, peer in peers.items():
        server.sendto(question.replace(b"question", b"answer"), peer)
    assert [client.recv(100) for client in clients] == [b"answer 0", b"answer 1", b"answer 2"]
    assert [peers[b"question %d" % number][:2] for number in range(3)] == [each.getsockname()[:2] for each in clients]


def test_without_any_device_inside_clients_keep_their_addresses_too() -> None:
    with make_world("lo") as world:
        world.open()
        server, names = world.inside.listen("0.0.0.0", 80), world.inside.listen("0.0.0.0", 53, UDP)
        world.add("", 8080, 80)
        world.add("", 5353, 53, "udp")
        client = world.remote.connect(HOST[0], 8080)
        assert server.accept()[1] == client.getsockname()
        asker = world.remote.connect(HOST[0], 5353, kind=UDP)
        asker.send(b"question")
        question, peer = names.recvfrom(100)
        assert peer == asker.getsockname()
        names.sendto(question, peer)
        assert asker.recv(100) == b"question"


def test_the_namespace_may_be_entered_through_the_user_namespace_that_owns_it() -> None:
    with make_world() as world:
        world.open(through_its_owner=True)
        server = world.inside.listen("0.0.0.0", 80)
        world.add("", 8080, 80)
        client = world.remote.connect(HOST[0], 8080)
        assert server.accept()[1] == client.getsockname()


def test_a_client_on_the_hosts_loopback_is_never_taken_for_a_local_one(world: World) -> None:
    for address in ("0.0.0.0", "127.0.0.1"):
        with world.inside.listen(address, 80) as server:
            port = world.add("", 8080, 80)
            world.host.connect("127.0.0.1", 8080)
            assert server.accept()[1][0] == INSIDE[0]
            world.remove(port)


def test_a_forwarder_that_shall_not_keep_addresses_shows_the_containers_own() -> None:
    with make_world() as world:
        world.open(transparent=False)
        server = world.inside.listen("127.0.0.1", 80)
        world.add("", 8080, 80)
        world.remote.connect(HOST[0], 8080)
        assert server.accept()[1][0] == INSIDE[0]
        assert TABLE not in world.inside.ip("rule")


def test_a_client_of_one_family_reaches_a_server_of_the_other(world: World) -> None:
    server = world.inside.listen("0.0.0.0", 80)
    world.add("", 8080, 80)
    world.remote.connect(HOST[1], 8080)
    assert server.accept()[1][0] == INSIDE[0]
    server.close()
    server = world.inside.listen("::1", 80)
    world.remote.connect(HOST[0], 8080)
    assert server.accept()[1][0] == INSIDE[1]


def test_a_port_of_one_family_stays_in_it(world: World) -> None:
    world.add("", 8080, 80, "tcp4")
    with pytest.raises(ConnectionRefusedError):
        world.remote.connect(HOST[1], 8080)
    world.add("", 8080, 80, "tcp6")
    server = world.inside.listen("0.0.0.0", 80)
    with pytest.raises(ConnectionResetError):  # by connect(2) already, if it is quick
        world.remote.connect(HOST[1], 8080).recv(1)
    assert not is_readable(server, 0.2)


def test_a_port_that_names_an_address_inside_goes_there_only(world: World) -> None:
    own = world.inside.listen(INSIDE[0], 80)
    world.add("", 8080, 80, address="127.0.0.1")
    with pytest.raises(ConnectionResetError):
        world.remote.connect(HOST[0], 8080).recv(1)
    server = world.inside.listen("127.0.0.1", 80)
    world.remote.connect(HOST[0], 8080)
    assert server.accept()[1][0] == REMOTE[0]
    assert not is_readable(own, 0.1)


def test_only_answers_of_the_published_port_are_led_back(world: World) -> None:
    server = world.inside.listen("0.0.0.0", 80)
    port = world.add("", 8080, 80)
    client = world.remote.connect(HOST[0], 8080)
    server.accept()
    assert "dev lo" in world.inside.ip("route", "get", REMOTE[0], "ipproto", "tcp", "sport", "80")
    assert "dev tap0" in world.inside.ip("route", "get", REMOTE[0], "ipproto", "tcp", "sport", "81")
    assert "dev tap0" in world.inside.ip("route", "get", REMOTE[0])
    client.close()
    world.remove(port)
    wait_until(lambda: TABLE not in world.inside.ip("rule"))


def test_where_answers_do_not_come_back_the_connection_is_made_without_the_address(world: World) -> None:
    world.inside.ip("rule", "add", "priority", "100", "to", REMOTE[0], "lookup", "main")
    server = world.inside.listen("0.0.0.0", 80)
    world.add("", 8080, 80)
    for _turn in range(2):
        client = world.remote.connect(HOST[0], 8080)
        inside, peer = server.accept()
        assert peer[0] == INSIDE[0]
        client.sendall(b"ping")
        assert inside.recv(10) == b"ping"
    assert "it is not kept for a while" in world.words()


def test_a_server_that_is_busy_does_not_make_clients_lose_their_addresses(world: World) -> None:
    server = world.inside.listen("0.0.0.0", 80, backlog=0)
    world.add("", 8080, 80)
    first = world.inside.connect(INSIDE[0], 80)  # now the server's queue is full
    client = world.remote.connect(HOST[0], 8080)
    time.sleep(0.9)  # longer than it takes until a second attempt is made
    assert server.accept()[1] == first.getsockname()
    assert server.accept()[1][0] == client.getsockname()[0]


# --- nobody there, and failures ---------------------------------------------------------------------------------------


def test_a_client_is_reset_when_nobody_listens_inside(world: World) -> None:
    world.add("", 8080, 80)
    with pytest.raises(ConnectionResetError):
        world.remote.connect(HOST[0], 8080).recv(1)
    server = world.inside.listen("0.0.0.0", 80)
    world.remote.connect(HOST[0], 8080)
    server.accept()


def test_datagrams_arrive_as_soon_as_somebody_takes_them(world: World) -> None:
    world.add("", 5353, 53, "udp")
    client = world.remote.connect(HOST[0], 5353, kind=UDP)
    client.send(b"too early")
    server = world.inside.listen("127.0.0.1", 53, UDP)
    received = b""
    while received != b"now":
        client.send(b"now")
        if is_readable(server, 0.2):
            received = server.recv(100)
    server.close()
    client.send(b"lost")
    server = world.inside.listen("0.0.0.0", 53, UDP)
    while received != b"again":
        client.send(b"again")
        if is_readable(server, 0.2):
            received = server.recv(100)


def test_a_udp_server_may_move_to_loopback_while_its_client_goes_on(world: World) -> None:
    server = world.inside.listen(INSIDE[0], 53, UDP)
    world.add("", 5353, 53, "udp")
    client = world.remote.connect(HOST[0], 5353, kind=UDP)
    client.send(b"one")
    assert server.recv(100) == b"one"
    server.close()
    server = world.inside.listen("127.0.0.1", 53, UDP)
    while not is_readable(server, 0.2):
        client.send(b"two")
    assert server.recvfrom(100) == (b"two", client.getsockname())


def test_large_datagrams_and_empty_ones_pass(world: World) -> None:
    server = world.inside.listen("0.0.0.0", 53, UDP)
    world.add("127.0.0.1", 5353, 53, "udp")
    client = world.host.connect("127.0.0.1", 5353, kind=UDP)
    for data in (b"x", b"", os.urandom(65507)):
        client.send(data)
        received, peer = server.recvfrom(1 << 16)
        assert received == data
        server.sendto(data, peer)
        assert client.recv(1 << 16) == data


def test_the_end_of_the_connector_ends_the_forwarder_and_is_told(world: World) -> None:
    world.add("", 8080, 80)
    _plane, connector = world.helpers()
    os.kill(connector, signal.SIGKILL)
    wait_until(lambda: world.helpers() == [0, 0])
    assert "the process in the container's network namespace has ended" in world.words()
    with pytest.raises(JubakoError, match="has ended"):
        world.add("", 8081, 80)
    with pytest.raises(ConnectionRefusedError):
        world.remote.connect(HOST[0], 8080)


def test_the_end_of_the_forwarder_ends_the_connector(world: World) -> None:
    plane, _connector = world.helpers()
    os.kill(plane, signal.SIGKILL)
    wait_until(lambda: world.helpers() == [0, 0])
    with pytest.raises(JubakoError, match="has ended"):
        world.add("", 8080, 80)


def test_the_end_of_a_worker_ends_its_connections_only() -> None:
    with make_world() as world:
        world.open(workers=3)
        server = world.inside.listen("0.0.0.0", 80)
        world.add("", 8080, 80)
        pairs = [pair(world, server) for _ in range(8)]
        assert all(echoes(client, inside) for client, inside in pairs)  # now each is where it will stay
        plane = world.helpers()[0]
        workers = children(plane)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: len(children(plane)) == 1)
        lost = sum(not echoes(client, inside) for client, inside in pairs)
        assert 0 < lost < 8
        client, inside = pair(world, server)
        assert echoes(client, inside)


def test_the_helpers_have_only_the_rights_that_they_need(world: World) -> None:
    plane, connector = world.helpers()
    assert effective_rights(plane) == 1 << 10  # CAP_NET_BIND_SERVICE
    assert effective_rights(connector) == 1 << 10 | 1 << 12 | 1 << 13  # and CAP_NET_ADMIN, CAP_NET_RAW


# --- many -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("workers", [1, 3])
def test_a_thousand_connections_lose_and_reorder_nothing_and_leave_no_descriptor(workers: int) -> None:
    with make_world() as world:
        world.open(workers=workers)
        world.add("", 8080, 80)
        server = world.inside.listen("0.0.0.0", 80, backlog=2048)
        client, inside = pair(world, server)
        assert echoes(client, inside)
        client.close()
        inside.close()
        helpers = world.helpers()
        before = [descriptors(pid) for pid in helpers]
        clients = [world.remote.connect(HOST[0], 8080) for _ in range(1000)]
        servers = [server.accept()[0] for _ in clients]
        echo = threading.Thread(target=echo_until_end, args=(servers,))
        echo.start()
        data = [hashlib.sha256(b"%d" % number).digest() * 1024 for number in range(1000)]
        assert exchange(clients, data) == data
        echo.join(30)
        for each in (*clients, *servers):
            each.close()
        wait_until(lambda: [descriptors(pid) for pid in helpers] <= [before[0] + workers, before[1]])
        assert world.helpers() == helpers


def test_where_descriptors_run_out_connections_wait_and_the_forwarder_goes_on() -> None:
    with make_world(limit=200) as world:
        world.open(workers=1)
        world.add("", 8080, 80)
        server = world.inside.listen("0.0.0.0", 80, backlog=256)
        clients = [world.remote.connect(HOST[0], 8080) for _ in range(150)]
        first = []
        while is_readable(server, 0.5):
            first.append(server.accept()[0])
        assert 10 < len(first) < 100
        rest = len(clients) - len(first)
        by_name = {client.getsockname(): client for client in clients}
        for inside in first:
            client = by_name[inside.getpeername()]
            assert echoes(client, inside)
            client.close()
            inside.close()
            if rest:
                rest -= 1
                inside, peer = server.accept()
                assert echoes(by_name[peer], inside)
        assert world.helpers()[0]


@pytest.mark.usefixtures("many_descriptors")
def test_udp_clients_beyond_the_bound_take_the_place_of_the_quietest(world: World) -> None:
    server = world.inside.listen("0.0.0.0", 53, UDP)
    world.add("", 5353, 53, "udp")
    clients = []
    for number in range(1100):
        clients.append(world.remote.connect(HOST[0], 5353, kind=UDP))
        clients[-1].send(b"%d" % number)
        assert server.recvfrom(100) == (b"%d" % number, clients[-1].getsockname())
    assert descriptors(world.helpers()[0]) < 1024 + 40
    for number in (0, 1099):
        clients[number].send(b"again")
        data, peer = server.recvfrom(100)
        server.sendto(data, peer)
        assert clients[number].recv(100) == b"again"


def test_clients_that_neither_read_nor_send_do_not_stop_the_others(world: World) -> None:
    server = world.inside.listen("0.0.0.0", 80)
    world.add("", 8080, 80)
    stuck = [pair(world, server) for _ in range(60)]
    for _client, inside in stuck:
        inside.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                inside.send(bytes(1 << 18))
    client, inside = pair(world, server)
    assert echoes(client, inside)


# --- helpers ----------------------------------------------------------------------------------------------------------


def pair(world: World, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A connection's two ends."""
    client = world.remote.connect(HOST[0], 8080)
    inside, _peer = server.accept()
    inside.settimeout(20)
    return client, inside


def echoes(client: socket.socket, inside: socket.socket) -> bool:
    """Whether a message passes both ways."""
    try:
        client.sendall(b"ping")
        if inside.recv(10) != b"ping":
            return False
        inside.sendall(b"pong")
        return client.recv(10) == b"pong"
    except ConnectionError:
        return False


def echo_until_end(sockets: list[socket.socket]) -> None:
    """Send back what comes, all at once, and end each when its client ends."""
    waiting = {each: bytearray() for each in sockets}
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            each.setblocking(False)
            selector.register(each, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while selector.get_map():
            for key, events in selector.select():
                each = key.fileobj
                assert isinstance(each, socket.socket)
                if events & selectors.EVENT_READ:
                    data = each.recv(1 << 16)
                    waiting[each] += data
                    if not data:
                        each.setblocking(True)
                        each.sendall(waiting[each])
                        each.shutdown(socket.SHUT_WR)
                        selector.unregister(each)
                        continue
                if waiting[each]:
                    with contextlib.suppress(BlockingIOError):
                        del waiting[each][: each.send(waiting[each])]


def exchange(clients: list[socket.socket], data: list[bytes]) -> list[bytes]:
    """Send each its own data, in small pieces in turns, and return what came back to each."""
    for start in range(0, len(data[0]), 8192):
        for client, own in zip(clients, data, strict=True):
            client.sendall(own[start : start + 8192])
    for client in clients:
        client.shutdown(socket.SHUT_WR)
    found = []
    for client in clients:
        got = b""
        while piece := client.recv(1 << 16):
            got += piece
        found.append(got)
    return found


def children(pid: int) -> list[int]:
    """The children of a process that have not ended."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def effective_rights(pid: int) -> int:
    """The effective capabilities of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    raise AssertionError("no CapEff")
