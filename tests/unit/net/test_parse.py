"""`--network VALUE`: what is understood, and what is refused with which words."""

from __future__ import annotations

import random

import pytest

from jubako.errors import UsageError
from jubako.net.drivers import pasta_arguments
from jubako.net.link import NetworkOptions
from jubako.net.parse import parse_network


@pytest.mark.parametrize("name", ["none", "host", "pasta", "slirp4netns", "vpnkit", "lxc-user-nic", "bridge", "proxy"])
def test_a_name_alone_is_the_driver_with_its_defaults(name: str) -> None:
    assert parse_network(name) == NetworkOptions(driver=name)


@pytest.mark.parametrize("name", ["private", "default"])
def test_the_names_of_the_default_leave_the_choice_to_the_machine(name: str) -> None:
    assert parse_network(name) == NetworkOptions()


def test_slirp4netns_takes_podmans_options() -> None:
    options = parse_network(
        "slirp4netns:mtu=1500,cidr=10.0.3.0/24,allow_host_loopback=true,enable_ipv6=true,"
        "port_handler=slirp4netns,outbound_addr=192.0.2.7,outbound_addr6=eth0"
    )
    assert options == NetworkOptions(
        driver="slirp4netns",
        mtu=1500,
        cidr="10.0.3.0/24",
        host_loopback=True,
        ipv6=True,
        ports="slirp4netns",
        arguments=("--outbound-addr", "192.0.2.7", "--outbound-addr6", "eth0"),
    )


def test_podmans_name_of_the_builtin_port_driver_is_understood() -> None:
    assert parse_network("slirp4netns:port_handler=rootlesskit").ports == "builtin"


def test_the_others_take_what_they_have() -> None:
    assert parse_network("bridge:blue").bridge == "blue"
    assert parse_network("lxc-user-nic:bridge=lxcbr1,mtu=1400") == NetworkOptions(
        driver="lxc-user-nic", bridge="lxcbr1", mtu=1400
    )
    assert parse_network("proxy:allow=example.org:443,allow=*.example.com").rules == (
        "example.org:443",
        "*.example.com",
    )


def test_arguments_of_pasta_are_kept_as_they_are() -> None:
    assert parse_network("pasta:-T,8080,--map-gw") == NetworkOptions(
        driver="pasta", arguments=("-T", "8080", "--map-gw")
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "no network driver is named"),
        ("wlan", "there is no such network driver"),
        ("slirp4netns:", "nothing follows the colon"),
        ("slirp4netns:mtu", "its value is missing"),
        ("slirp4netns:mtu=", "its value is missing"),
        ("slirp4netns:,mtu=1500", "slirp4netns has no such option"),
        ("slirp4netns:mtu=1500,mtu=1400", "it is given twice"),
        ("slirp4netns:mtu=many", "it is no number of bytes"),
        ("slirp4netns:mtu=67", "it is not between 68 and 65521"),
        ("slirp4netns:mtu=65522", "it is not between 68 and 65521"),
        ("slirp4netns:mtu=-1", "it is no number of bytes"),
        ("slirp4netns:mtu=1279,enable_ipv6=true", "IPv6 needs at least 1280"),
        ("slirp4netns:mtu=١٥٠٠", "it is no number of bytes"),
        ("slirp4netns:cidr=10.0.2.1/24", "it is an address in the network 10.0.2.0/24, not the network"),
        ("slirp4netns:cidr=10.0.2.0/26", "the prefix length must be from 1 to 25"),
        ("slirp4netns:cidr=10.0.2.0", "it has no prefix length"),
        ("slirp4netns:cidr=10.0.2.0/33", "it has no prefix length"),
        ("slirp4netns:cidr=10.0.2/24", "it is no network in CIDR notation"),
        ("slirp4netns:cidr=fd00::/64", "only IPv4"),
        ("slirp4netns:cidr=127.0.0.0/16", "it overlaps 127.0.0.0/8"),
        ("slirp4netns:cidr=0.0.0.0/1", "it overlaps 0.0.0.0/8"),
        ("slirp4netns:cidr=64.0.0.0/2", "it overlaps 127.0.0.0/8"),
        ("slirp4netns:cidr=224.0.0.0/8", "it overlaps 224.0.0.0/3"),
        ("slirp4netns:allow_host_loopback=maybe", "it is neither true nor false"),
        ("slirp4netns:port_handler=magic", "it is none of rootlesskit"),
        ("slirp4netns:outbound_addr=a/b", "nor a device's name"),
        ("slirp4netns:device=lo", "no network device can be called so"),
        ("slirp4netns:frobnicate=1", "slirp4netns has no such option"),
        ("host:mtu=1500", "it has no options"),
        ("none:x", "it has no options"),
        ("bridge:", "nothing follows the colon"),
        ("bridge:a=b", "a bridge network has a name and no options"),
        ("pasta:", "nothing follows the colon"),
        ("pasta:--netns,/proc/1/ns/net", "the namespace is jubako's to name"),
        ("pasta:--userns=/proc/1/ns/user", "the namespace is jubako's to name"),
        ("pasta:--runas,0", "as whom it runs"),
        ("pasta:-P,/tmp/pid", "jubako waits for that file itself"),
        ("pasta:-P/tmp/pid", "jubako waits for that file itself"),
        ("pasta:--fd,3", "jubako hands over no descriptor"),
        ("pasta:-l,/tmp/log", "jubako's own log"),
        ("pasta:1234", "it is no option"),
        ("pasta:-t,80,sh", "it is no option"),
        ("pasta:--", "jubako knows no such argument"),
        ("pasta:--net", "jubako knows no such argument"),
        ("pasta:-T", "its value is missing"),
        ("pasta:-T,", "its value is empty"),
        ("pasta:-m,x", "it is no number of bytes"),
        ("pasta:-m,66000", "it is not between 68 and 65521"),
        ("pasta:-a,here", "it is no numeric address"),
        ("pasta:-n,255.0.255.0", "it is no netmask"),
        ("pasta:-4,-6", "it contradicts another argument"),
        ("pasta:-4,-a,fd00::7", "an IPv6 address is given as well"),
        ("pasta:--map-gw=yes", "it takes no value"),
        ("pasta:-qd", "it takes no value"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(value: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_network(value)
    assert words in str(refused.value)
    assert refused.value.hint


def test_pastas_arguments_say_what_is_inside() -> None:
    asked = pasta_arguments.read(
        (
            *("-a", "10.9.0.5", "-n", "255.255.0.0", "-g", "10.9.0.1", "-a", "fd01::5"),
            *("--dns-forward", "10.9.0.3", "-I", "net0", "--mtu=1400"),
        )
    )
    assert (asked.address, asked.prefix, asked.gateway, asked.address6) == ("10.9.0.5", 16, "10.9.0.1", "fd01::5")
    assert (asked.dns_forward, asked.device, asked.mtu, asked.ipv6) == (("10.9.0.3",), "net0", 1400, True)
    assert asked.others == ()


def test_pastas_forwards_replace_what_is_none_otherwise() -> None:
    asked = pasta_arguments.read(("-T", "8080", "--tcp-ports=80:8080", "-U53"))
    assert asked.forwards == ("-T", "-t", "-U")
    assert asked.others == ("-T", "8080", "-t", "80:8080", "-U", "53")


def test_no_text_whatever_raises_anything_else() -> None:
    chance = random.Random(7)
    parts = ["slirp4netns:", "pasta:", "mtu=", "cidr=", "10.0.2.0", "/", "24", ",", "=", "-T", "--", "-a", "::1", "\0"]
    parts += ["\udcff", "proxy:allow=", "bridge:", "enable_ipv6=", "true", "-m", "99999999999999999999", "٣", "é", " "]
    for _ in range(20000):
        value = "".join(chance.choice(parts) for _ in range(chance.randrange(8)))
        try:
            parse_network(value)
        except UsageError:
            pass
