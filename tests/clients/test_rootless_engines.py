"""Other engines in a fake root: containerd with ctr, and podman."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from world import client
from world.account import Account
from world.command import Command
from world.daemons import NO_SHARES, end
from world.house import House

NETWORK = (
    "--net=slirp4netns", "--disable-host-loopback",
    *(f"--copy-up={place}" for place in ("/etc", "/run", "/var/lib", "/var/cache")),
)  # fmt: skip


@pytest.fixture(scope="module")
def containerd(house: House, runtime: str, ordinary_account: Account) -> Iterator[Command]:
    """`ctr` as the account, in the fake root in which its own containerd runs."""
    home, where = f"{ordinary_account.home}/containerd", f"{ordinary_account.runtime_directory}/containerd"
    state = f"{where}-rootlesskit"
    script = "rm -f /run/containerd && "  # that of the house's root, in the copy of /run
    script += f"mkdir -p {home} {where} && exec containerd --address {where}/s --root {home} --state {where}/state"
    log = house.scratch / "rootless-containerd.log"
    with open(log, "wb") as output:
        running = subprocess.Popen(
            (*house.prefix(ordinary_account), "rootlesskit", *NETWORK, f"--state-dir={state}", "sh", "-c", script),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    enter = f'nsenter --preserve-credentials -U -m -n -t "$(cat {state}/child_pid)" -- ctr --address {where}/s "$@"'
    ctr = client.client(house, ordinary_account, "sh", "-c", enter, "ctr")
    try:
        until = time.monotonic() + 60
        while ctr("version").exit_code:
            assert running.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < until, log.read_text(errors="replace")[-3000:]
            time.sleep(0.2)
        yield ctr
    finally:
        ctr.close()
        end(running)
        remove = ("rootlesskit", "rm", "-rf", home, where)
        subprocess.run((*house.prefix(ordinary_account), *remove), check=True)


def test_containerd_runs_containers_in_a_fake_root(containerd: Command, runtime: str, archive: str) -> None:
    containerd("images", "import", "--snapshotter", "native", "--index-name", "busybox:test", archive, check=True)
    flags = ("run", "--rm", "--snapshotter", "native", "--net-host", "--runc-binary", runtime, *NO_SHARES)
    result = containerd(*flags, "busybox:test", "one", "sh", "-c", "id -u; exit 4")
    assert (result.stdout, result.exit_code) == ("0\n", 4), str(result)


def test_podman_runs_containers_in_a_fake_root(
    house: House, runtime: str, archive: str, ordinary_account: Account
) -> None:
    place = f"{ordinary_account.home}/podman-in-rootless"
    podman = f"podman --root {place}/root --runroot {place}/run --tmpdir {place}/tmp --storage-driver vfs"
    podman += " --cgroup-manager cgroupfs"
    # Nothing of the house's own podman: its state below /run, its locks below /run and in /dev/shm.
    script = "mount -t tmpfs tmpfs /run && mkdir /run/lock && mount -t tmpfs tmpfs /dev/shm && "
    script += f"{podman} load -q -i {archive} && {podman} run --rm --cgroups=disabled --network host --pids-limit=-1"
    script += " localhost/busybox sh -c 'id -u; cat /proc/self/uid_map; exit 6'"
    rootlesskit = client.client(house, ordinary_account, "rootlesskit")
    try:
        result = rootlesskit(*NETWORK, "sh", "-c", script)
        assert result.exit_code == 6, str(result)
        assert "0\n" in result.stdout
    finally:
        rootlesskit.close()
        subprocess.run((*house.prefix(ordinary_account), "rootlesskit", "rm", "-rf", place), check=True)
