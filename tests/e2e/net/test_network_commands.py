"""`jubako network …` as it is typed, without a container that runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from world.command import Command, Result

Network = Callable[..., Result]


@pytest.fixture
def network(jubako: Command, tmp_path: Path) -> Network:
    """`jubako network`, with data of the test's own."""

    def run(*words: str) -> Result:
        return jubako("--root", tmp_path / "data", "network", *words)

    return run


def test_a_network_is_made_listed_inspected_and_removed(network: Network) -> None:
    made = network("create", "--ipv6", "--internal", "--label", "tier=back", "-o", "mtu=1400", "back")
    assert (made.exit_code, made.stdout) == (0, "back\n"), made
    assert network("create").stdout == "jubako1\n"
    assert network("ls", "-q").lines == ["back", "jubako1"]
    table = network("ls").lines
    assert table[0].split() == ["NETWORK", "ID", "NAME", "DRIVER", "SUBNETS"]
    assert [line.split()[1] for line in table[1:]] == ["back", "jubako1"]
    assert network("ls", "--filter", "label=tier=back", "--format", "{{.Name}} {{.Internal}}").stdout == "back true\n"
    (row,) = network("ls", "--filter", "name=back", "--json").json
    assert (row["Name"], row["IPv6Enabled"], row["Labels"]) == ("back", True, {"tier": "back"})
    (shown,) = network("inspect", "back").json
    assert [shown[key] for key in ("internal", "ipv6_enabled", "dns_enabled")] == [True] * 3
    assert shown["options"] == {"mtu": "1400"}
    assert shown["containers"] == {}
    assert len(shown["subnets"]) == 2
    assert network("inspect", "-f", "{{.name}} {{.driver}}", row["ID"][:12]).stdout == "back bridge\n"
    assert network("rm", "back").stdout == "back\n"
    assert network("prune", "--force").stdout == "jubako1\n"
    assert network("ls", "-q").stdout == ""


def test_what_was_asked_for_is_what_is_there(network: Network) -> None:
    subnets = ("--subnet", "10.210.5.0/24", "--subnet", "fd12:3::/64", "--gateway", "10.210.5.254")
    network("create", *subnets, "--ip-range", "10.210.5.128/26", "--dns", "192.0.2.9", "--disable-dns", "chosen")
    document = json.loads(network("inspect", "chosen").stdout)[0]
    assert document["subnets"] == [
        {
            "subnet": "10.210.5.0/24",
            "gateway": "10.210.5.254",
            "lease_range": {"start_ip": "10.210.5.128", "end_ip": "10.210.5.191"},
        },
        {"subnet": "fd12:3::/64", "gateway": "fd12:3::1"},
    ]
    assert document["network_dns_servers"] == ["192.0.2.9"]
    assert document["dns_enabled"] is False


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("create", "none"), "means something else"),
        (("create", "../x"), "a name has letters"),
        (("create", "--subnet", "10.0.2.0/25", "x"), "overlaps 10.0.2.0/24"),
        (("create", "--opt", "mtu", "x"), "KEY=VALUE"),
        (("create", "--opt", "vlan=5", "x"), "unknown option"),
        (("create", "--driver", "macvlan", "x"), "macvlan"),
        (("rm", "nobody"), "no such network"),
        (("rm", "jubako"), "default network"),
        (("inspect", "nobody"), "no such network"),
        (("ls", "--filter", "scope=x"), "unknown filter"),
        (("connect", "nobody", "nothing"), "no such container"),
        (("disconnect", "nobody", "nothing"), "no such container"),
        (("reload",), "CONTAINER is missing"),
        (("prune",), "add --force"),
    ],
)
def test_what_cannot_be_is_told_in_words(network: Network, words: tuple[str, ...], reason: str) -> None:
    done = network(*words)
    assert done.exit_code == 125, done
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reload_without_containers_has_nothing_to_do_and_leaves_nothing(network: Network) -> None:
    done = network("reload", "--all")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", ""), done


def test_a_network_removed_by_force_need_not_be_there(network: Network) -> None:
    assert network("rm", "--force", "nobody").exit_code == 0
