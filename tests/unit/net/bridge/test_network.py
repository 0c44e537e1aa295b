"""What a network may be: names, subnets that overlap nothing, gateways, options; and the pool of its addresses."""

from __future__ import annotations

import ipaddress

import pytest

from jubako.errors import JubakoError, UsageError
from jubako.net.bridge.network import Network, Subnet, dump_network, host_routes, load_network, make_network
from jubako.net.bridge.pool import Pool


def test_a_network_gets_the_first_subnet_that_is_free() -> None:
    assert make_network("a", []).subnets == (Subnet("10.89.0.0/24", "10.89.0.1"),)
    taken = [ipaddress.ip_network(text) for text in ("10.89.0.0/24", "10.89.1.64/26", "10.90.0.0/16")]
    assert make_network("a", taken).subnets[0].cidr == "10.89.2.0/24"
    assert make_network("a", [ipaddress.ip_network("10.89.0.0/16")]).subnets[0].cidr == "10.90.0.0/24"
    assert make_network("jubako", []).subnets[0].cidr == "10.88.0.0/24"
    with pytest.raises(UsageError, match="no subnet is free"):
        make_network("a", [ipaddress.ip_network("10.0.0.0/8")])


def test_ipv6_is_a_unique_local_subnet_beside_that_of_ipv4() -> None:
    four, six = make_network("a", [], ipv6=True).subnets
    assert four.cidr == "10.89.0.0/24"
    assert ipaddress.ip_network(six.cidr).subnet_of(ipaddress.ip_network("fd00::/8"))  # type: ignore[arg-type]
    assert make_network("a", [], ipv6=True).subnets[1] != six
    only = make_network("a", [], subnets=("fd12::/64",))
    assert only.subnets == (Subnet("fd12::/64", "fd12::1"),)
    assert only.ipv6


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"subnets": ("10.1.2.0",)}, "length of the prefix is missing"),
        ({"subnets": ("10.1.2.0/31",)}, "between 8 and 30"),
        ({"subnets": ("0.0.0.0/0",)}, "between 8 and 30"),
        ({"subnets": ("x",)}, "does not appear"),
        ({"subnets": ("127.0.0.0/24",)}, "for something else"),
        ({"subnets": ("224.1.0.0/24",)}, "for something else"),
        ({"subnets": ("fe80::/64",)}, "for something else"),
        ({"subnets": ("10.0.2.128/25",)}, "overlaps 10.0.2.0/24"),
        ({"subnets": ("fd00::/48",)}, "overlaps fd00::/64"),
        ({"subnets": ("192.168.0.0/16",)}, "overlaps 192.168.7.0/24"),
        ({"subnets": ("10.1.2.0/24", "10.1.0.0/16")}, "overlaps 10.1.2.0/24"),
        ({"subnets": ("10.1.2.0/24",), "gateways": ("10.1.3.1",)}, "in no subnet"),
        ({"subnets": ("10.1.2.0/24",), "gateways": ("10.1.2.0",)}, "nobody may have it"),
        ({"subnets": ("10.1.2.0/24",), "gateways": ("10.1.2.255",)}, "nobody may have it"),
        ({"subnets": ("10.1.2.0/24",), "gateways": ("10.1.2.1", "10.1.2.2")}, "one already"),
        ({"subnets": ("10.1.2.0/24",), "ranges": ("10.1.3.0/25",)}, "in no subnet"),
        ({"servers": ("dns",)}, "does not appear"),
        ({"options": (("mtu", "67"),)}, "from 68"),
        ({"options": (("mtu", "1000"),), "ipv6": True}, "from 1280"),
        ({"options": (("mtu", "65521"),)}, "to 65520"),
        ({"options": (("mtu", "many"),)}, "number"),
        ({"options": (("isolate", "false"),)}, "always kept apart"),
        ({"options": (("vlan", "5"),)}, "unknown option"),
    ],
)
def test_what_cannot_be_is_refused(wanted: dict[str, tuple[str, ...]], reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_network("a", [ipaddress.ip_network("192.168.7.0/24")], **wanted)  # type: ignore[arg-type]
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "name", ["", ".", "../x", "-a", "a/b", "a b", "ä", "a" * 64, "none", "host", "bridge", "proxy"]
)
def test_names_that_would_mean_something_else_or_leave_the_directory_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        make_network(name, [])


def test_a_document_says_all_of_a_network_and_a_damaged_one_is_not_read() -> None:
    made = make_network(
        "a",
        [],
        subnets=("10.1.0.0/16",),
        ranges=("10.1.5.0/24",),
        ipv6=True,
        internal=True,
        dns=False,
        servers=("192.0.2.1",),
        labels=(("k", "v"),),
        options=(("com.docker.network.driver.mtu", "1400"),),
        created="2026-01-01T00:00:00Z",
    )
    assert made.mtu == 1400
    document = dump_network(made)
    assert load_network(document) == made
    for change in ({"subnets": [{"subnet": "10.0.0.0/24", "gateway": "11.0.0.1"}]}, {"name": "../x"}, {"subnets": 5}):
        with pytest.raises((ValueError, TypeError, KeyError, UsageError)):
            load_network({**document, **change})


def test_the_hosts_routes_are_networks() -> None:
    assert all(network.prefixlen > 0 for network in host_routes())


def test_a_pool_gives_every_address_once_and_a_returned_one_last() -> None:
    pool = Pool(Subnet("10.1.2.0/29", "10.1.2.1"))
    given = [pool.take() for _ in range(5)]
    assert given == [f"10.1.2.{number}" for number in range(2, 7)]
    with pytest.raises(JubakoError, match="all are taken"):
        pool.take()
    pool.give_back("10.1.2.3")
    pool.give_back("10.1.2.1")  # the gateway stays taken
    assert pool.take() == "10.1.2.3"
    pool.give_back("10.1.2.2")
    pool.give_back("10.1.2.5")
    assert pool.take() == "10.1.2.5"
    assert pool.with_prefix("10.1.2.5") == "10.1.2.5/29"


def test_a_pool_keeps_to_its_range_and_to_what_containers_may_have() -> None:
    pool = Pool(Subnet("10.1.2.0/24", "10.1.2.1", "10.1.2.252", "10.1.2.255"))
    assert [pool.take() for _ in range(3)] == ["10.1.2.252", "10.1.2.253", "10.1.2.254"]
    with pytest.raises(JubakoError):
        pool.take()
    assert pool.claim("10.1.2.77") == "10.1.2.77"
    for address in ("10.1.2.77", "10.1.2.1", "10.1.2.0", "10.1.2.255", "10.1.3.1"):
        with pytest.raises(UsageError):
            pool.claim(address)
    six = Pool(Subnet("fd12::/64", "fd12::1"))
    assert six.take() == "fd12::2"
    assert six.claim("fd12::ffff:1") == "fd12::ffff:1"
    assert six.holds("fd12::9")
    assert not six.holds("10.1.2.3")


def test_the_default_of_everything_is_what_podman_has() -> None:
    document = dump_network(Network("a", "0" * 64, (Subnet("10.89.0.0/24", "10.89.0.1"),)))
    assert (document["driver"], document["dns_enabled"], document["internal"]) == ("bridge", True, False)
    assert document["subnets"] == [{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}]
