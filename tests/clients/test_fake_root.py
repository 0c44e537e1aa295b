"""The fake root on a machine of today: a current pasta, a cgroup v2 that is delegated to the account."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from world import client
from world.account import Account
from world.box import eventually
from world.command import Command
from world.house import House

PAGE = "echo page >/tmp/index.html; busybox httpd -f -p 18085 -h /tmp & cat; kill $!; rm /tmp/index.html"


@pytest.fixture
def rootless(house: House, runtime: str, ordinary_account: Account) -> Iterator[Command]:
    """`rootlesskit` as the account."""
    command = client.client(house, ordinary_account, "rootlesskit")
    yield command
    command.close()


@pytest.mark.parametrize(
    "flags", [("implicit",), ("builtin", "-p", "0.0.0.0:18085:18085/tcp")], ids=["implicit", "builtin"]
)
def test_what_is_listened_on_inside_pasta_is_reached_from_the_host(
    rootless: Command, house: House, flags: tuple[str, ...]
) -> None:
    network = ("--net=pasta", "--disable-host-loopback", "--copy-up=/etc", f"--port-driver={flags[0]}", *flags[1:])
    running = rootless.start(*network, "sh", "-c", PAGE)
    fetch = client.client(house, None, "busybox")
    assert eventually(lambda: fetch("wget", "-qO-", "http://127.0.0.1:18085/index.html").stdout == "page\n", 15)
    assert running.stdin is not None
    running.stdin.close()
    assert running.wait(10) == 0
    assert fetch("wget", "-qO-", "http://127.0.0.1:18085/index.html").exit_code != 0


def test_a_delegated_control_group_is_evacuated_and_its_controllers_given_on(
    house: House, runtime: str, ordinary_account: Account
) -> None:
    name = f"user-{ordinary_account.uid}/evacuated"
    group = house.group / name
    group.mkdir()
    for file in ("", "cgroup.procs", "cgroup.subtree_control"):
        os.chown(group / file, ordinary_account.uid, ordinary_account.gid)
    script = "grep ^0:: /proc/self/cgroup; mkdir /sys/fs/cgroup/more && rmdir /sys/fs/cgroup/more"
    script += " && wc -l </sys/fs/cgroup/below/cgroup.procs; cat /sys/fs/cgroup/cgroup.subtree_control"
    flags = ("--pidns", "--cgroupns", "--evacuate-cgroup2=below", "--net=none")
    joins = f'echo $$ >/sys/fs/cgroup/{name}/cgroup.procs && exec rootlesskit "$@"'
    account = client.client(house, ordinary_account, "sh")
    try:
        result = account("-c", joins, "sh", *flags, "sh", "-c", script, check=True)
        assert result.lines[0] == "0::/below"
        assert int(result.lines[1]) >= 2
        available = (group / "cgroup.controllers").read_text().split()
        assert set(" ".join(result.lines[2:]).split()) == set(available)
    finally:
        eventually(lambda: "populated 0" in (group / "cgroup.events").read_text(), 5)
        for below in (group / "below", group):
            if below.exists():
                below.rmdir()
