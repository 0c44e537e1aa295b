"""The world of the known attacks: that of the conformance tests, with something of the host's to lose.

Each test runs as an ordinary user and as root. Those about paths run twice: on the kernel as it is, and on one that has
neither openat2(2) nor any other of the calls that came after Linux 5.0 and that paths and mounts are handled with.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import conftest as conformance
from world import older_kernel
from world.account import Account
from world.hostile import Victim
from world.runtime import Runtime

_leaves_nothing = conformance._leaves_nothing
bundle = conformance.bundle
bundles = conformance.bundles
busybox_program = conformance.busybox_program
place = conformance.place
probe_program = conformance.probe_program
runtime_account = conformance.runtime_account
who = conformance.who
world_directory = conformance.world_directory

MISSING = "openat2,open_tree,move_mount,fsopen,mount_setattr,close_range"

every_kernel = pytest.mark.parametrize("kernel", ["", MISSING], ids=["this kernel", "no openat2"], indirect=True)


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> str:
    """Which system calls the kernel lacks, as `world.older_kernel` names them."""
    missing: str = getattr(request, "param", "")
    return missing


@pytest.fixture
def runtime(kernel: str, runtime_account: Account, place: Path) -> Iterator[Runtime]:
    """The runtime under test, on that kernel."""
    prefix: tuple[str, ...] = runtime_account.prefix
    if kernel:
        prefix = (*prefix, sys.executable, "-I", os.path.abspath(older_kernel.__file__), kernel)
    runtime = Runtime(runtime_account, place, prefix, root=place / "state")
    yield runtime
    runtime.close()


@pytest.fixture
def victim(place: Path, runtime_account: Account) -> Iterator[Victim]:
    """What no attack may change."""
    victim = Victim(place / "victim")
    victim.make()
    for path in (victim.path, *victim.path.iterdir()):
        os.chown(path, runtime_account.uid, runtime_account.gid)
    yield victim
    assert victim.changes == []
