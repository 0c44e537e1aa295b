"""Bridge networks with real namespaces: who sees whom, by which name, what leads out, and what is left in the end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world.bridges import AAAA, PORT, PTR, Bridges, query
from world.netns import ALLOWANCE, ANSWERS, HOST, INTERNET, INTERNET6, LOOPBACK_PORT, RESOLVER, UNREACHABLE, Host
from world.netns import PORT as INTERNET_PORT
from world.programs import find, require

UPLINKS = {"pasta": "passt", "slirp4netns": "slirp4netns"}


@pytest.fixture(autouse=True)
def _firewall() -> None:
    if find("nft") is None:
        require("iptables-restore", "iptables")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    require("pasta", "passt")
    (tmp_path / "host").mkdir()
    made = Host(tmp_path / "host", base=os.getuid() != 0)
    yield made
    made.close()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Bridges]]:
    opened: list[Bridges] = []

    def open_one(host: Host | None = None, **options: bool) -> Bridges:
        opened.append(Bridges(tmp_path, host, **options))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def bridges(command: Callable[..., Bridges]) -> Bridges:
    """As a user's commands have them: with a base of its own (but for root), on the machine itself. For internal
    networks."""
    return command()


def _address(started: dict[str, object], number: int = 0) -> str:
    assert "error" not in started, started
    return str(started["link"]["addresses"][number]).partition("/")[0]  # type: ignore[index]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ALLOWANCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- names and addresses ----------------------------------------------------------------------------------------------


def test_containers_of_a_network_see_each_other_by_name_and_alias_over_ipv4_and_ipv6(bridges: Bridges) -> None:
    network = bridges.network("back", internal=True, ipv6=True)
    gateway, gateway6 = (subnet["gateway"] for subnet in network["subnets"])
    db = bridges.start("db", "back", aliases=["postgres", "Store"])
    web = bridges.start("web", "back")
    for server in (gateway, gateway6):
        for transport in ("udp", "tcp"):
            for name in ("db", "postgres", "STORE", "db."):
                found = bridges.inside("web", "lookup", server, name, 1, transport)
                assert found == {"code": 0, "values": [_address(db)], "cut": False}
                found = bridges.inside("web", "lookup", server, name, AAAA, transport)
                assert found["values"] == [_address(db, 1)]
    assert web["link"]["dns"] == [gateway]
    for number in (0, 1):
        assert bridges.inside("web", "tcp", _address(db, number), PORT) == f"db {_address(web, number)}"
        assert bridges.inside("db", "udp", _address(web, number), PORT) == f"web {_address(db, number)}"
    own = bridges.inside("db", "device", "eth0")
    assert own["addresses"] == db["link"]["addresses"]
    assert own["mtu"] == db["link"]["mtu"]


def test_an_address_leads_back_to_the_name_and_an_unknown_name_to_none(bridges: Bridges) -> None:
    network = bridges.network("back", internal=True, ipv6=True)
    gateway = network["subnets"][0]["gateway"]
    db = bridges.start("db", "back")
    reverse = ".".join(reversed(_address(db).split("."))) + ".in-addr.arpa"
    assert bridges.inside("db", "lookup", gateway, reverse, PTR)["values"] == ["db"]
    import ipaddress

    reverse6 = ipaddress.ip_address(_address(db, 1)).reverse_pointer
    assert bridges.inside("db", "lookup", gateway, reverse6, PTR)["values"] == ["db"]
    other = ".".join(reversed(gateway.split("."))) + ".in-addr.arpa"
    for name, kind in (("nobody", 1), ("nobody", AAAA), (other, PTR), ("host.containers.internal", 1)):
        assert bridges.inside("db", "lookup", gateway, name, kind) == {"code": 3, "values": [], "cut": False}


def test_an_alias_of_several_containers_has_all_their_addresses(bridges: Bridges) -> None:
    gateway = bridges.network("back", internal=True)["subnets"][0]["gateway"]
    started = [bridges.start(f"worker{number}", "back", aliases=["worker"]) for number in range(3)]
    assert bridges.inside("worker0", "lookup", gateway, "worker")["values"] == sorted(map(_address, started))
    bridges.kill("worker1")
    _until(lambda: len(bridges.inside("worker0", "lookup", gateway, "worker")["values"]) == 2)


def test_addresses_and_hardware_addresses_can_be_chosen_and_belong_to_one(bridges: Bridges) -> None:
    bridges.network("back", internal=True, subnets=["10.123.4.0/24", "fd77::/64"])
    chosen = bridges.start("one", "back", addresses=["10.123.4.77", "fd77::77"], hardware="02:00:00:00:00:77")
    assert chosen["link"]["addresses"] == ["10.123.4.77/24", "fd77::77/64"]
    shown = bridges.inside("one", "program", "ip", "-br", "link", "show", "eth0")
    assert "02:00:00:00:00:77" in shown
    for wish, reason in (
        ({"addresses": ["10.123.4.77"]}, "another container has it"),
        ({"addresses": ["10.123.4.1"]}, "no container"),
        ({"addresses": ["10.123.4.255"]}, "no container"),
        ({"addresses": ["10.9.9.9"]}, "not in"),
        ({"hardware": "02:00:00:00:00:77"}, "another container has"),
    ):
        refused = bridges.start("two", "back", **wish)
        assert refused["kind"] == "UsageError"
        assert reason in refused["error"]
    assert _address(bridges.start("two", "back")) not in ("10.123.4.77", "10.123.4.1")


def test_a_container_on_two_networks_sees_the_names_of_both_from_either_name_server(bridges: Bridges) -> None:
    front = bridges.network("front", internal=True)["subnets"][0]["gateway"]
    back = bridges.network("back", internal=True)["subnets"][0]["gateway"]
    web, db = bridges.start("web", "front"), bridges.start("db", "back")
    both = bridges.start("proxy", "front", "back")
    assert [place["device"] for place in both["places"]] == ["eth0", "eth1"]
    assert both["link"]["dns"] == [front, back]
    for server in (front, back):
        assert bridges.inside("proxy", "lookup", server, "web")["values"] == [_address(web)]
        assert bridges.inside("proxy", "lookup", server, "db")["values"] == [_address(db)]
    assert bridges.inside("web", "lookup", front, "db")["code"] == 3
    assert bridges.inside("proxy", "tcp", _address(db), PORT) == f"db {_address(both, 1)}"


def test_a_running_container_joins_and_leaves_networks(bridges: Bridges) -> None:
    back = bridges.network("back", internal=True)["subnets"][0]["gateway"]
    bridges.network("front", internal=True)
    db, web = bridges.start("db", "back"), bridges.start("web", "front")
    assert bridges.inside("web", "tcp", _address(db), PORT, UNREACHABLE) != f"db {_address(web)}"
    joined = bridges.ask("connect", name="web", network="back", options={"aliases": ["www"]})
    assert [place["network"] for place in joined] == ["front", "back"]
    there = joined[1]["addresses"][0].partition("/")[0]
    assert bridges.inside("web", "tcp", _address(db), PORT) == f"db {there}"
    assert bridges.inside("db", "lookup", back, "www")["values"] == [there]
    left = bridges.ask("disconnect", name="web", network="back")
    assert [place["network"] for place in left] == ["front"]
    assert bridges.inside("db", "lookup", back, "www")["code"] == 3
    assert "eth1" not in bridges.inside("web", "program", "ip", "-br", "link")


def test_no_router_advertisement_of_a_neighbour_is_believed(bridges: Bridges) -> None:
    bridges.network("back", internal=True, ipv6=True)
    bridges.start("db", "back")
    assert bridges.inside("db", "setting", "ipv6/conf/eth0/accept_ra") == "0"


# --- kept apart -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nft", [True, False], ids=["nft", "iptables"])
def test_networks_are_kept_apart(command: Callable[..., Bridges], nft: bool) -> None:
    require("nft", "nftables") if nft else require("iptables-restore", "iptables")
    bridges = command(nft=nft)
    one = bridges.network("one", internal=True, ipv6=True)
    two = bridges.network("two", internal=True, ipv6=True)
    here, there = bridges.start("here", "one"), bridges.start("there", "two")
    assert bridges.start("friend", "two")["link"]["gateways"] == []
    for number, subnet in enumerate(one["subnets"]):  # even with a route of its own making
        flags = ("-6",) if number else ()
        done = bridges.inside("here", "program", "ip", *flags, "route", "add", "default", "via", subnet["gateway"])
        assert done == ""
        answer = bridges.inside("here", "tcp", _address(there, number), PORT, UNREACHABLE)
        assert answer.startswith(("TimeoutError", "OSError", "ConnectionRefused")), answer
        answer = bridges.inside("here", "udp", _address(there, number), PORT, UNREACHABLE)
        assert answer.startswith(("TimeoutError", "OSError")), answer
        own, foreign = subnet["gateway"], two["subnets"][number]["gateway"]
        assert bridges.inside("here", "lookup", own, "here")["values"] == [_address(here)]
        answer = bridges.inside("here", "lookup", foreign, "there", 1, "udp", UNREACHABLE)
        assert str(answer).startswith(("TimeoutError", "OSError")), answer
        answer = bridges.inside("friend", "tcp", _address(there, number), PORT)
        assert answer.startswith("there "), answer


@pytest.mark.parametrize("uplink", UPLINKS)
@pytest.mark.parametrize("nft", [True, False], ids=["nft", "iptables"])
def test_the_outside_is_reached_and_the_hosts_loopback_is_not(
    host: Host, command: Callable[..., Bridges], uplink: str, nft: bool
) -> None:
    require(uplink, UPLINKS[uplink])
    require("nft", "nftables") if nft else require("iptables-restore", "iptables")
    bridges = command(host, nft=nft)
    gateway = bridges.network("back", ipv6=True)["subnets"][0]["gateway"]
    web = bridges.start("web", "back", uplink={"driver": uplink})
    assert web["link"]["gateways"][0] == gateway
    assert bridges.inside("web", "tcp", INTERNET, INTERNET_PORT) == f"internet {HOST}"
    assert bridges.inside("web", "udp", INTERNET, INTERNET_PORT) == f"internet {HOST}"
    assert bridges.inside("web", "tcp", INTERNET6, INTERNET_PORT).startswith("internet 2001:db8:")
    assert bridges.inside("web", "lookup", gateway, "host.example")["values"] == [ANSWERS[RESOLVER]]
    assert bridges.inside("web", "lookup", gateway, "host.example", 1, "tcp")["values"] == [ANSWERS[RESOLVER]]
    assert bridges.inside("web", "lookup", gateway, "host.containers.internal")["code"] == 3
    for address in ("10.0.2.2", "10.0.2.100", gateway, "fd00::2"):
        for protocol in ("tcp", "udp"):
            answer = bridges.inside("web", protocol, address, LOOPBACK_PORT, UNREACHABLE)
            assert answer.startswith(("TimeoutError", "OSError", "ConnectionRefused")), answer
    for kind in ("tcp", "udp"):
        bridges.inside("web", "forge", "eth0", gateway, "127.0.0.1", LOOPBACK_PORT, kind)
        bridges.inside("web", "forge", "eth0", gateway, "10.0.2.2", LOOPBACK_PORT, kind)
    assert host.heard() == []


def test_what_was_asked_for_reaches_the_host_by_its_name(host: Host, command: Callable[..., Bridges]) -> None:
    bridges = command(host)
    gateway = bridges.network("back")["subnets"][0]["gateway"]
    web = bridges.start("web", "back", uplink={"driver": "slirp4netns", "host_loopback": True})
    assert web["link"]["host"] == "10.0.2.2"
    found = bridges.inside("web", "lookup", gateway, "host.containers.internal")
    assert found["values"] == ["10.0.2.2"]
    assert bridges.inside("web", "tcp", found["values"][0], LOOPBACK_PORT) == "host loopback"


def test_an_internal_network_has_no_way_out_beside_one_that_has(host: Host, command: Callable[..., Bridges]) -> None:
    bridges = command(host)
    bridges.network("front")
    closed = bridges.network("closed", internal=True)["subnets"][0]["gateway"]
    bridges.start("web", "front")
    assert bridges.start("db", "closed")["link"]["gateways"] == []
    assert bridges.inside("db", "routers", "-4") == []
    assert bridges.inside("db", "program", "ip", "route", "add", "default", "via", closed) == ""
    answer = bridges.inside("db", "tcp", INTERNET, INTERNET_PORT, UNREACHABLE)
    assert answer.startswith(("TimeoutError", "OSError")), answer
    assert bridges.inside("db", "lookup", closed, "host.example")["code"] == 3
    assert bridges.inside("web", "tcp", INTERNET, INTERNET_PORT) == f"internet {HOST}"


def test_a_network_without_a_name_server_names_the_one_outside(host: Host, command: Callable[..., Bridges]) -> None:
    bridges = command(host)
    bridges.network("plain", dns=False, options=[["mtu", "1400"]])
    web = bridges.start("web", "plain")
    assert web["link"]["dns"] == ["10.0.2.3"]
    assert web["link"]["mtu"] == 1400
    assert bridges.inside("web", "lookup", "10.0.2.3", "host.example")["values"] == [ANSWERS[RESOLVER]]


def test_nobody_draws_away_what_is_meant_for_another_by_its_hardware_address(bridges: Bridges) -> None:
    bridges.network("back", internal=True)
    db, web = bridges.start("db", "back"), bridges.start("web", "back")
    bridges.start("evil", "back")
    assert bridges.inside("web", "tcp", _address(db), PORT) == f"db {_address(web)}"
    hardware = db["places"][0]["hardware"]
    for words in (("link", "set", "eth0", "down"), ("link", "set", "eth0", "address", hardware, "up")):
        assert bridges.inside("evil", "program", "ip", *words) == ""
    for _ in range(3):  # it speaks last, and a bridge that learned would send everything to it
        bridges.inside("evil", "udp", _address(web), PORT, UNREACHABLE)
        assert bridges.inside("web", "tcp", _address(db), PORT) == f"db {_address(web)}"


def test_a_sender_with_an_address_of_another_network_gets_nowhere(host: Host, command: Callable[..., Bridges]) -> None:
    bridges = command(host)
    gateway = bridges.network("one")["subnets"][0]["gateway"]
    bridges.network("two", subnets=["10.123.5.0/24"])
    bridges.start("here", "one")
    bridges.start("there", "two")
    for words in (("address", "add", "10.123.5.99/32", "dev", "eth0"), ("route", "del", "default")):
        assert bridges.inside("here", "program", "ip", *words) == ""
    route = ("route", "add", "default", "via", gateway, "src", "10.123.5.99")
    assert bridges.inside("here", "program", "ip", *route) == ""
    answer = bridges.inside("here", "tcp", INTERNET, INTERNET_PORT, UNREACHABLE)
    assert answer.startswith(("TimeoutError", "OSError")), answer


# --- beginning and end ------------------------------------------------------------------------------------------------


def test_the_keeper_comes_with_the_first_container_and_goes_with_the_last(bridges: Bridges) -> None:
    bridges.network("back", internal=True)
    assert bridges.keeper() == {}
    bridges.start("one", "back")
    found = bridges.keeper()
    assert set(found) == {"keeper", "router", "names"}
    bridges.start("two", "back")
    assert bridges.keeper() == found
    bridges.kill("one")
    _until(lambda: bridges.ask("neighbours") == ["two"])
    assert bridges.keeper() == found
    bridges.kill("two")
    _until(lambda: not any(Path(f"/proc/{pid}/ns").exists() for pid in found.values()))
    assert bridges.ask("left") == []


def test_the_name_server_has_no_rights_and_no_files(bridges: Bridges) -> None:
    bridges.network("back", internal=True)
    bridges.start("one", "back")
    status = Path(f"/proc/{bridges.keeper()['names']}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {fields[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    assert str(os.getuid()) not in fields["Uid"].split(), "nor is it the user"


@pytest.mark.parametrize("process", ["keeper", "router"])
def test_a_killed_keeper_is_told_of_and_the_next_container_finds_another(bridges: Bridges, process: str) -> None:
    gateway = bridges.network("back", internal=True)["subnets"][0]["gateway"]
    one = bridges.start("one", "back")
    found = bridges.keeper()
    os.kill(found[process], 9)
    _until(lambda: not any(Path(f"/proc/{pid}/ns").exists() for pid in found.values()))
    _until(lambda: bool(bridges.ask("notices", name="one")))
    assert "network reload" in bridges.ask("notices", name="one")[0]
    answer = bridges.inside("one", "lookup", gateway, "one", 1, "udp", UNREACHABLE)
    assert isinstance(answer, str), answer
    two = bridges.start("two", "back", addresses=[gateway.rpartition(".")[0] + ".99"])
    assert two["made"]
    again = bridges.ask("reconnect", name="one", networks=["back"])
    assert again["places"] == one["places"]
    assert not again["made"]
    assert bridges.inside("two", "lookup", gateway, "one")["values"] == [_address(one)]
    assert bridges.inside("two", "tcp", _address(one), PORT) == f"one {_address(two)}"
    bridges.kill("one")  # whose connection is not its supervisor's any more
    _until(lambda: bridges.ask("neighbours") == ["two"])


def test_a_killed_helper_of_the_uplink_comes_again(host: Host, command: Callable[..., Bridges]) -> None:
    bridges = command(host)
    bridges.network("back")
    bridges.start("web", "back")
    assert bridges.inside("web", "tcp", INTERNET, INTERNET_PORT) == f"internet {HOST}"
    before = bridges.keeper()["uplink"]
    os.kill(before, 9)
    _until(lambda: bridges.keeper().get("uplink", before) != before)
    _until(lambda: bridges.inside("web", "tcp", INTERNET, INTERNET_PORT, UNREACHABLE) == f"internet {HOST}")
    assert any("has ended" in notice for notice in bridges.ask("notices", name="web"))


def test_a_killed_name_server_comes_again_with_all_names(bridges: Bridges) -> None:
    gateway = bridges.network("back", internal=True)["subnets"][0]["gateway"]
    one = bridges.start("one", "back")
    before = bridges.keeper()["names"]
    os.kill(before, 9)
    _until(lambda: bridges.keeper().get("names", before) != before)
    assert bridges.inside("one", "lookup", gateway, "one")["values"] == [_address(one)]


def test_files_of_a_killed_keeper_are_removed_by_who_comes_next(bridges: Bridges) -> None:
    bridges.network("back", internal=True)
    bridges.start("one", "back")
    found = bridges.keeper()
    os.kill(found["keeper"], 9)
    bridges.kill("one")
    _until(lambda: not any(Path(f"/proc/{pid}/ns").exists() for pid in found.values()))
    assert len(bridges.ask("left")) == 1
    bridges.ask("tidy")
    assert bridges.ask("left") == []


@pytest.mark.parametrize("program", ["pasta", "slirp4netns"])
def test_a_missing_helper_is_named_and_nothing_is_left(
    host: Host, command: Callable[..., Bridges], program: str
) -> None:
    bridges = command(host)
    bridges.network("back")
    refused = bridges.start("one", "back", uplink={"driver": program, "program": "/nonexistent"})
    assert refused["kind"] == "NotFoundError"
    assert UPLINKS[program] in refused["error"]
    _until(lambda: bridges.keeper() == {} and bridges.ask("left") == [])


def test_fifty_containers_at_once(bridges: Bridges) -> None:
    gateway = bridges.network("back", internal=True)["subnets"][0]["gateway"]
    names = [f"c{number}" for number in range(50)]
    started = bridges.ask("start_all", names=names, networks=["back"], options={"aliases": ["all"]})
    addresses = [_address(each) for each in started]
    assert len(set(addresses)) == 50
    assert bridges.inside("c0", "lookup", gateway, "c49")["values"] == [addresses[49]]
    assert bridges.inside("c49", "tcp", addresses[0], PORT) == f"c0 {addresses[49]}"
    assert bridges.ask("neighbours") == sorted(names)
    cut = bridges.inside("c7", "lookup", gateway, "all")
    assert cut["cut"]
    whole = bridges.inside("c7", "lookup", gateway, "all", 1, "tcp")
    assert (whole["values"], whole["cut"]) == (sorted(addresses), False)


# --- what containers send to the name server --------------------------------------------------------------------------

JUNK = [
    b"", b"\0", b"x" * 11, bytes(12), b"\xff" * 12, b"\xff" * 4000, bytes(4000),
    query("db")[:-1], query("db")[:-5], query("db") + bytes(500),
    query("db")[:12] + b"\xc0\x0c\0\1\0\1",  # a name that refers to itself
    query("db")[:12] + b"\x3f" * 300,
    query(".".join(["a" * 63] * 4)), query(".".join(["a"] * 127)), query("\x00.\x7f"),
    query("db")[:2] + b"\x84\0" + query("db")[4:],  # an answer
    query("db")[:4] + b"\xff\xff" + query("db")[6:],
]  # fmt: skip


def test_junk_does_not_keep_the_name_server_from_answering(bridges: Bridges) -> None:
    gateway = bridges.network("back", internal=True)["subnets"][0]["gateway"]
    db = bridges.start("db", "back")
    bridges.start("evil", "back")
    server = bridges.keeper()["names"]
    bridges.inside("evil", "flood", gateway, [junk.hex() for junk in JUNK], 20)
    lengths = [len(junk).to_bytes(2, "big") + junk for junk in JUNK]
    streams = [*lengths, b"\0", b"\xff\xff", b"\xff\xff" + bytes(70000), b"".join(lengths) * 20, bytes(60000)]
    bridges.inside("evil", "streams", gateway, [text.hex() for text in streams])
    many = len(query("db")).to_bytes(2, "big") + query("db")
    bridges.inside("evil", "streams", gateway, [(many * 2000).hex()] * 5)
    assert bridges.inside("db", "lookup", gateway, "db")["values"] == [_address(db)]
    assert bridges.inside("db", "lookup", gateway, "db", 1, "tcp")["values"] == [_address(db)]
    assert bridges.ask("notices", name="db") == []
    assert bridges.keeper()["names"] == server


def test_who_asks_too_much_is_not_answered_and_others_are(host: Host, command: Callable[..., Bridges]) -> None:
    host.set_resolver("203.0.113.99")  # which does not answer, so that questions stay outside
    bridges = command(host)
    gateway = bridges.network("back")["subnets"][0]["gateway"]
    db = bridges.start("db", "back")
    bridges.start("evil", "back")
    bridges.inside("evil", "flood", gateway, [query(f"host{n}.example").hex() for n in range(1000)], 10)
    assert bridges.inside("db", "lookup", gateway, "db")["values"] == [_address(db)]
    kept = bridges.inside("evil", "hold", gateway, 20)
    assert kept == 8
    assert bridges.inside("db", "lookup", gateway, "db", 1, "tcp")["values"] == [_address(db)]


@pytest.mark.root
def test_the_machines_root_has_bridge_networks_without_a_base(host: Host, command: Callable[..., Bridges]) -> None:
    bridges = command(host)
    gateway = bridges.network("back")["subnets"][0]["gateway"]
    db, web = bridges.start("db", "back"), bridges.start("web", "back")
    assert bridges.inside("web", "lookup", gateway, "db")["values"] == [_address(db)]
    assert bridges.inside("web", "tcp", _address(db), PORT) == f"db {_address(web)}"
    assert bridges.inside("web", "tcp", INTERNET, INTERNET_PORT) == f"internet {HOST}"
