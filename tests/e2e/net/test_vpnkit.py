"""The driver vpnkit against a stand-in (`world.vpnkit_peer`), since no distribution has a package of vpnkit.

What is shown is that the driver speaks the protocol, makes the device and carries frames; not that vpnkit itself works.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from world import vpnkit_peer
from world.netns import (
    ANSWERS,
    HOST,
    INTERNET,
    LOCAL_RESOLVER,
    LOOPBACK_PORT,
    PORT,
    RESOLVER,
    UNREACHABLE,
    Host,
    Supervisor,
    eventually,
    lives,
)

ADDRESS, ROUTER, LOOPBACK = "192.168.65.3/24", "192.168.65.1", "192.168.65.2"


@pytest.fixture
def program(tmp_path: Path) -> str:
    """The stand-in, as a program that the account may run."""
    copy = tmp_path / "vpnkit"
    shutil.copyfile(vpnkit_peer.__file__, copy)
    copy.chmod(0o755)
    return str(copy)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "host").mkdir()
    made = Host(tmp_path / "host")
    yield made
    made.close()


@pytest.fixture
def supervisor(host: Host) -> Iterator[Supervisor]:
    opened = host.supervisor()
    yield opened
    opened.close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def connect(supervisor: Supervisor, program: str, run: Path) -> Callable[..., dict[str, Any]]:
    """Connect by vpnkit; `error` in the answer where that failed."""
    return lambda **options: supervisor.connect(run, driver="vpnkit", **{"program": program, **options})


Connect = Callable[..., dict[str, Any]]


def test_the_device_inside_is_as_planned(connect: Connect, supervisor: Supervisor) -> None:
    made = connect()
    link = made["link"]
    assert made["plan"] == link
    assert (link["device"], link["mtu"], link["addresses"], link["host"]) == ("tap0", 1500, [ADDRESS], "")
    assert (link["gateways"], link["dns"]) == ([ROUTER], [ROUTER])
    assert supervisor.inside("device", "tap0") == {"mtu": 1500, "addresses": [ADDRESS], "up": True}
    assert supervisor.inside("routers", "-4") == [ROUTER]
    assert made["descriptors"] == 0
    assert "--ethernet RUN/vpnkit.sock --mtu 1500 --host-ip 0.0.0.0" in made["explain"][0]


def test_device_and_mtu_are_as_asked(connect: Connect, supervisor: Supervisor) -> None:
    connect(device="net0", mtu=1400)
    assert supervisor.inside("device", "net0") == {"mtu": 1400, "addresses": [ADDRESS], "up": True}
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"


def test_the_internet_answers_by_tcp_and_udp_and_the_router_by_echo(connect: Connect, supervisor: Supervisor) -> None:
    connect()
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"
    assert supervisor.inside("udp", INTERNET, PORT) == f"internet {HOST}"
    assert supervisor.inside("ping", ROUTER) is True
    assert supervisor.inside("tcp", HOST, PORT) == "host"
    assert "refused" in supervisor.inside("tcp", ROUTER, PORT)


@pytest.mark.parametrize("resolver", [RESOLVER, LOCAL_RESOLVER])
def test_names_are_resolved_by_the_router(connect: Connect, host: Host, supervisor: Supervisor, resolver: str) -> None:
    host.set_resolver(resolver)
    (server,) = connect()["link"]["dns"]
    assert supervisor.inside("name", server, "udp") == ANSWERS[resolver]
    assert supervisor.inside("name", server, "tcp") == ANSWERS[resolver]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_the_hosts_loopback_is_out_of_reach(
    connect: Connect, host: Host, supervisor: Supervisor, protocol: str
) -> None:
    """Also for frames made by hand, which the stand-in, as vpnkit, would carry anywhere."""
    connect()
    supervisor.inside(protocol, LOOPBACK, LOOPBACK_PORT, UNREACHABLE)
    for target in ("127.0.0.1", LOCAL_RESOLVER, "0.0.0.0", LOOPBACK):
        supervisor.inside("forge", "tap0", ROUTER, target, LOOPBACK_PORT, protocol)
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"  # frames are taken in their order
    assert host.heard() == []


def test_the_hosts_loopback_is_in_reach_where_it_was_asked_for(
    connect: Connect, host: Host, supervisor: Supervisor
) -> None:
    assert connect(host_loopback=True)["link"]["host"] == LOOPBACK
    assert supervisor.inside("tcp", LOOPBACK, LOOPBACK_PORT) == "host loopback"
    assert supervisor.inside("udp", LOOPBACK, LOOPBACK_PORT) == "host loopback"
    supervisor.inside("forge", "tap0", ROUTER, "127.0.0.1", LOOPBACK_PORT, "udp")
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"
    assert "udp 127.0.0.1" in host.heard()


def test_frames_that_are_nonsense_do_no_harm(connect: Connect, supervisor: Supervisor) -> None:
    assert "error" not in connect(arguments=["--stand-in", "junk-frames"])
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("exit", "cannot open the configuration"),
        ("refuse", "no more addresses"),
        ("garbage", "it does not speak vmnet"),
        ("mute", "it does not answer"),
        ("no-address", "it offered no address"),
        ("small", "its MTU is 576, and 1500 was asked for"),
    ],
)
def test_a_vpnkit_that_does_not_do_its_part_is_quoted_and_leaves_nothing(
    connect: Connect, run: Path, fault: str, reason: str
) -> None:
    made = connect(arguments=["--stand-in", fault])
    assert reason in made["error"]
    assert made["descriptors"] == 0
    assert list(run.iterdir()) == []


def test_a_vpnkit_that_is_not_installed_is_named_with_its_package(connect: Connect) -> None:
    made = connect(program="/nowhere/vpnkit")
    assert made["kind"] == "NotFoundError"
    assert "install the package vpnkit" in made["error"]


@pytest.mark.parametrize(
    "options",
    [{"cidr": "10.9.0.0/24"}, {"ipv6": True}, {"bridge": "br0"}, {"rules": ["a.example"]}, {"sandbox": "true"},
     {"seccomp": "true"}, {"mtu": 70000}, {"device": "a/b"}, {"device": "lo"},
     {"ports": "slirp4netns"}],
)  # fmt: skip
def test_what_it_cannot_do_is_refused(connect: Connect, options: dict[str, object]) -> None:
    made = connect(**options)
    assert made["kind"] == "UsageError"


def test_a_socket_that_a_killed_supervisor_left_is_no_obstacle(connect: Connect, run: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(run / "vpnkit.sock"))
    assert "error" not in connect()


@pytest.mark.parametrize("which", [0, 1])
def test_a_helper_that_is_killed_is_known_to_be_over(connect: Connect, supervisor: Supervisor, which: int) -> None:
    """Without vpnkit the other one ends too; without the one that carries frames the stand-in does."""
    made = connect()
    assert supervisor.ask("look")["over"] == [False, False]
    os.kill(made["helpers"][which], 9)
    assert eventually(lambda: supervisor.ask("look")["over"] == [True, True])


def test_a_device_that_is_deleted_inside_ends_the_link(connect: Connect, supervisor: Supervisor) -> None:
    connect()
    supervisor.inside("program", "ip", "link", "delete", "tap0")
    assert eventually(lambda: supervisor.ask("look")["over"] == [True, True])


def test_no_helper_outlives_a_killed_supervisor(connect: Connect, supervisor: Supervisor) -> None:
    made = connect()
    assert all(lives(pid) for pid in made["helpers"])
    supervisor.kill()
    assert eventually(lambda: not any(lives(pid) for pid in made["helpers"]))


def test_the_path_of_the_directory_may_be_long_and_strange(
    supervisor: Supervisor, program: str, tmp_path: Path
) -> None:
    directory = tmp_path / ("long" * 50) / "with space, and 'quote'" / ("ü" * 60)
    directory.mkdir(parents=True)
    assert "error" not in supervisor.connect(directory, driver="vpnkit", program=program)
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"
