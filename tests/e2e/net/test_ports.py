"""Ports published into a network namespace, by every port driver: real sockets inside, real clients outside."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from jubako.errors import JubakoError
from jubako.net.ports.spec import PortSpec
from jubako.net.programs import PACKAGES
from world.programs import require
from world.two_networks import HOST, REMOTE, World, make_world

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
LINGER_RESET = b"\1\0\0\0\0\0\0\0"
DRIVERS = ("builtin", "builtin without a device", "slirp4netns", "pasta")
PORTS_OF_PASTA = [["", 8080, "", 80, "tcp"], ["", 5353, "", 53, "udp"]]


@pytest.fixture(params=DRIVERS)
def any_driver(request: pytest.FixtureRequest) -> Iterator[World]:
    """A world with TCP port 8080 of the host published to 80, and UDP port 5353 to 53."""
    name, *without = str(request.param).split(" ", 1)
    if name != "builtin":
        require(name, PACKAGES[name])
    with make_world("lo" if without else {"builtin": "veth"}.get(name, "none")) as world:
        world.driver = str(request.param)
        if name == "pasta":
            world.open(name, ports=PORTS_OF_PASTA)
        else:
            world.open(name)
        world.add("", 8080, 80)
        world.add("", 5353, 53, "udp")
        yield world


def all_but(*drivers: str) -> pytest.MarkDecorator:
    """All drivers but those whose helper program itself cannot do it."""
    return pytest.mark.parametrize("any_driver", [name for name in DRIVERS if name not in drivers], indirect=True)


# --- all drivers ------------------------------------------------------------------------------------------------------


def test_a_tcp_server_inside_answers_a_client_outside(any_driver: World) -> None:
    server = any_driver.inside.listen("0.0.0.0", 80)
    client, inside = connect(any_driver, server)
    client.sendall(b"question")
    assert inside.recv(100) == b"question"
    inside.sendall(b"answer")
    assert client.recv(100) == b"answer"


@all_but("pasta")  # pasta: older versions do not bring answers back
def test_a_udp_server_inside_answers_each_client_outside(any_driver: World) -> None:
    server = any_driver.inside.listen("0.0.0.0", 53, UDP)
    clients = [outside(any_driver, 5353, UDP) for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(b"question %d" % number)
        question, address = server.recvfrom(100)
        server.sendto(question.replace(b"question", b"answer"), address)
        assert client.recv(100) == b"answer %d" % number


@all_but("pasta")  # pasta: older versions stall when both ends send at once
def test_megabytes_arrive_as_they_were_sent_both_ways_at_once(any_driver: World) -> None:
    server = any_driver.inside.listen("0.0.0.0", 80)
    client, inside = connect(any_driver, server)
    there, back = os.urandom(1 << 20) * 24, os.urandom(1 << 20) * 24
    got: dict[str, str] = {}
    work = [
        threading.Thread(target=send_all, args=(client, there)),
        threading.Thread(target=send_all, args=(inside, back)),
        threading.Thread(target=lambda: got.update(there=digest_of(inside))),
        threading.Thread(target=lambda: got.update(back=digest_of(client))),
    ]
    run_all(work)
    assert got == {"there": hashlib.sha256(there).hexdigest(), "back": hashlib.sha256(back).hexdigest()}


def test_an_end_of_one_direction_leaves_the_other_one_open(any_driver: World) -> None:
    server = any_driver.inside.listen("0.0.0.0", 80)
    client, inside = connect(any_driver, server)
    client.sendall(b"all I have")
    client.shutdown(socket.SHUT_WR)
    assert read_to_end(inside) == b"all I have"
    inside.sendall(b"still here")
    assert client.recv(100) == b"still here"
    inside.close()
    assert client.recv(100) == b""


def test_the_server_ends_first_and_the_client_may_still_send(any_driver: World) -> None:
    server = any_driver.inside.listen("0.0.0.0", 80)
    client, inside = connect(any_driver, server)
    client.sendall(b"x")
    inside.sendall(b"greeting")
    inside.shutdown(socket.SHUT_WR)
    assert read_to_end(client) == b"greeting"
    client.sendall(b"yz")
    client.close()
    assert read_to_end(inside) == b"xyz"


@all_but("pasta")  # pasta: older versions make an ordinary end of a reset
def test_a_reset_of_the_client_reaches_the_server(any_driver: World) -> None:
    server = any_driver.inside.listen("0.0.0.0", 80)
    client, inside = connect(any_driver, server)
    client.sendall(b"x")
    assert inside.recv(1) == b"x"
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    client.close()
    with pytest.raises(ConnectionResetError):
        inside.recv(1)


@all_but("pasta", "slirp4netns")  # both make an ordinary end of a reset
def test_a_reset_of_the_server_reaches_the_client(any_driver: World) -> None:
    server = any_driver.inside.listen("0.0.0.0", 80)
    client, inside = connect(any_driver, server)
    client.sendall(b"x")
    assert inside.recv(1) == b"x"
    inside.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    inside.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_client_that_does_not_read_stops_its_server_and_nobody_else(any_driver: World) -> None:
    server = any_driver.inside.listen("0.0.0.0", 80)
    slow, to_slow = connect(any_driver, server)
    to_slow.setblocking(False)
    wait_until_full(to_slow)
    quick, to_quick = connect(any_driver, server)
    quick.sendall(b"ping")
    assert to_quick.recv(10) == b"ping"
    to_quick.sendall(b"pong")
    assert quick.recv(10) == b"pong"
    assert slow.recv(10)


@all_but("pasta")  # pasta: older versions stall with other machines' clients
def test_the_server_inside_sees_the_address_of_a_client_from_elsewhere(any_driver: World) -> None:
    server = any_driver.inside.listen("0.0.0.0", 80)
    client, inside = connect(any_driver, server)
    assert inside.getpeername()[0] == REMOTE[0]
    if any_driver.driver.startswith("builtin"):
        assert inside.getpeername()[1] == client.getsockname()[1]


def test_a_port_that_was_not_published_is_closed(any_driver: World) -> None:
    with any_driver.inside.listen("0.0.0.0", 81), pytest.raises(ConnectionRefusedError):
        any_driver.remote.connect(HOST[0], 81)


# --- adding and removing ----------------------------------------------------------------------------------------------


@pytest.fixture(params=("builtin", "slirp4netns"))
def changing(request: pytest.FixtureRequest) -> Iterator[World]:
    """A world with a driver whose ports can be changed at run time."""
    if request.param != "builtin":
        require(request.param)
    with make_world("veth" if request.param == "builtin" else "none") as made:
        made.driver = request.param
        made.open(request.param)
        yield made


def test_ports_come_and_go_while_connections_stay(changing: World) -> None:
    server = changing.inside.listen("0.0.0.0", 80)
    port = changing.add("", 8080, 80)
    client, inside = connect(changing, server)
    changing.remove(port)
    with pytest.raises(ConnectionRefusedError):
        changing.remote.connect(HOST[0], 8080)
    client.sendall(b"still there")
    assert inside.recv(100) == b"still there"
    changing.add("", 8080, 80)
    changing.remote.connect(HOST[0], 8080)
    server.accept()


def test_a_port_of_which_only_the_inner_number_was_said_gets_a_free_one(changing: World) -> None:
    server = changing.inside.listen("0.0.0.0", 80)
    ports = [changing.add(HOST[0], 0, 80) for _ in range(3)]
    assert len({port.host_port for port in ports} - {0}) == 3
    for port in ports:
        changing.remote.connect(HOST[0], port.host_port)
        server.accept()
        changing.remove(port)


def test_a_published_address_is_the_only_one(changing: World) -> None:
    server = changing.inside.listen("0.0.0.0", 80)
    changing.add("127.0.0.1", 8080, 80)
    changing.host.connect("127.0.0.1", 8080)
    server.accept()
    with pytest.raises(ConnectionRefusedError):
        changing.host.connect(HOST[0], 8080)


def test_a_port_in_use_is_refused_and_nothing_is_half_published(changing: World) -> None:
    taken = changing.host.listen("0.0.0.0" if changing.driver == "slirp4netns" else "::", 8080)
    with pytest.raises(JubakoError, match="EADDRINUSE") as refusal:
        changing.add("", 8080, 80)
    assert "choose another port" in refusal.value.hint
    taken.close()
    changing.add("", 8080, 80)
    with pytest.raises(JubakoError, match="EADDRINUSE"):
        changing.add("", 8080, 80)


@pytest.mark.parametrize("driver", ["builtin", "slirp4netns"])
def test_a_port_for_root_only_is_refused_with_the_remedy(driver: str) -> None:
    with make_world("veth" if driver == "builtin" else "none") as world:
        world.ask("give_up_low_ports")
        world.open(driver)
        with pytest.raises(JubakoError, match="EACCES") as refusal:
            world.add("", 80, 80)
        assert "ip_unprivileged_port_start=80" in refusal.value.hint


def test_an_address_of_another_host_is_refused(changing: World) -> None:
    with pytest.raises(JubakoError, match="EADDRNOTAVAIL") as refusal:
        changing.add("198.51.100.1", 8080, 80)
    assert "no such address" in refusal.value.hint


def test_a_port_that_is_not_published_cannot_be_removed(changing: World) -> None:
    with pytest.raises(JubakoError, match="ENOENT"):
        changing.remove(PortSpec("", 8080, "", 80, "tcp"))


def test_slirp4netns_says_that_it_has_no_ipv6() -> None:
    with make_world("none") as world:
        world.open("slirp4netns")
        for host, protocol in (("::1", "tcp"), ("", "tcp6")):
            with pytest.raises(JubakoError, match="IPv4 only"):
                world.add(host, 8080, 80, protocol)


def test_pasta_says_that_its_ports_are_known_at_its_start() -> None:
    require("pasta", PACKAGES["pasta"])
    with make_world("none") as world:
        world.open("pasta", ports=PORTS_OF_PASTA)
        assert world.add("", 0, 80) == PortSpec("", 8080, "", 80, "tcp")
        with pytest.raises(JubakoError, match="when it is started"):
            world.add("", 8081, 81)
        with pytest.raises(JubakoError, match="until it ends"):
            world.remove(PortSpec("", 8080, "", 80, "tcp"))


def test_pasta_is_not_started_with_a_port_that_is_in_use() -> None:
    with make_world("none") as world:
        taken = world.host.listen("127.0.0.1", 8080)
        with pytest.raises(JubakoError, match="EADDRINUSE"):
            world.open("pasta", ports=PORTS_OF_PASTA)
        taken.close()


# --- helpers ----------------------------------------------------------------------------------------------------------


def outside(world: World, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A client of the other machine's; one on the host itself for pasta, whose older versions stall with others."""
    if world.driver == "pasta":
        return world.host.connect("127.0.0.1", port, kind=kind)
    return world.remote.connect(HOST[0], port, kind=kind)


def connect(world: World, server: socket.socket, port: int = 8080) -> tuple[socket.socket, socket.socket]:
    """A connection of the other machine's, both ends. The client speaks first, which some drivers wait for."""
    client = outside(world, port)
    client.sendall(b"!")
    inside, _address = server.accept()
    inside.settimeout(60)
    client.settimeout(60)
    assert inside.recv(1) == b"!"
    return client, inside


def send_all(to: socket.socket, data: bytes) -> None:
    to.sendall(data)
    to.shutdown(socket.SHUT_WR)


def digest_of(source: socket.socket) -> str:
    digest = hashlib.sha256()
    while data := source.recv(1 << 18):
        digest.update(data)
    return digest.hexdigest()


def read_to_end(source: socket.socket) -> bytes:
    found = b""
    while data := source.recv(1 << 16):
        found += data
    return found


def run_all(work: list[threading.Thread]) -> None:
    for each in work:
        each.start()
    for each in work:
        each.join(90)
        assert not each.is_alive()


def wait_until_full(to: socket.socket) -> None:
    """Send until nothing has been taken for a while."""
    quiet = 0
    while quiet < 5:
        try:
            to.send(bytes(1 << 16))
            quiet = 0
        except BlockingIOError:
            quiet += not is_writable(to, 0.2)


def is_writable(made: socket.socket, seconds: float) -> bool:
    import select

    return bool(select.select([], [made], [], seconds)[1])
