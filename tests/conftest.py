"""The fixtures of the tests' world; see `world`.

`jubako` runs the installed command, `clean` (automatic for the end-to-end tests) proves that a test left nothing
behind, `rootfs` and the archives are what containers start from. Tests marked `root` run in root's pass only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world import account as accounts
from world import archives, programs
from world.account import Account
from world.cgroup import View, delegated_group
from world.command import Command
from world.rootfs import make_busybox_rootfs
from world.traces import Directories, Machine


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _keep_share(config, items)
    if os.getuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: runs in root's pass of ./dev test"))


def _keep_share(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `JUBAKO_TEST_SHARE=1/2` only every other module is run, the rest in the pass of another account."""
    share, _, shares = os.environ.get("JUBAKO_TEST_SHARE", "1/1").partition("/")
    modules = {path: number for number, path in enumerate(sorted({item.path for item in items}))}
    others = [item for item in items if modules[item.path] % int(shares) != int(share) - 1]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the failures and the last line of this pass for `./dev test` to repeat at the end of all passes."""
    path, reporter = os.environ.get("JUBAKO_TEST_SUMMARY"), config.pluginmanager.get_plugin("terminalreporter")
    if path and reporter:
        failed = [f"FAILED {report.nodeid}" for kind in ("failed", "error") for report in reporter.stats.get(kind, [])]
        summary = ", ".join(text for text, _ in reporter.build_summary_stats_line()[0])
        whose = "root" if os.getuid() == 0 else accounts.myself().name
        Path(path).write_text("\n".join([*failed, f"===== tests as {whose}: {summary} ====="]) + "\n")


# --- accounts and the command -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def account() -> Account:
    """As whom `jubako` runs: whoever runs pytest."""
    return accounts.myself()


@pytest.fixture(scope="session")
def ordinary_account() -> Account:
    """An account without privileges, also in root's pass."""
    found = accounts.ordinary()
    if found is None:
        pytest.skip("root by hand without JUBAKO_TEST_ACCOUNT: run ./dev test")
    return found


@pytest.fixture(scope="session")
def directories(account: Account) -> Directories:
    """Where jubako keeps the account's data and its run-time state."""
    return Directories.of(account)


@pytest.fixture
def jubako(account: Account, tmp_path: Path) -> Iterator[Command]:
    """The installed command as whoever runs pytest, in the test's own directory; ends what the test started with it."""
    command = Command(account, tmp_path)
    yield command
    command.close()


@pytest.fixture
def jubako_as_account(ordinary_account: Account) -> Iterator[Command]:
    """The installed command as an ordinary user, also in root's pass; in the account's home directory."""
    command = Command(ordinary_account, Path(ordinary_account.home), ordinary_account.prefix)
    yield command
    command.close()


@pytest.fixture
def jubako_in_cgroup(ordinary_account: Account) -> Iterator[Command]:
    """The command as an ordinary user whose session has a delegated cgroup v2 (root's pass only)."""
    with delegated_group(ordinary_account) as prefix:
        command = Command(ordinary_account, Path(ordinary_account.home), (*prefix, *ordinary_account.prefix))
        yield command
        command.close()


@pytest.fixture
def view(ordinary_account: Account) -> Iterator[View]:
    """A private view of cgroup v2 with a group delegated to an ordinary user (root's pass only)."""
    with delegated_group(ordinary_account) as prefix:
        yield View(prefix, ordinary_account)


# --- nothing is left behind -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def machine(account: Account) -> Machine:
    """The machine once each account's base exists, which stays between commands by design."""
    ordinary = accounts.ordinary()
    known = (account,) if ordinary in (None, account) else (account, ordinary)
    for each in known:
        Command(each, Path("/"), each.prefix)("run", "--rm", "host", "--", "true")
    return Machine(known)


@pytest.fixture
def clean(machine: Machine) -> Iterator[None]:
    """Fails the test if a process, mount, namespace, cgroup, device, file or descriptor is new on the machine."""
    before = machine.before()
    yield
    left = machine.left_since(before)
    if left:
        pytest.fail("not as it was before the test:\n  " + "\n  ".join(left), pytrace=False)


# --- what containers start from ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def busybox_rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of busybox with users root, daemon, alice (1000) and nobody. Shared: do not write to it."""
    return make_busybox_rootfs(tmp_path_factory.mktemp("busybox") / "rootfs")


@pytest.fixture
def rootfs(busybox_rootfs: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the busybox root file system that the test may change, also from inside as any user."""
    copy = tmp_path / "rootfs"
    shutil.copytree(busybox_rootfs, copy, symlinks=True)
    yield copy
    accounts.remove_tree(copy)


@pytest.fixture(scope="session")
def busybox_layer(busybox_rootfs: Path) -> bytes:
    """The busybox root file system as an uncompressed layer."""
    return archives.layer(busybox_rootfs)


@pytest.fixture(scope="session")
def docker_archive(busybox_layer: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `docker save busybox:latest` writes."""
    path = tmp_path_factory.mktemp("archives") / "busybox.tar"
    return archives.write_docker_archive(path, [busybox_layer], ["busybox:latest"])


@pytest.fixture(scope="session")
def oci_archive(busybox_layer: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same image as an OCI archive, its layer gzip-compressed."""
    path = tmp_path_factory.mktemp("archives") / "busybox-oci.tar"
    return archives.write_oci_archive(path, [busybox_layer], "busybox:latest")


@pytest.fixture(scope="session")
def oci_layout(busybox_layer: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same image as an OCI image layout, a directory."""
    return archives.write_oci_layout(tmp_path_factory.mktemp("layout"), [busybox_layer], "busybox:latest")


@pytest.fixture
def program() -> Callable[..., str]:
    """`program(NAME, PACKAGE)`: the path of a program that the test needs; skipped, visibly, where it cannot be had."""
    return programs.require
