"""The world of the conformance tests: who drives the runtime, bundles, and the proof that nothing stays.

A test runs twice, as an ordinary user and as root (in root's pass), unless `only_root`, `only_rootless` or `in_cgroup`
of `world.rule` says otherwise.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from world import account as accounts
from world import programs
from world.account import Account
from world.bundle import Bundle, make_bundle
from world.cgroup import delegated_group
from world.rootfs import static_busybox
from world.runtime import Runtime


@pytest.fixture(autouse=True)
def _leaves_nothing(world_directory: Path, clean: None) -> None:
    """See `clean`."""


@pytest.fixture(scope="session")
def world_directory() -> Iterator[Path]:
    """Where the bundles lie: every id of a user namespace may go through it, unlike pytest's own directories."""
    with tempfile.TemporaryDirectory(prefix="jubako-conformance-") as name:
        place = Path(name)
        place.chmod(0o755)
        yield place


@pytest.fixture(scope="session")
def busybox_program(world_directory: Path) -> Path:
    """A copy of busybox on the bundles' file system, to be linked into root file systems."""
    copy = world_directory / "busybox"
    shutil.copy(static_busybox(), copy)
    copy.chmod(0o755)
    return copy


@pytest.fixture(scope="session")
def probe_program(world_directory: Path) -> Path:
    """The static helper of `world/probe.c`."""
    source = Path(programs.__file__).with_name("probe.c")
    program = world_directory / "probe"
    subprocess.run((programs.require("gcc"), "-static", "-O1", "-o", program, source), check=True)
    return program


@pytest.fixture(params=["rootless", pytest.param("root", marks=pytest.mark.root)])
def who(request: pytest.FixtureRequest) -> str:
    """As whom the runtime is called: `rootless`, `root`, `root in a cgroup` or `user in a cgroup`."""
    name: str = request.param
    if name == "rootless" and os.getuid() == 0:
        pytest.skip("runs in the ordinary user's pass of ./dev test")
    return name


@pytest.fixture
def runtime_account(who: str, request: pytest.FixtureRequest) -> Account:
    name = "ordinary_account" if who == "user in a cgroup" else "account"
    found: Account = request.getfixturevalue(name)
    return found


@pytest.fixture
def place(world_directory: Path, runtime_account: Account) -> Iterator[Path]:
    """The test's own directory, of the account that calls the runtime."""
    directory = Path(tempfile.mkdtemp(dir=world_directory))
    directory.chmod(0o755)
    os.chown(directory, runtime_account.uid, runtime_account.gid)
    yield directory
    accounts.remove_tree(directory)


@pytest.fixture
def runtime(who: str, runtime_account: Account, place: Path) -> Iterator[Runtime]:
    """The runtime under test, with a state directory of its own."""
    with ExitStack() as stack:
        prefix: tuple[str, ...] = runtime_account.prefix
        if who.endswith("in a cgroup"):
            prefix = (*stack.enter_context(delegated_group(runtime_account)), *prefix)
        runtime = Runtime(runtime_account, place, prefix, root=place / "state")
        stack.callback(runtime.close)
        yield runtime


@pytest.fixture
def bundles(place: Path, runtime_account: Account, busybox_program: Path, probe_program: Path) -> Callable[..., Bundle]:
    """`bundles()` makes a bundle, `bundles(maps="all")` one with all ids that an ordinary user has."""

    def make(name: str = "", maps: str = "one") -> Bundle:
        name = name or f"bundle{len(list(place.iterdir()))}"
        bundle = make_bundle(place / name, busybox_program, runtime_account, probe_program, maps)
        for directory, _, files in os.walk(bundle.path):
            for path in (directory, *(os.path.join(directory, file) for file in files)):
                os.lchown(path, runtime_account.uid, runtime_account.gid)
        return bundle

    return make


@pytest.fixture
def bundle(bundles: Callable[..., Bundle]) -> Bundle:
    return bundles()
