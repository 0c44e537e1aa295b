"""`jubako run --network`: containers whose network a helper program carries, from the command line to the kernel."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world.box import eventually
from world.command import Command, Result

Run = Callable[..., Result]

DRIVERS = ("pasta", "slirp4netns")
REACHES_HOST = {"pasta": "pasta:--map-gw", "slirp4netns": "slirp4netns:allow_host_loopback=true"}


@pytest.fixture(autouse=True)
def _removed(jubako: Command) -> Iterator[None]:
    yield
    jubako("rm", "--all", "--force", check=True)


@pytest.fixture
def host_server() -> Iterator[int]:
    """The port of a server on the host's 127.0.0.1 that says `of the host` to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"of the host\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def reach(address: str, port: int) -> tuple[str, ...]:
    script = (
        "import socket, sys\n"
        "try:\n"
        f"    print(socket.create_connection(({address!r}, {port}), 3).makefile().read(), end='')\n"
        "except OSError as failure:\n"
        "    print(type(failure).__name__)\n"
    )
    return ("/usr/bin/python3", "-c", script)


def inspect(jubako: Command, name: str) -> dict[str, object]:
    found: dict[str, object] = jubako("inspect", name, check=True).json[0]["NetworkSettings"]
    return found


def helpers(jubako: Command, name: str) -> set[int]:
    """The pids of the programs that are children of the container's supervisor, but for its own first process."""
    found = jubako("inspect", name, check=True).json[0]
    supervisor = found["Jubako"]["SupervisorPid"]
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return {int(pid) for pid in children} - {found["State"]["Pid"]}


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_container_has_an_address_a_route_and_a_name_server(driver: str, run: Run) -> None:
    told = run("--network", driver, "host", "--", "sh", "-c", "ip -j address; ip -j route; cat /etc/resolv.conf")
    addresses, routes, *resolv = told.lines
    device = next(one for one in json.loads(addresses) if one["ifname"] == "tap0")
    assert (device["mtu"], device["addr_info"][0]["local"]) == (65520, "10.0.2.100")
    assert {route["dst"]: route.get("gateway") for route in json.loads(routes)}["default"] == "10.0.2.2"
    assert resolv[0] == "nameserver 10.0.2.3"


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_hosts_loopback_is_out_of_reach_unless_asked_for(driver: str, run: Run, host_server: int) -> None:
    for address in ("127.0.0.1", "10.0.2.2", "10.0.2.3"):
        told = run("--network", driver, "host", "--", *reach(address, host_server))
        assert "of the host" not in told.stdout, address
        assert told.stdout.endswith(("Error\n", "timeout\n")), told
    told = run("--network", REACHES_HOST[driver], "host", "--", *reach("10.0.2.2", host_server))
    assert told.stdout == "of the host\n", told


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_allowed_host_has_a_name(driver: str, run: Run, host_server: int) -> None:
    told = run("--network", REACHES_HOST[driver], "host", "--", *reach("host.containers.internal", host_server))
    assert told.stdout == "of the host\n", told


def test_the_default_is_what_info_says(jubako: Command) -> None:
    default = {"JUBAKO_NETWORK": ""}
    chosen = jubako("info", "--format", "{{.network.name}}", env=default, check=True).stdout.strip()
    assert chosen in DRIVERS
    jubako("run", "-d", "--rm", "--name", "one", "host", "--", "sleep", "100", env=default, check=True)
    assert inspect(jubako, "one")["Driver"] == chosen


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_helper_that_is_killed_is_missed_and_reload_restores_it(
    driver: str, jubako: Command, host_server: int
) -> None:
    jubako("run", "-d", "--name", "one", "--network", REACHES_HOST[driver], "host", "--", "sleep", "1000", check=True)
    (helper,) = helpers(jubako, "one")
    os.kill(helper, signal.SIGKILL)
    assert eventually(lambda: inspect(jubako, "one")["Lost"] == [driver])
    assert "of the host" not in jubako("exec", "one", *reach("10.0.2.2", host_server)).stdout
    directory = jubako("inspect", "one", check=True).json[0]["Jubako"]["Directory"]
    assert f"{driver}: it ended" in Path(directory, "network.log").read_text()
    jubako("network", "reload", "one", check=True)
    assert inspect(jubako, "one")["Lost"] == []
    assert jubako("exec", "one", *reach("10.0.2.2", host_server)).stdout == "of the host\n"


@pytest.mark.parametrize("flags", [(), ("--pid", "host")], ids=["", "pid"])
@pytest.mark.parametrize("victim", ["supervisor", "init"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_helpers_end_with_the_container_whatever_dies_first(
    driver: str, victim: str, flags: tuple[str, ...], jubako: Command
) -> None:
    jubako("run", "-d", "--name", "one", "--network", driver, *flags, "host", "--", "sleep", "1000", check=True)
    found = jubako("inspect", "one", check=True).json[0]
    running = helpers(jubako, "one")
    assert running
    os.kill({"supervisor": found["Jubako"]["SupervisorPid"], "init": found["State"]["Pid"]}[victim], signal.SIGKILL)
    assert eventually(lambda: not [pid for pid in running if Path(f"/proc/{pid}/cmdline").exists()])


def test_another_container_shares_network_and_name_server(jubako: Command, run: Run) -> None:
    jubako("run", "-d", "--name", "one", "--network", "slirp4netns:mtu=1400", "host", "--", "sleep", "1000", check=True)
    told = run("--network", "container:one", "host", "--", "sh", "-c", "ip link show tap0; cat /etc/resolv.conf")
    assert "mtu 1400" in told.stdout
    assert "nameserver 10.0.2.3\n" in told.stdout


def test_the_plan_names_the_helper_and_starts_none(jubako: Command) -> None:
    told = jubako("explain", "--json", "run", "--network", "pasta", "host", "--", "true", check=True)
    steps = next(section for section in told.json["sections"] if section["key"] == "plan")["steps"]
    (step,) = [step for step in steps if step["name"] == "ConnectNetwork"]
    assert any("pasta" in call and "--netns" in call for call in step["calls"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--network", "nosuch"), "no such network"),
        (("--network", "slirp4netns:mtu=1"), "mtu"),
        (("--network", "slirp4netns:cidr=10.0.2.1/24"), "cidr"),
        (("--network", "pasta:-T,auto,--netns,/x"), "--netns"),
        (("--network", "host", "-p", "80:80"), "publish"),
        (("--network", "default:mtu=1"), "takes no options"),
        (("--network", "pasta", "--allow", "example.org"), "keeps no rules"),
    ],
)
def test_nonsense_is_refused_with_the_flag(flags: tuple[str, ...], words: str, run: Run) -> None:
    told = run(*flags, "host", "--", "true")
    assert told.exit_code == 125
    assert words in told.stderr
    assert "Traceback" not in told.stderr


def test_names_are_as_asked_for(run: Run) -> None:
    asked = ("--dns", "192.0.2.53", "--dns-search", "example.org", "--dns-option", "ndots:3")
    more = ("--add-host", "db:10.1.2.3")
    told = run("--network", "slirp4netns", *asked, *more, "host", "--", "cat", "/etc/resolv.conf", "/etc/hosts")
    assert "nameserver 192.0.2.53\nsearch example.org\noptions ndots:3\n" in told.stdout
    assert "10.1.2.3\tdb\n" in told.stdout
    assert "10.0.2.3" not in told.stdout


def test_the_host_gateway_is_the_host(run: Run, host_server: int) -> None:
    reachable = REACHES_HOST["slirp4netns"]
    told = run("--network", reachable, "--add-host", "db:host-gateway", "host", "--", *reach("db", host_server))
    assert told.stdout == "of the host\n", told
    refused = run("--network", "none", "--add-host", "db:host-gateway", "host", "--", "true")
    assert (refused.exit_code, "host-gateway" in refused.stderr) == (125, True), refused
