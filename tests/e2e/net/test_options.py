"""Options of `--network` that only one driver has, in real networks (see `world.netns`)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from world.netns import ALLOWANCE, HOST, INTERNET, INTERNET6, LOOPBACK_PORT, PORT, UNREACHABLE, Host, Supervisor
from world.programs import require


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "host").mkdir()
    made = Host(tmp_path / "host")
    yield made
    made.close()


@pytest.fixture
def supervisor(host: Host) -> Iterator[Supervisor]:
    made = host.supervisor()
    yield made
    made.close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def pasta() -> None:
    require("pasta", "passt")


@pytest.fixture
def slirp4netns() -> None:
    require("slirp4netns")


@pytest.mark.usefixtures("pasta")
def test_pasta_forwards_to_the_hosts_loopback_only_the_port_that_was_asked_for(
    host: Host, supervisor: Supervisor, run: Path
) -> None:
    made = supervisor.connect(run, value=f"pasta:-T,{LOOPBACK_PORT}")
    assert "error" not in made, made
    assert supervisor.inside("tcp", "127.0.0.1", LOOPBACK_PORT) == "host loopback"
    assert host.heard() == ["tcp 127.0.0.1"]
    assert "refused" in supervisor.inside("tcp", "127.0.0.1", PORT)
    assert "refused" in supervisor.inside("udp", "127.0.0.1", LOOPBACK_PORT)
    supervisor.inside("forge", "tap0", "10.0.2.2", "127.0.0.1", LOOPBACK_PORT, "udp")
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"
    assert host.heard() == []


@pytest.mark.usefixtures("pasta")
def test_pasta_takes_the_arguments_of_podmans_manual_for_the_addresses_of_slirp4netns(
    supervisor: Supervisor, run: Path
) -> None:
    words = "-a,10.0.2.0,-n,24,-g,10.0.2.2,--dns-forward,10.0.2.3,-m,1500,--no-ndp,--no-dhcpv6,--no-dhcp"
    made = supervisor.connect(run, value=f"pasta:{words}")
    assert "error" not in made, made
    assert (made["link"]["addresses"], made["link"]["mtu"]) == (["10.0.2.0/24"], 1500)
    assert supervisor.inside("device", "tap0") == {"mtu": 1500, "addresses": ["10.0.2.0/24"], "up": True}
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"


@pytest.mark.usefixtures("pasta")
def test_pasta_maps_the_gateway_where_podmans_pseudo_option_says_so(supervisor: Supervisor, run: Path) -> None:
    made = supervisor.connect(run, value="pasta:--map-gw")
    assert made["link"]["host"] == "10.0.2.2"
    assert supervisor.inside("tcp", "10.0.2.2", LOOPBACK_PORT) == "host loopback"


@pytest.mark.usefixtures("pasta")
def test_pasta_opens_the_ports_that_are_bound_inside_only_where_that_was_asked_for(
    host: Host, supervisor: Supervisor, run: Path
) -> None:
    made = supervisor.connect(run, driver="pasta", ports="implicit", program=os.environ.get("JUBAKO_TEST_PASTA", ""))
    if "error" in made:
        assert "too old to open by itself" in made["error"]
        return
    assert supervisor.inside("listen", 9100) is True
    until = time.monotonic() + ALLOWANCE
    while (answer := host.ask("tcp", HOST, 9100)) != "inside" and time.monotonic() < until:
        time.sleep(0.05)
    assert answer == "inside"
    closed = host.supervisor()
    try:
        closed.connect(run, driver="pasta")
        assert closed.inside("listen", 9200) is True
        assert "refused" in host.ask("tcp", HOST, 9200)
    finally:
        closed.close()


@pytest.mark.usefixtures("pasta")
def test_pasta_with_ipv6_is_refused_where_the_host_has_none(tmp_path: Path, run: Path) -> None:
    (tmp_path / "old").mkdir()
    old = Host(tmp_path / "old", ipv6=False)
    supervisor = old.supervisor()
    try:
        assert "no default route for IPv6" in supervisor.connect(run, value="pasta:--ipv6")["error"]
    finally:
        supervisor.close()
        old.close()


@pytest.mark.usefixtures("pasta")
def test_pasta_keeps_no_right_over_other_namespaces(supervisor: Supervisor, run: Path) -> None:
    made = supervisor.connect(run, value="pasta")
    pid = made["helpers"][0]
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"NSpid:\t{pid}\t" in status
    assert supervisor.ask("owner", pid=pid)["same"] is True


@pytest.mark.usefixtures("slirp4netns")
def test_slirp4netns_drops_its_rights(supervisor: Supervisor, run: Path) -> None:
    made = supervisor.connect(run, value="slirp4netns")
    status = Path(f"/proc/{made['helpers'][0]}/status").read_text()
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(lines["CapEff"], 16) & ~(1 << 10) == 0  # CAP_NET_BIND_SERVICE at most
    assert lines["Seccomp"] == "2"


@pytest.mark.usefixtures("slirp4netns")
def test_slirp4netns_works_without_its_own_sandbox_and_filter_where_it_is_told_so(
    host: Host, supervisor: Supervisor, run: Path
) -> None:
    made = supervisor.connect(run, value="slirp4netns:sandbox=false,seccomp=false")
    assert "error" not in made, made
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"
    supervisor.inside("forge", "tap0", "10.0.2.2", "127.0.0.1", LOOPBACK_PORT, "udp")
    supervisor.inside("tcp", "10.0.2.2", LOOPBACK_PORT, UNREACHABLE)
    assert host.heard() == []


@pytest.mark.usefixtures("slirp4netns")
def test_slirp4netns_takes_all_of_podmans_options(supervisor: Supervisor, run: Path) -> None:
    words = "mtu=1500,cidr=10.0.3.0/24,allow_host_loopback=true,enable_ipv6=true,port_handler=slirp4netns"
    made = supervisor.connect(run, value=f"slirp4netns:{words},outbound_addr={HOST},outbound_addr6=2001:db8::2")
    assert "error" not in made, made
    assert supervisor.inside("device", "tap0")["mtu"] == 1500
    assert supervisor.inside("tcp", INTERNET, PORT) == f"internet {HOST}"
    assert supervisor.inside("tcp", INTERNET6, PORT) == "internet 2001:db8::2"
    assert supervisor.inside("tcp", "10.0.3.2", LOOPBACK_PORT) == "host loopback"


@pytest.mark.usefixtures("slirp4netns")
def test_the_control_socket_of_slirp4netns_answers(supervisor: Supervisor, run: Path) -> None:
    made = supervisor.connect(run, value="slirp4netns")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(Path(made["api"])))
        client.sendall(b'{"execute": "list_hostfwd"}')
        client.shutdown(socket.SHUT_WR)
        assert client.recv(4096) == b'{"entries":[]}'
