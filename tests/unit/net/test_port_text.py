"""Published ports as users write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from jubako.errors import UsageError
from jubako.net.ports.parse import MOST_IN_RANGE, format_rootlesskit, parse_publish, parse_rootlesskit
from jubako.net.ports.spec import PortSpec

PUBLISHED = {
    "80": [("", 0, 80, "tcp")],
    "80/udp": [("", 0, 80, "udp")],
    "80/tcp": [("", 0, 80, "tcp")],
    "8080:80": [("", 8080, 80, "tcp")],
    "08080:080": [("", 8080, 80, "tcp")],
    "53:53/udp": [("", 53, 53, "udp")],
    "127.0.0.1:8080:80": [("127.0.0.1", 8080, 80, "tcp")],
    "127.0.0.1::80": [("127.0.0.1", 0, 80, "tcp")],
    "0.0.0.0:1:65535/udp": [("0.0.0.0", 1, 65535, "udp")],
    "[::1]:8080:80": [("::1", 8080, 80, "tcp")],
    "[::1]::80": [("::1", 0, 80, "tcp")],
    "[2001:DB8:0::1]:8080:80/udp": [("2001:db8::1", 8080, 80, "udp")],
    "[127.0.0.1]:8080:80": [("127.0.0.1", 8080, 80, "tcp")],
    "8000-8002:80-82": [("", 8000, 80, "tcp"), ("", 8001, 81, "tcp"), ("", 8002, 82, "tcp")],
    "8000-8000:80": [("", 8000, 80, "tcp")],
    "80-81": [("", 0, 80, "tcp"), ("", 0, 81, "tcp")],
    "127.0.0.1::80-81/udp": [("127.0.0.1", 0, 80, "udp"), ("127.0.0.1", 0, 81, "udp")],
    "[::]:1-2:3-4": [("::", 1, 3, "tcp"), ("::", 2, 4, "tcp")],
}


@pytest.mark.parametrize("text", PUBLISHED)
def test_a_published_port_means_what_docker_and_podman_mean(text: str) -> None:
    assert parse_publish(text) == tuple(
        PortSpec(address, host, "", port, protocol) for address, host, port, protocol in PUBLISHED[text]
    )


REFUSED = {
    "": "container port is empty",
    ":": "container port is empty",
    ":80": "host port is empty",
    "80:": "container port is empty",
    "::": "address is empty",
    "::80": "address is empty",
    ":80:80": "address is empty",
    "127.0.0.1": "'127.0.0.1' is not a number",
    "127.0.0.1:80": "'127.0.0.1' is not a number",
    "127.0.0.1::": "container port is empty",
    "127.0.0.1:80:": "container port is empty",
    "1:2:3": "'1' is not a numeric address",
    "127.0.0.1:1:2:3": "too many or too few",
    "[::1]": "too many or too few",
    "[::1]:80": "too many or too few",
    "[::1]:80:": "container port is empty",
    "::1:8080:80": "brackets",
    "2001:db8::1:8080:80": "brackets",
    "[::1:8080:80": "brackets do not match",
    "::1]:8080:80": "brackets do not match",
    "[[::1]]:8080:80": "brackets do not match",
    "x[::1]:8080:80": "brackets do not match",
    "[::1]x:8080:80": "follows the bracket",
    "[]:8080:80": "is not a numeric address",
    "[::g]:8080:80": "is not a numeric address",
    "[fe80::1%eth0]:8080:80": "scope",
    "[::ffff:127.0.0.1]:8080:80": "IPv4 address in disguise",
    "224.0.0.1:8080:80": "many hosts",
    "255.255.255.255:8080:80": "many hosts",
    "[ff02::1]:8080:80": "many hosts",
    "localhost:8080:80": "not a numeric address",
    "127.1:8080:80": "not a numeric address",
    "256.0.0.1:8080:80": "not a numeric address",
    "127.0.0.1\0:8080:80": "not a numeric address",
    "127.0.0.1 :8080:80": "not a numeric address",
    "0": "not from 1 to 65535",
    "0:80": "not from 1 to 65535",
    "80:0": "not from 1 to 65535",
    "65536": "not from 1 to 65535",
    "80:65536": "not from 1 to 65535",
    "000000080": "not from 1 to 65535",
    "9" * 5000: "5000 digits",
    "-1": "port is empty",
    "-": "port is empty",
    "80-": "port is empty",
    "80-81-82": "'81-82' is not a number",
    "82-80": "backwards",
    "+80": "not a number",
    " 80": "not a number",
    "80 ": "not a number",
    "80\n": "not a number",
    "8_0": "not a number",
    "0x50": "not a number",
    "8e1": "not a number",
    "80.0": "not a number",
    "８０": "not a number",
    "٨٠": "not a number",
    "8²": "not a number",
    "http": "not a number",
    "80:http": "not a number",
    "8000-8001:80": "range has 2 ports and the container's 1",
    "8000:80-81": "range has 1 ports and the container's 2",
    "8000-8001:80-82": "range has 2 ports and the container's 3",
    "1-1000000": "not from 1 to 65535",
    "1-1000000:1-1000000": "not from 1 to 65535",
    "1-65535": "65535 ports are too many",
    "80/": "protocol is empty",
    "80/sctp": "SCTP",
    "80/icmp": "'icmp' is not a protocol",
    "80/tcp4": "'tcp4' is not a protocol",
    "80/tcp/udp": "is not a protocol",
    "80/tcp ": "is not a protocol",
    "/tcp": "port is empty",
    "/": "protocol is empty",
    "80,81": "not a number",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_published_port_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(UsageError, match=REFUSED[text]):
        parse_publish(text)


def test_a_range_has_a_greatest_width() -> None:
    assert len(parse_publish(f"1-{MOST_IN_RANGE}")) == MOST_IN_RANGE
    with pytest.raises(UsageError, match="too many"):
        parse_publish(f"1-{MOST_IN_RANGE + 1}")


ROOTLESSKIT = {
    "127.0.0.1:8080:80/tcp": PortSpec("127.0.0.1", 8080, "", 80, "tcp"),
    "0.0.0.0:8080:10.0.2.100:80/udp": PortSpec("0.0.0.0", 8080, "10.0.2.100", 80, "udp"),
    "0.0.0.0:8080:80/tcp4": PortSpec("0.0.0.0", 8080, "", 80, "tcp4"),
    "[::]:8080:80/tcp6": PortSpec("::", 8080, "", 80, "tcp6"),
    "[::1]:8080:[fd00::100]:80/udp6": PortSpec("::1", 8080, "fd00::100", 80, "udp6"),
    "127.0.0.1:53:53/udp4": PortSpec("127.0.0.1", 53, "", 53, "udp4"),
}


@pytest.mark.parametrize("text", ROOTLESSKIT)
def test_a_port_of_rootlesskit_is_read_and_written_back(text: str) -> None:
    assert parse_rootlesskit(text) == (ROOTLESSKIT[text],)
    assert format_rootlesskit(ROOTLESSKIT[text]) == text


REFUSED_ROOTLESSKIT = {
    "": "protocol is missing",
    "127.0.0.1:8080:80": "protocol is missing",
    "127.0.0.1:8080:80/": "protocol is empty",
    "127.0.0.1:8080:80/sctp": "SCTP",
    "127.0.0.1:8080:80/sctp4": "not a protocol",
    "127.0.0.1:8080:80/TCP": "not a protocol",
    "8080:80/tcp": "2 parts",
    "127.0.0.1:8080/tcp": "2 parts",
    ":8080:80/tcp": "'' is not a numeric address",
    "127.0.0.1:8080::80/tcp": "'' is not a numeric address",
    "127.0.0.1:0:80/tcp": "not from 1 to 65535",
    "127.0.0.1:8080:65536/tcp": "not from 1 to 65535",
    "127.0.0.1::80/tcp": "port is empty",
    "127.0.0.1:8080:/tcp": "port is empty",
    "127.0.0.1:1-2:1-3/tcp": "range has 2 ports",
    "127.0.0.1:2-1:1-2/tcp": "run backwards",
    "127.0.0.1:8080:x:80/tcp": "'x' is not a numeric address",
    "127.0.0.1:8080:80/tcp6": "does not go with tcp6",
    "[::1]:8080:80/udp4": "does not go with udp4",
    "[::1]:8080:10.0.2.100:80/tcp6": "does not go with tcp6",
    "1:2:3:4:5/tcp": "too many parts",
}


@pytest.mark.parametrize("text", REFUSED_ROOTLESSKIT)
def test_what_is_no_port_of_rootlesskit_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(UsageError, match=REFUSED_ROOTLESSKIT[text]):
        parse_rootlesskit(text)


def test_all_addresses_of_the_host_are_written_as_rootlesskit_does() -> None:
    assert format_rootlesskit(PortSpec("", 1, "", 2, "tcp")) == "0.0.0.0:1:2/tcp"
    assert format_rootlesskit(PortSpec("", 1, "", 2, "udp6")) == "[::]:1:2/udp6"


@given(some.text(max_size=40) | some.text("0123456789:-[]/.tcpud", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_publish, parse_rootlesskit):
        try:
            read = parse(text)
        except UsageError:
            continue
        assert read


def test_a_range_of_the_fake_roots_is_as_many_ports() -> None:
    assert parse_rootlesskit("127.0.0.1:8080-8081:80-81/udp") == (
        PortSpec("127.0.0.1", 8080, "", 80, "udp"),
        PortSpec("127.0.0.1", 8081, "", 81, "udp"),
    )
    with pytest.raises(UsageError, match="range has 3 ports"):
        parse_rootlesskit("127.0.0.1:8080-8082:80-81/udp")
