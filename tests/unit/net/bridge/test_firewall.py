"""The rules, as text: what is let through is named, and nothing else is."""

from __future__ import annotations

from jubako.net.bridge.firewall import Gate, Uplink, iptables_rules, nft_rules

FRONT = Gate("jb1", (("10.89.0.0/24", "10.89.0.1"), ("fd12::/64", "fd12::1")), True)
BACK = Gate("jb2", (("10.89.1.0/24", "10.89.1.1"),), False)
UPLINK = Uplink("tap0", ("10.0.2.2", "fd00::2"))


def test_both_kinds_of_rules_drop_what_they_do_not_name() -> None:
    assert nft_rules((), None).count("policy drop") == 2
    for version in (4, 6):
        text = iptables_rules((), None, version=version)
        assert ":INPUT DROP" in text
        assert ":FORWARD DROP" in text


def test_only_a_network_with_a_way_out_gets_one_and_with_its_own_addresses() -> None:
    nft = nft_rules((FRONT, BACK), UPLINK)
    assert 'iifname "jb1" oifname "tap0" ip saddr 10.89.0.0/24 accept' in nft
    assert 'iifname "jb1" oifname "tap0" ip6 saddr fd12::/64 accept' in nft
    assert 'iifname "jb2" oifname "tap0"' not in nft
    assert 'oifname "jb1" accept' in nft
    assert 'iifname "jb1" oifname "jb2"' not in nft
    assert nft.index("ip daddr 10.0.2.2 drop") < nft.index("ip saddr 10.89.0.0/24 accept")
    four, six = (iptables_rules((FRONT, BACK), UPLINK, version=version) for version in (4, 6))
    assert "-A FORWARD -i jb1 -o tap0 -s 10.89.0.0/24 -j ACCEPT" in four
    assert "-A FORWARD -i jb1 -o tap0 -s fd12::/64 -j ACCEPT" in six
    assert "-i jb2 -o tap0" not in four + six
    assert "10.89" not in six
    assert "fd12" not in four
    assert four.index("-d 10.0.2.2 -j DROP") < four.index("-o tap0 -s")


def test_without_an_uplink_nothing_leads_out() -> None:
    assert "masquerade" not in nft_rules((FRONT,), None)
    assert "MASQUERADE" not in iptables_rules((FRONT,), None, version=4)
