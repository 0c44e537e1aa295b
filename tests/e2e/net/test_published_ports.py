"""`-p`, `-P` and `jubako port`: ports of the host that lead into containers, from the command line to the kernel."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world.box import eventually
from world.command import Command, Result

Start = Callable[..., Result]

NETWORKS = ("none", "pasta", "pasta:port_handler=implicit", "slirp4netns", "slirp4netns:port_handler=slirp4netns")
SERVER = """
import socket, sys, threading
def serve(kind, family, address, port):
    server = socket.socket(family, kind)
    server.bind((address, port))
    if kind == socket.SOCK_DGRAM:
        while True:
            data, client = server.recvfrom(99)
            server.sendto(f'udp {port} from {client[0]}'.encode(), client)
    server.listen()
    while True:
        connection, client = server.accept()
        connection.sendall(f'tcp {port} from {client[0]}'.encode())
        connection.close()
for port in map(int, sys.argv[1:]):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        threading.Thread(target=serve, args=(kind, socket.AF_INET, '0.0.0.0', port)).start()
print('ready', flush=True)
"""


@pytest.fixture(autouse=True)
def _removed(jubako: Command) -> Iterator[None]:
    yield
    jubako("rm", "--all", "--force", check=True)


@pytest.fixture
def web(jubako: Command) -> Start:
    """A container `web` that answers at 80 and 81, TCP and UDP."""

    def start(*flags: str) -> Result:
        server = ("host", "--", "/usr/bin/python3", "-c", SERVER, "80", "81")
        result = jubako("run", "-d", "--name", "web", *flags, *server)
        if result.exit_code == 0:
            assert eventually(lambda: "ready" in jubako("logs", "web").stdout)
        return result

    return start


def ask(address: str, port: int, kind: int = socket.SOCK_STREAM) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as client:
        client.settimeout(10)
        client.connect((address, port))
        if kind == socket.SOCK_STREAM:
            return client.recv(99).decode()
        client.settimeout(1)
        for _ in range(20):  # a datagram may be lost
            client.send(b"?")
            try:
                return client.recv(99).decode()
            except TimeoutError:
                continue
        raise TimeoutError


def free_ports(count: int) -> int:
    """The first of `count` ports in a row where nobody listens now."""
    for first in range(20000, 60000, 16):
        try:
            for port in range(first, first + count):
                with socket.create_server(("127.0.0.1", port)):
                    pass
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


def ports(jubako: Command) -> dict[str, str]:
    return dict(line.split(" -> ") for line in jubako("port", "web", check=True).lines)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_published_port_leads_into_the_container(network: str, web: Start, jubako: Command) -> None:
    first = free_ports(2)
    flags = ("-p", f"{first}:80", "-p", f"127.0.0.1:{first + 1}:81/udp")
    assert web("--network", network, *flags).exit_code == 0
    assert ask("127.0.0.1", first).startswith("tcp 80 from ")
    if "port_handler" not in network:  # pasta has its own family only, slirp4netns IPv4
        assert ask("::1", first).startswith("tcp 80 from ")
    if "port_handler" not in network:  # answers to the loopback of the host are what the others refuse
        assert ask("127.0.0.1", first + 1, socket.SOCK_DGRAM).startswith("udp 81 from ")
    assert ports(jubako) == {"80/tcp": f"0.0.0.0:{first}", "81/udp": f"127.0.0.1:{first + 1}"}
    row = jubako("ps", "--format", "{{.Ports}}", check=True).stdout
    assert str(first) in row


def test_ranges_and_free_ports(web: Start, jubako: Command) -> None:
    first = free_ports(2)
    assert web("--network", "pasta", "-p", f"127.0.0.1:{first}-{first + 1}:80-81", "-p", "80").exit_code == 0
    assert ask("127.0.0.1", first).startswith("tcp 80 ")
    assert ask("127.0.0.1", first + 1).startswith("tcp 81 ")
    found = [row for row in jubako("port", "--json", "web", check=True).json if row["HostIp"] != "127.0.0.1"]
    assert [row["ContainerPort"] for row in found] == [80]
    assert ask("127.0.0.1", found[0]["HostPort"]).startswith("tcp 80 ")


def test_ports_come_and_go_while_it_runs(web: Start, jubako: Command) -> None:
    first = free_ports(2)
    assert web("--network", "slirp4netns").exit_code == 0
    assert ports(jubako) == {}
    jubako("port", "--add", f"127.0.0.1:{first}:80", "--add", f"{first + 1}:81", "web", check=True)
    assert ask("127.0.0.1", first).startswith("tcp 80 ")
    jubako("port", "--remove", f"127.0.0.1:{first}:80", "web", check=True)
    with pytest.raises(ConnectionRefusedError):
        ask("127.0.0.1", first)
    assert ask("127.0.0.1", first + 1).startswith("tcp 81 ")
    told = jubako("port", "--remove", f"127.0.0.1:{first}:80", "web")
    assert (told.exit_code, "it is not published" in told.stderr) == (125, True)


def test_a_port_in_use_is_an_error_and_nothing_of_the_range_is_published(web: Start, jubako: Command) -> None:
    first = free_ports(3)
    with socket.create_server(("127.0.0.1", first + 2)):
        told = web("--network", "pasta", "-p", f"127.0.0.1:{first}-{first + 2}:80-82")
        assert told.exit_code == 125
        assert f"127.0.0.1:{first + 2}" in told.stderr
        assert "EADDRINUSE" in told.stderr
        assert jubako("ps", "-aq", check=True).stdout == ""
        assert web("--network", "pasta").exit_code == 0
        told = jubako("port", "--add", f"127.0.0.1:{first}-{first + 2}:80-82", "web")
        assert "EADDRINUSE" in told.stderr
    assert ports(jubako) == {}
    for port in (first, first + 1):
        with pytest.raises(ConnectionRefusedError):
            ask("127.0.0.1", port)


@pytest.mark.skipif(os.getuid() == 0, reason="root may have any port")
def test_a_privileged_port_is_refused_with_the_remedy(web: Start) -> None:
    told = web("--network", "pasta", "-p", "127.0.0.1:79:80")
    assert told.exit_code == 125
    assert "net.ipv4.ip_unprivileged_port_start" in told.stderr


def test_a_killed_port_driver_is_missed_and_reload_restores_it(web: Start, jubako: Command) -> None:
    first = free_ports(1)
    assert web("--network", "none", "-p", f"127.0.0.1:{first}:80").exit_code == 0
    found = jubako("inspect", "web", check=True).json[0]
    supervisor = found["Jubako"]["SupervisorPid"]
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    for child in {int(pid) for pid in children} - {found["State"]["Pid"]}:
        os.kill(child, signal.SIGKILL)
    assert eventually(lambda: len(jubako("inspect", "web").json[0]["NetworkSettings"]["Lost"]) == 2)
    jubako("network", "reload", "web", check=True)
    assert ask("127.0.0.1", first).startswith("tcp 80 ")


def test_exposed_ports_are_published_at_free_ones(web: Start, jubako: Command) -> None:
    assert web("--network", "pasta", "-P", "--expose", "80", "--expose", "81/udp").exit_code == 0
    found = ports(jubako)
    assert set(found) == {"80/tcp", "81/udp"}
    assert ask("127.0.0.1", int(found["80/tcp"].rpartition(":")[2])).startswith("tcp 80 ")
    assert ask("127.0.0.1", int(found["81/udp"].rpartition(":")[2]), socket.SOCK_DGRAM).startswith("udp 81 ")
