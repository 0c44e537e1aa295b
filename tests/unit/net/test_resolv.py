"""The text of resolv.conf and hosts for a link."""

from __future__ import annotations

import pytest

from jubako.errors import JubakoError
from jubako.net.link import Link
from jubako.net.resolv import host_address_for, hosts, resolv_conf, with_host_gateway

LINK = Link("pasta", device="tap0", addresses=("10.0.2.100/24",), gateways=("10.0.2.2",), dns=("10.0.2.3",))
LINK6 = Link("pasta", device="tap0", addresses=("10.0.2.100/24", "fd00::100/64"), dns=("10.0.2.3",))
NONE = Link("none")
SHARED = Link("host", shared=True, host="127.0.0.1")
HOST = """# made by a resolver
nameserver 127.0.0.53
nameserver 192.0.2.53
domain old.example
search one.example two.example  three.example
options edns0 trust-ad
options ndots:2
"""


def test_only_the_name_servers_change() -> None:
    assert resolv_conf(LINK, HOST) == (
        "nameserver 10.0.2.3\nsearch one.example two.example three.example\noptions edns0 trust-ad ndots:2\n"
    )


def test_a_domain_is_a_search_list_of_one() -> None:
    assert resolv_conf(LINK, "domain example.org ignored\n") == "nameserver 10.0.2.3\nsearch example.org\n"


def test_what_is_asked_for_replaces_what_the_host_says() -> None:
    text = resolv_conf(LINK, HOST, dns=("9.9.9.9", "::1"), search=("x.example",), options=("timeout:1",))
    assert text == "nameserver 9.9.9.9\nnameserver ::1\nsearch x.example\noptions timeout:1\n"


def test_a_dot_alone_is_no_search_list() -> None:
    assert "search" not in resolv_conf(LINK, HOST, search=(".",))


def test_a_shared_network_has_the_hosts_own_file() -> None:
    assert resolv_conf(SHARED, HOST) == HOST
    changed = resolv_conf(SHARED, HOST, search=("x.example",))
    assert changed.splitlines()[:3] == ["nameserver 127.0.0.53", "nameserver 192.0.2.53", "search x.example"]


def test_without_a_network_there_is_nothing_to_say() -> None:
    assert resolv_conf(NONE, HOST) == ""
    assert resolv_conf(NONE, HOST, dns=("192.0.2.1",)) == "nameserver 192.0.2.1\n"


@pytest.mark.parametrize(
    "host", ["", "\n\n", "nameserver", "search", "options", "; x\n#y", " nameserver 1.1.1.1", "\0"]
)
def test_odd_files_of_the_host_are_no_obstacle(host: str) -> None:
    assert resolv_conf(LINK, host) == "nameserver 10.0.2.3\n"


def test_the_container_has_its_address_in_hosts() -> None:
    lines = hosts(LINK, "", name="box", added=(("192.0.2.9", ("nine", "neun")),), host_address="192.0.2.2").splitlines()
    assert lines[2:] == [
        "10.0.2.100\tbox",
        "192.0.2.9\tnine neun",
        "192.0.2.2\thost.containers.internal host.docker.internal",
    ]
    assert "127.0.1.1\tbox" in hosts(NONE, "", name="box")


def test_a_name_of_the_host_that_is_given_is_not_written_twice() -> None:
    text = hosts(LINK, "", added=(("192.0.2.9", ("host.docker.internal",)),), host_address="192.0.2.2")
    assert "192.0.2.2\thost.containers.internal\n" in text
    assert text.count("host.docker.internal") == 1


def test_a_shared_network_has_the_hosts_own_names() -> None:
    assert hosts(SHARED, "192.0.2.7 mine", name="box", added=(("192.0.2.9", ("n",)),)) == (
        "192.0.2.7 mine\n192.0.2.9\tn\n"
    )


def test_the_host_is_reached_at_its_gateway_or_at_its_own_address() -> None:
    assert host_address_for(Link("pasta", addresses=("10.0.2.100/24",), host="10.0.2.2"), ("192.0.2.2",)) == "10.0.2.2"
    assert host_address_for(LINK, ("127.0.0.1", "fd12::1", "192.0.2.2")) == "192.0.2.2"
    assert host_address_for(LINK, ("fd12::1",)) == ""
    assert host_address_for(LINK6, ("::1", "fd12::1")) == "fd12::1"
    assert host_address_for(NONE, ("192.0.2.2",)) == ""
    assert host_address_for(SHARED, ()) == "127.0.0.1"


def test_host_gateway_is_replaced_or_refused() -> None:
    added = (("host-gateway", ("me",)), ("192.0.2.9", ("nine",)))
    assert with_host_gateway(added, "192.0.2.2") == (("192.0.2.2", ("me",)), ("192.0.2.9", ("nine",)))
    with pytest.raises(JubakoError, match="me:host-gateway"):
        with_host_gateway(added, "")
    assert with_host_gateway(added[1:], "") == added[1:]
