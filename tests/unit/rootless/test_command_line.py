"""RootlessKit's command lines, also as Go's flag package takes them."""

from __future__ import annotations

import pytest

from jubako.cli.commands import docker_proxy, rootless
from jubako.cli.flags import parse
from jubako.errors import UsageError
from jubako.rootless.options import RootlessOptions


def read(*words: str) -> RootlessOptions:
    return rootless.rootless_options(parse(rootless.COMMAND, rootless.respell(list(words))))


def test_flags_end_at_the_command() -> None:
    asked = read("--net", "none", "--pidns", "sh", "-c", "--net=host -pidns", "--utsns")
    assert asked.command == ("sh", "-c", "--net=host -pidns", "--utsns")
    assert (asked.driver, asked.pid, asked.reaper, asked.uts) == ("none", True, True, False)


def test_one_dash_will_do() -> None:
    asked = read("-net=none", "-copy-up", "/etc", "-pidns=false", "-utsns", "cmd", "-net=host")
    assert (asked.driver, asked.copy_up, asked.pid, asked.uts) == ("none", ("/etc",), False, True)
    assert asked.command == ("cmd", "-net=host")


def test_lists_may_have_commas() -> None:
    ports = ("-p", "127.0.0.1:80:80/tcp,[::1]:81:81/udp6", "--publish=0.0.0.0:82:10.0.2.100:82/tcp4")
    asked = read("--copy-up=/etc,/run", "--copy-up", "/var", "--net=slirp4netns", "--port-driver=builtin", *ports, "x")
    assert asked.copy_up == ("/etc", "/run", "/var")
    assert [(port.host_address, port.host_port, port.address, port.protocol) for port in asked.publish] == [
        ("127.0.0.1", 80, "", "tcp"), ("::1", 81, "", "udp6"), ("0.0.0.0", 82, "10.0.2.100", "tcp4"),
    ]  # fmt: skip


def test_host_loopback_is_open_unless_it_is_disabled() -> None:
    assert read("--net=pasta", "x").network.host_loopback
    assert not read("--net=pasta", "--disable-host-loopback", "x").network.host_loopback
    assert not read("--net=none", "x").network.host_loopback


@pytest.mark.parametrize(
    ("flags", "reaps"), [(("--pidns",), True), (("--pidns", "--reaper=false"), False), (("--reaper=auto",), False)]
)
def test_the_reaper_goes_with_the_pid_namespace(flags: tuple[str, ...], reaps: bool) -> None:
    assert read(*flags, "x").reaper == reaps


def test_a_reaper_without_a_pid_namespace_is_refused() -> None:
    with pytest.raises(UsageError):
        read("--reaper=true", "x")


def test_docker_proxy_has_gos_flags() -> None:
    words = ["-proto", "udp", "-host-ip=127.0.0.1", "-host-port", "80", "--container-ip", "::1", "-container-port=81"]
    values = parse(docker_proxy.COMMAND, docker_proxy.respell(words))
    assert (values.proto, values.host_ip, values.host_port) == ("udp", "127.0.0.1", 80)
    assert (values.container_ip, values.container_port) == ("::1", 81)
