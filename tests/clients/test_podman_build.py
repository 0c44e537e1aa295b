"""Building with our runtime: each RUN of `podman build`, and `buildah run` in a working container."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from world import client
from world.account import Account
from world.command import Command
from world.house import House

ISOLATION = "--isolation=oci"  # not the default rootless, which would be buildah's own chroot


@pytest.fixture(params=["rootless", "root"])
def user(request: pytest.FixtureRequest, podman_stores: dict[str, Account | None]) -> Account | None:
    return podman_stores[request.param]


@pytest.fixture
def podman(house: House, runtime: str, user: Account | None) -> Iterator[Command]:
    command = client.client(house, user, "podman", f"--runtime={runtime}")
    yield command
    command.close()
    command("rmi", "--force", "built")
    command("image", "prune", "--force")


@pytest.fixture
def buildah(house: House, user: Account | None, podman_stores: dict[str, Account | None]) -> Iterator[Command]:
    command = client.client(house, user, "buildah")
    yield command
    command.close()
    command("rm", "--all")


def test_the_steps_of_a_build_run(podman: Command, house_file: Callable[[str, str], str]) -> None:
    house_file("given", "carried\n")
    file = house_file(
        "Containerfile",
        "FROM localhost/busybox\n"
        "COPY given /given\n"
        "RUN cat /given >/copy && id -u >/who && echo step ran\n"
        "USER alice\n"
        "WORKDIR /home/alice\n"
        "RUN id -u >/tmp/user; pwd >>/tmp/user\n"
        'CMD ["cat", "/copy", "/who", "/tmp/user"]\n',
    )
    built = podman("build", ISOLATION, "--no-cache", "-t", "built", "-f", file, "/tmp/files")
    assert built.exit_code == 0, str(built)
    assert "step ran\n" in built.stdout
    assert podman("run", "--rm", "built", check=True).lines == ["carried", "0", "1000", "/home/alice"]


def test_a_step_that_fails_ends_the_build_with_its_exit_code(
    podman: Command, house_file: Callable[[str, str], str]
) -> None:
    file = house_file("Containerfile", "FROM localhost/busybox\nRUN echo about to fail; exit 42\n")
    built = podman("build", ISOLATION, "--no-cache", "-f", file, "/tmp/files")
    assert built.exit_code == 42, str(built)
    assert "about to fail" in built.stdout


def test_secrets_and_caches_are_mounted_in_a_step(podman: Command, house_file: Callable[[str, str], str]) -> None:
    secret = house_file("secret", "hush\n")
    file = house_file(
        "Containerfile",
        "FROM localhost/busybox\n"
        "RUN --mount=type=secret,id=word --mount=type=tmpfs,target=/scratch"
        " cp /run/secrets/word /scratch/ && wc -c </scratch/word\n",
    )
    built = podman(
        "build", ISOLATION, "--no-cache", "--secret", f"id=word,src={secret}", "-t", "built", "-f", file, "/tmp/files"
    )
    assert built.exit_code == 0, str(built)
    assert "5\n" in built.stdout


def test_buildah_runs_in_a_working_container(buildah: Command, runtime: str) -> None:
    name = buildah("from", "--pull-never", "localhost/busybox", check=True).stdout.strip()
    run = ("run", ISOLATION, f"--runtime={runtime}")
    result = buildah(*run, name, "--", "sh", "-c", "cat; id -u; exit 5", input="typed\n")
    assert (result.stdout, result.exit_code) == ("typed\n0\n", 5), str(result)
    result = buildah(
        *run, "--user", "alice", "--hostname", "site", name, "--", "sh", "-c", "id -un; hostname", check=True
    )
    assert result.stdout == "alice\nsite\n"


def test_buildah_runs_in_a_terminal(buildah: Command, runtime: str) -> None:
    name = buildah("from", "--pull-never", "localhost/busybox", check=True).stdout.strip()
    terminal = buildah.terminal(
        "run",
        ISOLATION,
        f"--runtime={runtime}",
        "-t",
        name,
        "--",
        "sh",
        "-c",
        "tty; stty size; exit 6",
        rows=21,
        columns=71,
    )
    terminal.read_until("/dev/.*\r\n21 71\r\n")
    assert terminal.wait() == 6
