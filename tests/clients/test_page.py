"""The page that tells how to plug the runtime into engines: its files are written, its commands run in the house."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from world import client, daemons, pages
from world.account import Account
from world.house import House

PAGE = Path(__file__).parents[2] / "docs/how-to/use-as-an-oci-runtime.md"
MARK = "<!-- tested: with real clients -->"


@pytest.fixture(scope="package")
def files(house: House, runtime: str) -> dict[str, str]:
    """The page's files. Those of podman and containerd are written into the house; the daemons' have been read."""
    if os.environ.get("JUBAKO_TEST_RUNTIME"):
        pytest.skip("the page is about jubako-runtime")
    assert MARK in PAGE.read_text()
    found = pages.files(PAGE)
    for path in ("/etc/containers/containers.conf.d/jubako.conf", "/etc/containerd/conf.d/jubako.toml"):
        house.path(path).parent.mkdir(parents=True, exist_ok=True)
        house.path(path).write_text(found[path])
    return found


def test_the_commands_say_what_the_page_shows(
    house: House,
    files: dict[str, str],
    podman_stores: dict[str, Account | None],
    dockerd: None,
    containerd_image: str,
    ordinary_account: Account,
    tmp_path: Path,
) -> None:
    session = [shown for shown in pages.read_session(PAGE) if shown.output is not None]
    outputs = pages.run_session(session, tmp_path, dict(os.environ), prefix=(*house.prefix(), "env", "-C", "/root"))
    told = pages.differences(session, outputs, ordinary_account)
    if told:
        pytest.fail("\n\n".join(told), pytrace=False)


def test_docker_and_slurm_were_set_up_as_the_page_says(files: dict[str, str], runtime: str) -> None:
    assert json.loads(files["/etc/docker/daemon.json"])["runtimes"] == {"jubako": {"path": runtime}}
    assert files["/etc/slurm/oci.conf"].strip() == daemons.OCI_CONF.format(runtime=runtime).strip()


def test_containerd_understands_the_handler_for_kubernetes(house: House, files: dict[str, str], runtime: str) -> None:
    containerd = client.client(house, None, "containerd")
    dumped = containerd("--config", "/etc/containerd/conf.d/jubako.toml", "config", "dump", check=True).stdout
    handler = dumped.partition("containerd.runtimes.jubako]")[2].partition("containerd.runtimes.runc]")[0]
    assert f'BinaryName = "{runtime}"' in handler
    assert 'runtime_type = "io.containerd.runc.v2"' in handler
