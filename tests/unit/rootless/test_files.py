"""resolv.conf and hosts for a network of one's own."""

from __future__ import annotations

from pathlib import Path

from jubako.rootless.files import hosts_file, resolv_conf


def test_only_the_name_servers_change(tmp_path: Path) -> None:
    host = tmp_path / "resolv.conf"
    host.write_text("# by hand\nnameserver 127.0.0.53\n search a.test b.test\t\noptions ndots:2\nnonsense\n\n")
    text = resolv_conf(("10.0.2.3", "fd00::3"), str(host))
    assert text == "nameserver 10.0.2.3\nnameserver fd00::3\n search a.test b.test\noptions ndots:2\n"


def test_a_host_without_the_files_has_what_is_needed(tmp_path: Path) -> None:
    assert resolv_conf(("10.0.2.3",), str(tmp_path / "none")) == "nameserver 10.0.2.3\n"
    assert hosts_file("here", str(tmp_path / "none")) == "127.0.0.1 here\n::1 here\n"


def test_the_hosts_own_name_leads_to_the_loopback_once(tmp_path: Path) -> None:
    host = tmp_path / "hosts"
    host.write_text("127.0.0.1 localhost here # here\n192.0.2.1 here")
    assert hosts_file("here", str(host)) == "127.0.0.1 localhost here # here\n192.0.2.1 here\n::1 here\n"


def test_bytes_that_are_no_text_stay_as_they_are(tmp_path: Path) -> None:
    host = tmp_path / "hosts"
    host.write_bytes(b"192.0.2.1 \xff\n")
    assert hosts_file("here", str(host)).encode(errors="surrogateescape").startswith(b"192.0.2.1 \xff\n")
