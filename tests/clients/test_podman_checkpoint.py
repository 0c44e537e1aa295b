"""Containers that podman writes to disk and brings back through criu."""

from __future__ import annotations

import time

import pytest

from world.box import eventually
from world.client import client
from world.command import Command
from world.house import House

COUNTER = ("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done")
"""What it counts is only in its memory."""


@pytest.fixture
def podman_with_criu(house: House, root_podman: Command) -> Command:
    """podman, where the house's criu works on this kernel."""
    check = client(house, None, "criu")("check")
    if check.exit_code != 0:
        pytest.skip(f"criu does not work on this kernel: {check.stderr.strip()}")
    return root_podman


def last_number(podman: Command, name: str) -> int:
    lines = podman("logs", name, check=True).stdout.split()
    return int(lines[-1]) if lines else 0


def test_a_container_comes_back_and_counts_on(podman_with_criu: Command) -> None:
    podman = podman_with_criu
    podman("run", "-d", "--name", "counter", "--network", "none", "busybox", *COUNTER, check=True)
    eventually(lambda: last_number(podman, "counter") >= 5)
    podman("container", "checkpoint", "counter", check=True)
    assert podman("inspect", "--format", "{{.State.Status}}", "counter", check=True).stdout == "exited\n"
    count = last_number(podman, "counter")
    time.sleep(0.3)
    assert last_number(podman, "counter") == count
    podman("container", "restore", "counter", check=True)
    eventually(lambda: last_number(podman, "counter") > count + 3)
    numbers = [int(line) for line in podman("logs", "counter", check=True).stdout.split()]
    assert numbers == list(range(1, len(numbers) + 1)), "no number twice, none left out"
    assert podman("exec", "counter", "hostname", check=True).stdout.strip()
    podman("rm", "--force", "--time", "0", "counter", check=True)


def test_an_exported_container_comes_back_under_another_name(podman_with_criu: Command, house: House) -> None:
    podman = podman_with_criu
    podman("run", "-d", "--name", "here", "--network", "none", "busybox", *COUNTER, check=True)
    eventually(lambda: last_number(podman, "here") >= 5)
    podman("container", "checkpoint", "--leave-running", "--export", "/tmp/here.tar.gz", "here", check=True)
    count = last_number(podman, "here")
    eventually(lambda: last_number(podman, "here") > count)
    podman("container", "restore", "--import", "/tmp/here.tar.gz", "--name", "there", check=True)
    house.path("tmp/here.tar.gz").unlink()
    eventually(lambda: last_number(podman, "there") > count)
    said = podman("logs", "there", check=True).stdout.split()  # the log has come along
    assert said.count("1") == 1, "it has not begun anew"
    podman("rm", "--force", "--time", "0", "here", "there", check=True)


def test_a_container_with_a_terminal_comes_back(podman_with_criu: Command) -> None:
    podman = podman_with_criu
    podman("run", "-dt", "--name", "talker", "--network", "none", "busybox", *COUNTER, check=True)
    eventually(lambda: last_number(podman, "talker") >= 5)
    podman("container", "checkpoint", "talker", check=True)
    count = last_number(podman, "talker")
    podman("container", "restore", "talker", check=True)
    eventually(lambda: last_number(podman, "talker") > count + 3)
    assert podman("exec", "talker", "readlink", "/proc/1/fd/1", check=True).stdout.startswith("/dev/pts/")
    podman("rm", "--force", "--time", "0", "talker", check=True)
