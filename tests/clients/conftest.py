"""Engines of the newest Debian release in a house of their own (see `world.house`), with our runtime as theirs.

JUBAKO_TEST_CLIENTS is the root file system that `make_root.sh` made. JUBAKO_TEST_RUNTIME names another runtime of the
house by its path: what fails with /usr/bin/crun and /usr/sbin/runc too is no fault of ours.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world import client, daemons
from world.account import Account
from world.command import Command
from world.house import House, build_house

HERE = Path(__file__).parent

CONTAINERS_CONF = """
[containers]
# What podman asks for by itself (1,048,576 open files, 2048 processes) is more than every machine's root may give.
default_ulimits = ["nofile=1024:4096", "nproc=4096:8192"]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="package")
def house(ordinary_account: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = os.environ.get("JUBAKO_TEST_CLIENTS", "")
    if not root and "clients" in os.environ.get("JUBAKO_TEST_LOST", "").split():
        pytest.skip("the root file system of the clients could not be made: see tests/clients/make_root.sh")
    assert root, "JUBAKO_TEST_CLIENTS is not set: run ./dev test"
    built = build_house(Path(root), (ordinary_account,), tmp_path_factory.mktemp("house"))
    yield built
    built.close()


@pytest.fixture(scope="package")
def runtime(house: House) -> str:
    """The path of the runtime in the house."""
    return os.environ.get("JUBAKO_TEST_RUNTIME") or client.install_runtime(house)


@pytest.fixture(scope="package")
def archive(house: House, docker_archive: Path) -> str:
    """An archive of the image `busybox:latest`, inside the house."""
    inside = "/tmp/busybox.tar"
    shutil.copy(docker_archive, house.path(inside))
    house.path(inside).chmod(0o644)
    return inside


@pytest.fixture(scope="package")
def podman_configured(house: House) -> None:
    house.path("etc/containers/containers.conf").write_text(CONTAINERS_CONF)


@pytest.fixture(scope="package")
def podman_stores(
    house: House, runtime: str, archive: str, podman_configured: None, ordinary_account: Account
) -> dict[str, Account | None]:
    """Whose podman has the image: root's and the account's.

    What podman keeps by design (the account's pause process, a group for monitors, a mount for networks) is there then.
    """
    users = {"root": None, "rootless": ordinary_account}
    for account in users.values():
        podman = client.client(house, account, "podman", f"--runtime={runtime}")
        podman("load", "-q", "-i", archive, check=True)
        podman("run", "--rm", "busybox", "true", check=True)
    return users


@pytest.fixture(params=["rootless", "root"])
def podman(
    request: pytest.FixtureRequest, house: House, runtime: str, podman_stores: dict[str, Account | None]
) -> Iterator[Command]:
    """`podman --runtime RUNTIME`, as the ordinary account and as root."""
    yield from _podman(house, runtime, podman_stores[request.param])


@pytest.fixture
def rootless_podman(house: House, runtime: str, podman_stores: dict[str, Account | None]) -> Iterator[Command]:
    yield from _podman(house, runtime, podman_stores["rootless"])


@pytest.fixture
def root_podman(house: House, runtime: str, podman_stores: dict[str, Account | None]) -> Iterator[Command]:
    yield from _podman(house, runtime, podman_stores["root"])


def _podman(house: House, runtime: str, account: Account | None) -> Iterator[Command]:
    command = client.client(house, account, "podman", f"--runtime={runtime}")
    yield command
    command.close()
    command("pod", "rm", "--all", "--force", "--time=0")
    command("rm", "--all", "--force", "--time=0", "--volumes")


@pytest.fixture(autouse=True)
def _leaves_nothing_in_the_house(
    request: pytest.FixtureRequest, house: House, ordinary_account: Account
) -> Iterator[None]:
    """As `clean` does for the machine. Daemons start before it looks, since their fixtures are of the package."""
    before = client.look(house, (ordinary_account,))
    yield
    left = client.left_since(house, (ordinary_account,), before)
    if left:
        pytest.fail("not as it was before the test:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def house_file(house: House, request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], str]]:
    """`house_file(NAME, TEXT)`: the path inside of a file that everyone can read; gone after the test."""
    directory = house.path("tmp/files")
    directory.mkdir(mode=0o755)

    def write(name: str, text: str) -> str:
        (directory / name).write_text(text)
        return f"/tmp/files/{name}"

    yield write
    shutil.rmtree(directory)


# --- daemons ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="package")
def containerd(house: House, oci_archive: Path) -> Iterator[None]:
    shutil.copy(oci_archive, house.path("tmp/busybox-oci.tar"))
    with daemons.containerd(house):
        yield


@pytest.fixture(scope="package")
def containerd_image(house: House, runtime: str, containerd: None) -> str:
    """The image that containerd has. One container has run, so its namespace's group and state directory are there."""
    name = "localhost/busybox:latest"
    ctr = client.client(house, None, "ctr")
    ctr("images", "import", "--index-name", name, "/tmp/busybox-oci.tar", check=True)
    ctr("run", "--rm", "--runc-binary", runtime, *daemons.NO_SHARES, name, "first", "true", check=True)
    return name


@pytest.fixture(scope="package")
def dockerd(house: House, runtime: str, archive: str, containerd: None) -> Iterator[None]:
    with daemons.dockerd(house, runtime):
        docker = client.client(house, None, "docker")
        docker("load", "--quiet", "--input", archive, check=True)
        docker("run", "--rm", "--runtime=jubako", "busybox", "true", check=True)
        yield


@pytest.fixture(scope="package")
def slurm(house: House, runtime: str) -> Iterator[None]:
    with daemons.slurm(house, runtime):
        yield
