"""What `--allow` names, and how hosts are read: `jubako.net.proxy.rules` and `addresses`."""

from __future__ import annotations

import pytest

from jubako.errors import UsageError
from jubako.net.proxy.addresses import Address, BadHost, is_special, parse_address, parse_host
from jubako.net.proxy.rules import parse_rules


def address(text: str) -> Address:
    found = parse_address(text)
    assert found is not None
    return found


def test_nothing_is_allowed_by_default():
    rules = parse_rules(())
    assert not rules.allow_name("example.org", 443)
    assert not rules.allow_address(address("93.184.216.34"), 443)


@pytest.mark.parametrize(
    ("value", "allowed", "refused"),
    [
        ("example.org", [("example.org", 80), ("example.org", 443)], [("example.org", 22), ("www.example.org", 443)]),
        ("Example.ORG.:22", [("example.org", 22)], [("example.org", 443), ("example.org.evil.net", 22)]),
        ("*.example.org", [("a.example.org", 443), ("a.b.example.org", 80)], [("example.org", 443)]),
        ("*.example.org", [], [("badexample.org", 443), ("example.org.evil.net", 443), ("a.example.org", 8080)]),
        ("example.org:8000-8010", [("example.org", 8000), ("example.org", 8010)], [("example.org", 8011)]),
        ("example.org:*", [("example.org", 1), ("example.org", 65535)], [("example.com", 1)]),
        ("*:443", [("anything.net", 443)], [("anything.net", 80)]),
        ("bücher.example", [("xn--bcher-kva.example", 443)], [("bucher.example", 443)]),
    ],
)
def test_a_rule_allows_the_names_and_ports_that_it_says(value, allowed, refused):
    rules = parse_rules((value,))
    assert all(rules.allow_name(*one) for one in allowed)
    assert not any(rules.allow_name(*one) for one in refused)


@pytest.mark.parametrize(
    ("value", "allowed", "refused"),
    [
        ("93.184.216.34", [("93.184.216.34", 443)], [("93.184.216.34", 22), ("93.184.216.35", 443)]),
        ("10.1.0.0/16:5432", [("10.1.2.3", 5432)], [("10.2.0.1", 5432), ("10.1.2.3", 443)]),
        ("[fd00::/8]:443", [("fd12::1", 443)], [("fc12::1", 443), ("fd12::1", 80)]),
        ("fd00::1", [("fd00::1", 80), ("fd00::1", 443)], [("fd00::2", 80)]),
        ("[::1]:8080", [("::1", 8080)], [("::1", 80)]),
        # a wide network is the public part of it
        ("0.0.0.0/0:*", [("93.184.216.34", 25)], [("127.0.0.1", 25), ("10.0.0.1", 25), ("169.254.169.254", 80)]),
        ("192.0.0.0/8:*", [("192.1.2.3", 80)], [("192.168.1.1", 80), ("192.0.0.192", 80)]),
        ("[::/0]:*", [("2606:4700::1111", 80)], [("::1", 80), ("::ffff:127.0.0.1", 80), ("64:ff9b::7f00:1", 80)]),
        ("169.254.169.254", [("169.254.169.254", 80)], [("169.254.169.253", 80)]),
    ],
)
def test_a_rule_allows_the_addresses_and_ports_that_it_says(value, allowed, refused):
    rules = parse_rules((value,))
    assert all(rules.allow_address(address(one), port) for one, port in allowed)
    assert not any(rules.allow_address(address(one), port) for one, port in refused)


def test_a_rule_for_a_name_allows_no_literal_address_and_one_for_addresses_no_name():
    assert not parse_rules(("*:*",)).allow_address(address("93.184.216.34"), 443)
    assert not parse_rules(("0.0.0.0/0:*", "[::/0]:*")).allow_name("example.org", 443)


def test_a_name_leads_to_public_addresses_and_to_those_that_a_rule_names():
    rules = parse_rules(("example.org", "10.1.0.0/16:443", "0.0.0.0/0"))
    assert rules.allow_answer(address("93.184.216.34"), 443)
    assert rules.allow_answer(address("10.1.2.3"), 443)
    assert not rules.allow_answer(address("10.1.2.3"), 80)
    assert not rules.allow_answer(address("127.0.0.1"), 443)


def test_an_own_address_of_the_host_wants_a_rule_of_its_own():
    rules = parse_rules(("example.org", "0.0.0.0/0", "93.184.216.34"))
    assert rules.allow_answer(address("93.184.216.34"), 443, is_own=True)
    assert not rules.allow_answer(address("93.184.216.35"), 443, is_own=True)


def test_an_address_within_one_of_ipv6_has_to_be_allowed_too():
    embedded = address("64:ff9b::0a01:0203")
    assert not parse_rules(("[64:ff9b::/96]:80",)).allow_address(embedded, 80)
    assert parse_rules(("[64:ff9b::/96]:80", "10.1.2.3")).allow_address(embedded, 80)
    assert parse_rules(("[64:ff9b::/96]:80",)).allow_address(address("64:ff9b::5db8:d822"), 80)


@pytest.mark.parametrize(
    "value",
    [
        "", ":443", "example.org:", "example.org:0", "example.org:65536", "example.org:99999999999999",
        "example.org:+80", "example.org:080", "example.org:20-10", "example.org:http", "https://example.org",
        "user@example.org", "example.org/path", "exa mple.org", "example..org", "-example.org", "example.org\n",
        "www.*.org", "*example.org", "*.", "127.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "1.2.3.4.5",
        "1.2.3.999", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "[::1", "[::1]8080", "[127.0.0.1]:80", "fe80::1%eth0",
        "::ffff:127.0.0.1", "[::ffff:0:0/100]:80", "::/0:*", "faß.example", "a" * 64 + ".org", "%65xample.org",
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused(value):
    with pytest.raises(UsageError) as refusal:
        parse_rules((value,))
    assert "--allow" in str(refusal.value)


def test_a_uri_gets_a_hint_that_can_be_pasted():
    with pytest.raises(UsageError) as refusal:
        parse_rules(("https://example.org/simple",))
    assert "--allow example.org:443" in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.255",
        "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.0.1", "198.18.0.1",
        "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:8.8.8.8", "::8.8.8.8",
        "64:ff9b::808:808", "64:ff9b:1::1", "2002:808:808::1", "2001::1", "2001:db8::1", "fc00::1", "fd00:ec2::254",
        "fe80::1", "fec0::1", "ff02::1", "100::1", "5f00::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_known(text):
    assert is_special(address(text))


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "172.32.0.1", "172.15.0.1", "100.128.0.1", "2606:4700::1111", "2001:4860:4860::8888"]
)
def test_public_addresses_are_known(text):
    assert not is_special(address(text))


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("EXAMPLE.Org.", "example.org"),
        ("a_b.example", "a_b.example"),
        ("93.184.216.34", Address(32, 0x5DB8D822)),
        ("[::1]", Address(128, 1)),
        ("[::ffff:1.2.3.4]", Address(128, 0xFFFF01020304)),
    ],
)
def test_a_host_is_a_name_in_one_form_or_an_address(text, host):
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text",
    ["127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "1.2.3.4.", "::1", "[::1", "[::1%lo]", "[1.2.3.4]",
     "", ".", "..", "a..b", "exa%6dple.org", "exämple.org", "a\0b", "a b", "a/b", "a@b", "a:80", "x" * 254],
)  # fmt: skip
def test_other_forms_of_a_host_are_refused(text):
    with pytest.raises(BadHost):
        parse_host(text)
