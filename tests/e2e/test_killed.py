"""Our processes are killed at any moment: nothing goes on, and the commands that come next tidy up what was left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world.account import Account
from world.box import eventually
from world.command import Command, Result
from world.traces import Directories

Run = Callable[..., Result]


def containers(jubako: Command) -> list[str]:
    return jubako("ps", "--all", "--quiet", "--no-trunc", check=True).stdout.split()


@pytest.fixture
def tidy(jubako: Command, directories: Directories) -> Iterator[None]:
    """What a killed command left is found by the commands that come next, and can be removed by them."""
    before = set(containers(jubako))
    yield
    assert eventually(
        lambda: not [c for c in set(containers(jubako)) - before if jubako("rm", "--force", c).exit_code], 10
    )
    assert set(containers(jubako)) == before
    assert not list((directories.data / "containers").glob("*.new")), "what had no state yet went at once, too"


def orphans() -> set[str]:
    """The children of the reaper: pytest itself, pauses of bases, and what has lost its parent."""
    reaper = os.environ.get("JUBAKO_TEST_REAPER", str(os.getpid()))
    return set(Path(f"/proc/{reaper}/task/{reaper}/children").read_text().split())


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("milliseconds", [0, 5, 10, 15, 20, 25, 30, 35, 40, 50, 60, 80, 120])
def test_the_command_killed_at_any_moment_leaves_nothing(milliseconds: int, rootfs: Path, jubako: Command) -> None:
    before = orphans()
    running = jubako.start("run", "--rm", "--rootfs", rootfs, "sleep", "100")
    time.sleep(milliseconds / 1000)
    running.kill()
    assert running.wait(10) == -9
    assert eventually(lambda: orphans() <= before, 5), "the supervisor ends when it sees that nobody waits for it"


@pytest.mark.usefixtures("tidy")
def test_the_children_of_the_command_killed_at_any_moment_end_it_with_an_error(rootfs: Path, jubako: Command) -> None:
    for attempt in range(12):
        running = jubako.start("run", "--rm", "--rootfs", rootfs, "sleep", "100")
        victims: list[int] = []

        def find(depth: int = attempt % 2, top: int = running.pid, found: list[int] = victims) -> bool:
            pid = top
            for _ in range(depth + 1):
                try:
                    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                except (FileNotFoundError, ProcessLookupError):
                    return False
                if not children:
                    return False
                pid = int(children[0])
            found.append(pid)
            return True

        assert eventually(find, 10)
        time.sleep(attempt * 0.002)
        os.kill(victims[0], signal.SIGKILL)
        code = running.wait(15)
        assert running.stderr is not None
        said = running.stderr.read()
        assert code in (125, 137), (attempt, code, said)
        assert "Traceback" not in said, said
        if code == 125:
            assert said.startswith("jubako: "), said


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("when", [1, 3, 10, 30, 60, 100, 150, 200, 300, 400, 500])
def test_whoever_makes_the_nth_system_call_killed_leaves_nothing(
    when: int, rootfs: Path, jubako: Command, account: Account, tmp_path: Path, program: Callable[..., str]
) -> None:
    # every process of a start is killed at its own n-th call of these: files, mounts, namespaces, messages
    calls = "%file,%network,%process,mount,umount2,move_mount,open_tree,mount_setattr,setns,unshare,write"
    traced = (program("strace"), "-f", "-qq", "-o", "/dev/null", "-e", f"inject={calls}:signal=KILL:when={when}")
    command = Command(account, tmp_path, traced)
    told = command("run", "--rm", "--rootfs", rootfs, "true", timeout=40)
    assert told.exit_code in (0, -9, 125, 137), told
    assert "Traceback" not in told.stderr, told


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("milliseconds", [1, 20, 60])
def test_loading_killed_at_any_moment_can_be_repeated(
    milliseconds: int, docker_archive: Path, jubako: Command, run: Run
) -> None:
    running = jubako.start("load", "-i", docker_archive)
    time.sleep(milliseconds / 1000)
    running.kill()
    running.wait(10)
    jubako("load", "-i", docker_archive, check=True)
    try:
        assert run("busybox", "echo", "whole").stdout == "whole\n"
    finally:
        jubako("rmi", "busybox", check=True)
        jubako("image", "prune", "--force")
