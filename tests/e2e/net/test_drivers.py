"""Every driver that connects a network namespace of its own, in a world of networks made for it (see `world.netns`).

One suite for all: a new driver is one more `Case`. What a driver cannot do by its nature it says in its case.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from world.netns import (
    ALLOWANCE,
    ANSWERS,
    HOST,
    INTERNET,
    INTERNET6,
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
from world.programs import require


@dataclass(frozen=True)
class Case:
    """A driver as the tests know it; `program` is another file than the installed helper."""

    driver: str
    package: str
    program: str = ""
    mtu: int = 65520
    ipv6: bool = True
    ping: bool = True
    names_by_tcp: bool = True

    def options(self, **more: object) -> dict[str, object]:
        return {"driver": self.driver, "program": self.program, **more}


CASES = {
    "slirp4netns": Case("slirp4netns", "slirp4netns"),
    "pasta": Case("pasta", "passt", names_by_tcp=False),
}
if os.environ.get("JUBAKO_TEST_PASTA"):  # another version than the installed one
    CASES["other pasta"] = Case("pasta", "passt", os.environ["JUBAKO_TEST_PASTA"])

OpenSupervisor = Callable[..., Supervisor]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = CASES[request.param]
    require(found.driver, found.package)
    return found


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "host").mkdir()
    made = Host(tmp_path / "host")
    yield made
    made.close()


@pytest.fixture
def supervise(host: Host) -> Iterator[OpenSupervisor]:
    """A new supervisor on the host."""
    opened: list[Supervisor] = []

    def open_one(env: dict[str, str] | None = None) -> Supervisor:
        opened.append(host.supervisor(env))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def supervisor(supervise: OpenSupervisor) -> Supervisor:
    return supervise()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The private directory that a driver gets."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def connected(supervisor: Supervisor, run: Path, **options: object) -> dict[str, Any]:
    made = supervisor.connect(run, **options)
    assert "error" not in made, made["error"]
    return made


# --- what is inside ---------------------------------------------------------------------------------------------------


def test_the_device_inside_is_as_planned(case: Case, supervisor: Supervisor, run: Path) -> None:
    made = connected(supervisor, run, **case.options())
    link = made["link"]
    assert made["plan"] == link
    assert (link["device"], link["mtu"], link["dns"]) == ("tap0", case.mtu, ["10.0.2.3"])
    assert (link["addresses"], link["host"]) == (["10.0.2.100/24"], "")
    assert supervisor.inside("device", "tap0") == {"mtu": case.mtu, "addresses": ["10.0.2.100/24"], "up": True}
    assert supervisor.inside("routers", "-4") == link["gateways"] == ["10.0.2.2"]
    assert made["descriptors"] == 0


def test_network_device_and_mtu_are_as_asked(case: Case, supervisor: Supervisor, run: Path) -> None:
    made = connected(supervisor, run, **case.options(cidr="172.20.8.0/22", mtu=1400, device="net0"))
    assert supervisor.inside("device", "net0") == {"mtu": 1400, "addresses": ["172.20.8.100/22"], "up": True}
    assert supervisor.inside("routers", "-4") == made["link"]["gateways"] == ["172.20.8.2"]
    assert supervisor.inside("tcp", INTERNET, PORT).startswith("internet")
    assert made["link"]["dns"] == ["172.20.8.3"]
    assert supervisor.inside("name", "172.20.8.3") == ANSWERS[RESOLVER]


def test_the_internet_answers_by_tcp_udp_and_echo(case: Case, supervisor: Supervisor, run: Path) -> None:
    connected(supervisor, run, **case.options())
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"
    assert supervisor.inside("udp", INTERNET, PORT) == f"internet {HOST}"
    if case.ping:
        assert supervisor.inside("ping", INTERNET) is True
    assert supervisor.inside("tcp", HOST, PORT) == "host"


def test_a_datagram_larger_than_the_way_outside_gets_there(case: Case, supervisor: Supervisor, run: Path) -> None:
    connected(supervisor, run, **case.options())
    assert supervisor.inside("udp", INTERNET, PORT, ALLOWANCE, 8000) == f"internet {HOST}"


def test_ipv6_works_where_it_is_asked_for(case: Case, supervisor: Supervisor, run: Path) -> None:
    made = connected(supervisor, run, **case.options(ipv6=True))
    assert made["link"]["addresses"] == ["10.0.2.100/24", "fd00::100/64"]
    assert "fd00::100/64" in supervisor.inside("device", "tap0")["addresses"]
    assert "fd00::2" in supervisor.inside("routers", "-6")
    assert supervisor.inside("tcp", INTERNET6, PORT).startswith("internet 2001:db8::2")
    assert supervisor.inside("udp", INTERNET6, PORT).startswith("internet 2001:db8::2")
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"


def test_without_being_asked_for_there_is_no_ipv6(case: Case, supervisor: Supervisor, run: Path) -> None:
    connected(supervisor, run, **case.options())
    assert supervisor.inside("routers", "-6") == []
    assert "Network is unreachable" in supervisor.inside("tcp", INTERNET6, PORT)


@pytest.mark.parametrize("resolver", [RESOLVER, LOCAL_RESOLVER])
def test_names_are_resolved_by_the_hosts_resolver_wherever_it_is(
    case: Case, host: Host, supervisor: Supervisor, run: Path, resolver: str
) -> None:
    host.set_resolver(resolver)
    made = connected(supervisor, run, **case.options())
    (server,) = made["link"]["dns"]
    assert supervisor.inside("name", server, "udp") == ANSWERS[resolver]
    if case.names_by_tcp:
        assert supervisor.inside("name", server, "tcp") == ANSWERS[resolver]


# --- the host's loopback ----------------------------------------------------------------------------------------------

INSIDE_TARGETS = ("127.0.0.1", "10.0.2.2", "10.0.2.3", "::1", "fd00::2", "fd00::3")


def test_the_hosts_loopback_is_out_of_reach(case: Case, host: Host, supervisor: Supervisor, run: Path) -> None:
    host.set_resolver(LOCAL_RESOLVER)  # what is sent to the resolver's address must not reach its other ports
    connected(supervisor, run, **case.options(ipv6=case.ipv6))
    for target in INSIDE_TARGETS:
        for protocol in ("tcp", "udp"):
            answer = supervisor.inside(protocol, target, LOOPBACK_PORT, UNREACHABLE)
            assert "host" not in answer.replace("No route to host", ""), f"{protocol} to {target}: {answer}"
    assert host.heard() == []


FORGED = ("127.0.0.1", "127.255.255.254", LOCAL_RESOLVER, "0.0.0.0", "255.255.255.255", "10.0.2.2", "10.0.2.3")
FORGED6 = ("::1", "::", "::ffff:127.0.0.1", "::127.0.0.1", "::ffff:0.0.0.0", "fd00::2", "fd00::3", "fe80::2")


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_frames_made_by_hand_do_not_reach_the_hosts_loopback(
    case: Case, host: Host, supervisor: Supervisor, run: Path, protocol: str
) -> None:
    connected(supervisor, run, **case.options(ipv6=case.ipv6))
    for target in FORGED + (FORGED6 if case.ipv6 else ()):
        supervisor.inside("forge", "tap0", "10.0.2.2", target, LOOPBACK_PORT, protocol)
    # The helper takes frames in their order: when this has been answered, it has seen those before.
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"
    assert host.heard() == []


def test_frames_made_by_hand_do_reach_it_where_that_is_allowed(host: Host, supervisor: Supervisor, run: Path) -> None:
    """So that the test above tests what it says."""
    require("slirp4netns")
    connected(supervisor, run, driver="slirp4netns", host_loopback=True)
    for protocol in ("tcp", "udp"):
        supervisor.inside("forge", "tap0", "10.0.2.2", "127.0.0.1", LOOPBACK_PORT, protocol)
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"
    assert set(host.heard()) == {"tcp 127.0.0.1", "udp 127.0.0.1"}


def test_the_hosts_loopback_is_in_reach_where_it_was_asked_for(
    case: Case, host: Host, supervisor: Supervisor, run: Path
) -> None:
    made = connected(supervisor, run, **case.options(host_loopback=True))
    assert supervisor.inside("tcp", made["link"]["host"], LOOPBACK_PORT) == "host loopback"
    assert supervisor.inside("udp", made["link"]["host"], LOOPBACK_PORT) == "host loopback"
    assert sorted(host.heard()) == ["tcp 127.0.0.1", "udp 127.0.0.1"]


# --- helpers: missing, broken, killed ---------------------------------------------------------------------------------


def test_a_helper_that_is_not_installed_is_named_with_its_package(
    case: Case, supervisor: Supervisor, run: Path
) -> None:
    made = supervisor.connect(run, **{**case.options(), "program": "/nowhere/helper"})
    assert made["kind"] == "NotFoundError"
    assert "/nowhere/helper" in made["error"]
    assert f"install the package {case.package}" in made["error"]


def test_a_helper_that_fails_at_its_start_is_quoted_and_leaves_nothing(
    case: Case, supervisor: Supervisor, run: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'the moon is in the wrong place' >&2\nexit 3\n")
    broken.chmod(0o755)
    made = supervisor.connect(run, **{**case.options(), "program": str(broken)})
    assert "the moon is in the wrong place" in made["error"], made
    assert made["descriptors"] == 0
    assert list(run.iterdir()) == []


def test_the_hosts_mounts_stay_as_they_are(case: Case, supervisor: Supervisor, run: Path) -> None:
    connected(supervisor, run, **case.options())
    assert supervisor.inside("name", "10.0.2.3") == ANSWERS[RESOLVER]  # so it has made its own sandbox
    assert supervisor.ask("look")["mounts"] is True


def test_a_helper_that_is_killed_is_known_to_be_over(case: Case, supervisor: Supervisor, run: Path) -> None:
    made = connected(supervisor, run, **case.options())
    assert supervisor.ask("look")["over"] == [False]
    os.kill(made["helpers"][0], 9)
    assert eventually(lambda: supervisor.ask("look")["over"] == [True])


def test_helpers_end_when_they_are_told_to(case: Case, supervisor: Supervisor, run: Path) -> None:
    made = connected(supervisor, run, **case.options())
    supervisor.ask("end")
    assert not any(lives(pid) for pid in made["helpers"])


def test_no_helper_outlives_a_killed_supervisor(case: Case, supervisor: Supervisor, run: Path) -> None:
    made = connected(supervisor, run, **case.options())
    assert all(lives(pid) for pid in made["helpers"])
    supervisor.kill()
    assert eventually(lambda: not any(lives(pid) for pid in made["helpers"]))


# --- odd surroundings -------------------------------------------------------------------------------------------------


def test_a_large_environment_is_no_obstacle(case: Case, supervise: OpenSupervisor, run: Path) -> None:
    supervisor = supervise({"JUNK": "x" * 100_000, "MORE": "\x01\udcff=" * 1000})
    connected(supervisor, run, **case.options())
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"


def test_the_path_of_the_directory_may_be_long_and_strange(case: Case, supervisor: Supervisor, tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 50) / "with space, and 'quote'" / ("ü" * 60)
    directory.mkdir(parents=True)
    connected(supervisor, directory, **case.options())
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"


def test_what_a_killed_supervisor_left_in_the_directory_is_no_obstacle(
    case: Case, supervise: OpenSupervisor, run: Path
) -> None:
    first, second = supervise(), supervise()
    connected(first, run, **case.options())
    first.kill()
    for name in ("pasta.ready", "slirp4netns.sock"):
        (run / name).touch()
    connected(second, run, **case.options())
    assert second.inside("tcp", INTERNET, PORT) == f"internet {HOST}"


def test_a_directory_that_is_gone_is_an_error_in_words(case: Case, supervisor: Supervisor, tmp_path: Path) -> None:
    made = supervisor.connect(tmp_path / "nowhere", **case.options())
    assert "No such file or directory" in made["error"]
    assert made["descriptors"] == 0


def test_several_namespaces_have_each_its_own(case: Case, supervise: OpenSupervisor, tmp_path: Path) -> None:
    supervisors = [supervise() for _ in range(3)]
    for number, each in enumerate(supervisors):
        (tmp_path / str(number)).mkdir()
        connected(each, tmp_path / str(number), **case.options())
    assert {each.inside("tcp", INTERNET, PORT) for each in supervisors} == {f"internet {HOST}"}


def test_a_host_without_a_route_is_said_or_does_not_matter(case: Case, tmp_path: Path, run: Path) -> None:
    (tmp_path / "alone").mkdir()
    alone = Host(tmp_path / "alone", routes=False)
    supervisor = alone.supervisor()
    try:
        made = supervisor.connect(run, **case.options())
        if case.driver == "pasta":
            assert "the host has no default route for IPv4" in made["error"]
            assert "--network slirp4netns" in made["error"]
        else:
            assert "error" not in made
            assert supervisor.inside("tcp", HOST, PORT) == "host"
    finally:
        supervisor.close()
        alone.close()


def check_what_matters(case: Case, host: Host, supervisor: Supervisor, run: Path, **options: object) -> None:
    connected(supervisor, run, **case.options(**options))
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"
    assert supervisor.inside("name", "10.0.2.3") == ANSWERS[RESOLVER]
    supervisor.inside("tcp", "10.0.2.2", LOOPBACK_PORT, UNREACHABLE)
    supervisor.inside("forge", "tap0", "10.0.2.2", "127.0.0.1", LOOPBACK_PORT, "udp")
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"
    assert host.heard() == []
    assert supervisor.ask("look")["mounts"] is True


def test_a_namespace_of_the_supervisors_own_user_namespace(
    case: Case, host: Host, supervisor: Supervisor, run: Path
) -> None:
    check_what_matters(case, host, supervisor, run, nested=False)


@pytest.mark.root
@pytest.mark.parametrize("nested", [True, False])
def test_the_machines_root_needs_no_user_namespace_around(case: Case, tmp_path: Path, run: Path, nested: bool) -> None:
    (tmp_path / "host").mkdir()
    host = Host(tmp_path / "host", base=False)
    supervisor = host.supervisor()
    try:
        check_what_matters(case, host, supervisor, run, nested=nested)
    finally:
        supervisor.close()
        host.close()
