"""Walkthrough 5.6, rootless Docker: the distribution's dockerd-rootless.sh with our fake root by RootlessKit's name."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from world import client
from world.account import Account
from world.box import eventually
from world.command import Command
from world.daemons import end, registry
from world.house import ADDRESS, House

SCRIPT = "/usr/share/docker.io/contrib/dockerd-rootless.sh"


@pytest.fixture(params=["slirp4netns", "slirp4netns, all namespaces", "pasta"], scope="module")
def daemon(
    request: pytest.FixtureRequest, house: House, runtime: str, archive: str, ordinary_account: Account
) -> Iterator[Command]:
    """`docker` as the account, whose own daemon runs in a fake root."""
    network, _, more = request.param.partition(", ")
    where = f"{ordinary_account.runtime_directory}/docker"
    environment = {
        "DOCKERD_ROOTLESS_ROOTLESSKIT_NET": network,
        "DOCKERD_ROOTLESS_ROOTLESSKIT_FLAGS": "--pidns --utsns --ipcns" if more else "",
        "DOCKER_HOST": f"unix://{where}.sock",
    }
    words = tuple(f"{name}={value}" for name, value in environment.items())
    flags = (
        "--storage-driver=vfs", f"--exec-root={where}-exec", f"--pidfile={where}.pid", "--log-level=warn",
        f"--insecure-registry={ADDRESS}:5000",
    )  # fmt: skip
    log = house.scratch / "rootless-docker.log"
    with open(log, "wb") as output:
        running = subprocess.Popen(
            (*house.prefix(ordinary_account), "env", *words, "sh", SCRIPT, *flags, f"--host=unix://{where}.sock"),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    docker = client.client(house, ordinary_account, "env", *words, "docker")
    try:
        until = time.monotonic() + 60
        while docker("version").exit_code:
            assert running.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < until, log.read_text(errors="replace")[-3000:]
            time.sleep(0.2)
        docker("load", "--quiet", "--input", archive, check=True)
        docker("run", "--rm", "busybox", "true", check=True)
        yield docker
    finally:
        docker.close()
        end(running)
    assert running.returncode == 0, log.read_text(errors="replace")[-3000:]
    assert not house.path(f"{ordinary_account.runtime_directory}/dockerd-rootless").exists(), "its state directory"
    remove = ("rootlesskit", "rm", "-rf", f"{ordinary_account.home}/.local/share/docker")
    subprocess.run((*house.prefix(ordinary_account), *remove), check=True)


def test_the_daemon_says_that_it_is_rootless(daemon: Command) -> None:
    assert "rootless" in daemon("info", "--format", "{{.SecurityOptions}}", check=True).stdout
    shown = daemon("version", "--format", "{{json .Server.Components}}", check=True).stdout
    assert "jubako" in shown, f"it asks the REST API of the fake root for its version: {shown}"


def test_a_container_runs(daemon: Command) -> None:
    result = daemon("run", "--rm", "-i", "busybox", "sh", "-c", "id -u; cat; exit 5", input="input\n")
    assert (result.stdout, result.exit_code) == ("0\ninput\n", 5), str(result)


def test_containers_talk_to_each_other_by_name(daemon: Command) -> None:
    daemon("network", "create", "among", check=True)
    try:
        page = "echo a page >/index.html; exec httpd -f -p 80 -h /"
        daemon("run", "-d", "--name", "web", "--network", "among", "busybox", "sh", "-c", page, check=True)
        fetch = ("run", "--rm", "--network", "among", "busybox", "wget", "-qO-", "http://web/index.html")
        assert eventually(lambda: daemon(*fetch).stdout == "a page\n", 15), str(daemon(*fetch))
    finally:
        daemon("rm", "--force", "web")
        daemon("network", "rm", "among", check=True)


def test_a_published_port_is_reached_from_the_host(daemon: Command, house: House, ordinary_account: Account) -> None:
    page = "echo a page >/index.html; exec httpd -f -p 80 -h /"
    daemon("run", "-d", "--name", "web", "-p", "127.0.0.1:18080:80", "busybox", "sh", "-c", page, check=True)
    fetch = client.client(house, None, "busybox")
    assert eventually(lambda: fetch("wget", "-qO-", "http://127.0.0.1:18080/index.html").stdout == "a page\n", 15)
    daemon("rm", "--force", "web", check=True)
    assert fetch("wget", "-qO-", "http://127.0.0.1:18080/index.html").exit_code != 0


def test_an_image_is_built(daemon: Command, house: House, ordinary_account: Account) -> None:
    text = "FROM busybox\nRUN echo built >/built && chown 1000:1000 /built\nCMD cat /built\n"
    environment = {"DOCKER_BUILDKIT": "0"}
    daemon("build", "--quiet", "--tag", "made", "-", input=text, env=environment, check=True)
    try:
        assert daemon("run", "--rm", "made", check=True).stdout == "built\n"
        assert daemon("run", "--rm", "made", "stat", "-c", "%u", "/built", check=True).stdout == "1000\n"
    finally:
        daemon("rmi", "made", check=True)


def test_images_go_to_a_registry_and_come_back(daemon: Command, house: House) -> None:
    with registry(house) as place:
        name = f"{place}/some/busybox:1"
        daemon("tag", "busybox", name, check=True)
        try:
            daemon("push", "--quiet", name, check=True)
            daemon("rmi", name, check=True)
            daemon("pull", "--quiet", name, check=True)
            assert daemon("run", "--rm", name, "echo", "pulled", check=True).stdout == "pulled\n"
        finally:
            daemon("rmi", name)
