"""Walkthrough 5.6 on the machine itself: the distribution's own dockerd-rootless.sh, with our fake root by its name."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from world import programs
from world.account import Account
from world.box import eventually
from world.command import Command

SCRIPTS = ("/usr/share/docker.io/contrib/dockerd-rootless.sh", "/usr/bin/dockerd-rootless.sh")


@pytest.fixture(scope="module")
def docker(account: Account, docker_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """`docker`, whose daemon runs in a fake root of this account."""
    programs.require("dockerd", "docker.io")
    client = programs.require("docker", "docker.io")
    script = next(path for path in SCRIPTS if os.path.exists(path))
    place = tmp_path_factory.mktemp("docker")
    jubako = Path(os.environ["JUBAKO_TEST_COMMAND"])
    # Beside our programs the script finds ours for RootlessKit's; the client is told where the daemon listens.
    environment = {
        "PATH": f"{jubako.parent}:{os.environ['PATH']}:/usr/sbin:/sbin",
        "XDG_RUNTIME_DIR": str(place), "XDG_DATA_HOME": f"{place}/data", "DOCKER_HOST": f"unix://{place}/docker.sock",
        "DOCKERD_ROOTLESS_ROOTLESSKIT_NET": "slirp4netns", "DOCKER_CONFIG": f"{place}/client",
        "XDG_CONFIG_HOME": f"{place}/config",
    }  # fmt: skip
    log = place / "log"
    flags = ("--storage-driver=vfs", f"--exec-root={place}/exec", f"--pidfile={place}/pid", "--log-level=warn")
    with open(log, "wb") as output:
        running = subprocess.Popen(
            ("sh", script, *flags, f"--data-root={place}/docker", f"--host=unix://{place}/docker.sock"),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **environment},
        )  # fmt: skip
    command = Command(account, place, (), environment, client)
    try:
        until = time.monotonic() + 60
        while command("version").exit_code:
            assert running.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < until, log.read_text(errors="replace")[-3000:]
            time.sleep(0.2)
        command("load", "--quiet", "--input", str(docker_archive), check=True)
        command("run", "--rm", "busybox", "true", check=True)
        yield command
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(30)
        subprocess.run((jubako.with_name("rootlesskit"), "rm", "-rf", f"{place}/docker", f"{place}/data"), check=True)


def test_a_container_runs(docker: Command) -> None:
    result = docker("run", "--rm", "-i", "busybox", "sh", "-c", "id -u; cat; exit 5", input="input\n")
    assert (result.stdout, result.exit_code) == ("0\ninput\n", 5), str(result)


def test_a_published_port_is_reached_from_the_host(docker: Command) -> None:
    page = "echo a page >/index.html; exec httpd -f -p 80 -h /"
    docker("run", "-d", "--name", "web", "-p", "127.0.0.1:18086:80", "busybox", "sh", "-c", page, check=True)
    try:
        fetch = ("curl", "-s", "--max-time", "5", "http://127.0.0.1:18086/index.html")
        got = subprocess.run
        assert eventually(lambda: got(fetch, capture_output=True, text=True).stdout == "a page\n", 15)
    finally:
        docker("rm", "--force", "web", check=True)


def test_an_image_is_built(docker: Command) -> None:
    text = "FROM busybox\nRUN echo built >/built\nCMD cat /built\n"
    docker("build", "--quiet", "--tag", "made", "-", input=text, env={"DOCKER_BUILDKIT": "0"}, check=True)
    assert docker("run", "--rm", "made", check=True).stdout == "built\n"
