"""`exec` enters a container that shares namespaces with another one: each is joined where there are rights over it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from world.command import Command

KINDS = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts"}


@pytest.fixture
def first(jubako: Command) -> Iterator[str]:
    name = f"first-{os.getpid()}"
    jubako("run", "-d", "--name", name, "host", "--", "sleep", "300", check=True)
    yield name
    jubako("rm", "-f", name, check=True)


@pytest.mark.parametrize("kinds", [("pid",), ("network",), ("ipc",), ("uts",), tuple(KINDS)], ids="-".join)
def test_a_program_enters_what_the_container_shares(jubako: Command, first: str, kinds: tuple[str, ...]) -> None:
    second = f"second-{os.getpid()}"
    flags = [f"--{kind}=container:{first}" for kind in kinds]
    jubako("run", "-d", "--name", second, *flags, "host", "--", "sleep", "300", check=True)
    try:
        asked = ("sh", "-c", "for n in pid net ipc uts mnt user; do readlink /proc/self/ns/$n; done")
        ours = jubako("exec", second, *asked, check=True).lines
        theirs = jubako("exec", first, *asked, check=True).lines
        shared = {line.partition(":")[0] for line in set(ours) & set(theirs)}
        assert shared == {KINDS[kind] for kind in kinds}
    finally:
        jubako("rm", "-f", second, check=True)


def test_a_program_enters_a_container_with_clocks_of_its_own(jubako: Command) -> None:
    name = f"clocks-{os.getpid()}"
    jubako("run", "-d", "--name", name, "--time-offset", "boottime=100000", "host", "--", "sleep", "300", check=True)
    try:
        before = float(Path("/proc/uptime").read_text().split()[0])
        inside = float(jubako("exec", name, "cat", "/proc/uptime", check=True).stdout.split()[0])
        assert inside - before > 99_000
    finally:
        jubako("rm", "-f", name, check=True)
