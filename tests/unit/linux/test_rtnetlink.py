"""Network devices moved between namespaces of a child, with what they carry."""

from __future__ import annotations

import _socket
import os
import shutil
import subprocess
from typing import Any

import pytest

from jubako.linux import rtnetlink
from jubako.linux.clone import CLONE_NEWNET, CLONE_NEWUSER, setns, unshare
from jubako.plan.step import Slots
from jubako.plan.steps.netdevices import MoveNetDevice
from unit.linux.forked import in_child

BOTH = CLONE_NEWUSER | CLONE_NEWNET
needs_ip = pytest.mark.skipif(shutil.which("ip") is None, reason="the program ip makes the devices")


def ip(*arguments: str) -> str:
    done = subprocess.run(("ip", *arguments), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def elsewhere() -> tuple[int, int]:
    """A process in a network namespace of its own, and a pipe whose end ends it."""
    reader, writer = os.pipe()
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        unshare(CLONE_NEWNET)
        os.write(tell, b"x")
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.read(ready, 1)
    return pid, writer


@needs_ip
def test_a_device_moves_with_its_addresses_gets_its_name_and_comes_up() -> None:
    def look() -> list[Any]:
        ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
        ip("address", "add", "192.0.2.5/24", "dev", "v0")
        ip("address", "add", "2001:db8::5/64", "dev", "v0", "nodad")
        ip("link", "set", "v0", "up")
        pid, writer = elsewhere()
        MoveNetDevice("v0", "net1").apply(Slots({"init_pid": pid}))
        left = ip("-o", "link")
        setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), CLONE_NEWNET)
        shown = ip("-o", "address", "show", "dev", "net1")
        flags = ip("-o", "link", "show", "dev", "net1")
        os.close(writer)
        os.waitpid(pid, 0)
        return ["v0" in left, "192.0.2.5/24" in shown, "2001:db8::5/64" in shown, "UP" in flags]

    assert in_child(look, BOTH) == [False, True, True, True]


@needs_ip
def test_a_name_that_is_taken_leaves_the_device_where_it_is_and_a_number_is_found_for_it() -> None:
    def look() -> list[Any]:
        ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
        pid, writer = elsewhere()
        found = []
        for device, name in (("v0", "lo"), ("none0", "none0"), ("lo", "lo1")):
            step = MoveNetDevice(device, name)
            try:
                step.apply(Slots({"init_pid": pid}))
            except OSError as failure:
                found.append(bool(step.hint(failure.errno or 0)))
        stayed = ip("-o", "link")
        MoveNetDevice("v0", "lan%d").apply(Slots({"init_pid": pid}))
        MoveNetDevice("v1", "lan%d").apply(Slots({"init_pid": pid}))
        setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), CLONE_NEWNET)
        there = ip("-o", "link")
        os.close(writer)
        os.waitpid(pid, 0)
        return [*found, " v0@" in stayed, "lan0" in there, "lan1" in there]

    assert in_child(look, BOTH) == [True] * 6


def test_an_index_is_found_by_name() -> None:
    def look() -> list[Any]:
        try:
            rtnetlink.device_index("none0")
        except OSError as failure:
            return [rtnetlink.device_index("lo"), failure.filename, rtnetlink.list_addresses(1)]
        return []

    assert in_child(look, BOTH) == [1, "none0", []]


@needs_ip
def test_answers_from_a_port_are_led_to_lo_and_nothing_else_is() -> None:
    client, own = _socket.inet_pton(_socket.AF_INET, "198.51.100.7"), _socket.inet_pton(_socket.AF_INET, "127.0.0.1")

    def look() -> list[Any]:
        ip("link", "set", "lo", "up")
        rtnetlink.add_port_rule(_socket.AF_INET, _socket.IPPROTO_UDP, (8000, 8009), 1234, 77)
        rtnetlink.add_local_route(_socket.AF_INET, client, 1234, own)
        rtnetlink.add_local_route(_socket.AF_INET, client, 1234, own)  # again is no error
        found = ip("route", "get", "198.51.100.7", "ipproto", "udp", "sport", "8009")
        rules = ip("rule")
        missed = subprocess.run(("ip", "route", "get", "198.51.100.7", "ipproto", "udp", "sport", "8010")).returncode
        rtnetlink.remove_local_route(_socket.AF_INET, client, 1234)
        rtnetlink.remove_port_rule(_socket.AF_INET, _socket.IPPROTO_UDP, (8000, 8009), 1234, 77)
        left = "1234" in ip("rule") or "198.51" in ip("route", "show", "table", "all")
        return ["local 198.51.100.7 dev lo" in found, "src 127.0.0.1" in found, "77:" in rules, missed != 0, left]

    assert in_child(look, BOTH) == [True, True, True, True, False]


@needs_ip
def test_a_rule_that_is_there_is_not_made_twice() -> None:
    def look() -> int:
        rtnetlink.add_port_rule(_socket.AF_INET6, _socket.IPPROTO_TCP, (80, 80), 1234, 77)
        with pytest.raises(FileExistsError):
            rtnetlink.add_port_rule(_socket.AF_INET6, _socket.IPPROTO_TCP, (80, 80), 1234, 77)
        return ip("-6", "rule").count("1234")

    assert in_child(look, BOTH) == 1
