"""Walkthrough 5: whatever is killed, at whatever moment, nothing of a fake root goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from world import programs
from world.box import eventually
from world.command import Command
from world.fakeroot import descendants, is_over, open_fake_root

FLAGS = ("--net=slirp4netns", "--copy-up=/etc", "--port-driver=builtin", "-p", "127.0.0.1:18237:80/tcp")
VARIANTS = [(), ("--pidns",)]


def orphans() -> set[str]:
    """The children of the reaper: pytest itself, pauses of bases, and what has lost its parent."""
    reaper = os.environ.get("JUBAKO_TEST_REAPER", str(os.getpid()))
    return set(Path(f"/proc/{reaper}/task/{reaper}/children").read_text().split())


@pytest.mark.parametrize("milliseconds", [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 100, 150])
def test_the_command_killed_at_any_moment_leaves_nothing(milliseconds: int, jubako: Command, tmp_path: Path) -> None:
    programs.require("slirp4netns")
    before = orphans()
    state = tmp_path / "state"
    for flags in VARIANTS:
        running = jubako.start("rootless", f"--state-dir={state}", *FLAGS, *flags, "sleep", "100")
        time.sleep(milliseconds / 1000)
        running.kill()
        assert running.wait(10) == -9
        assert eventually(lambda: orphans() <= before, 5), "all that it had begun ends with it"
    assert not set(os.listdir(state) if state.exists() else ()) - {"lock"}
    assert jubako("rootless", f"--state-dir={state}", *FLAGS, "true").exit_code == 0, "and the next one starts"
    assert not state.exists()


@pytest.mark.parametrize("flags", VARIANTS, ids=["plain", "pidns"])
@pytest.mark.parametrize("victim", ["supervisor", "program", "command", "command and supervisor"])
def test_whoever_is_killed_the_others_end(jubako: Command, tmp_path: Path, victim: str, flags: tuple[str, ...]) -> None:
    programs.require("slirp4netns")
    root = open_fake_root(jubako, tmp_path / "state", *FLAGS, *flags)
    program, supervisor, all_below = root.program, root.supervisor, descendants(root.running.pid)
    assert {program, supervisor} < all_below, "and helpers"
    victims = {"supervisor": (supervisor,), "program": (program,), "command": (root.running.pid,)}
    for pid in victims.get(victim, (root.running.pid, supervisor)):
        os.kill(pid, signal.SIGKILL)
    code = root.running.wait(10)
    assert code == (-9 if "command" in victim else 137)
    assert is_over(*all_below)
    if victim != "command and supervisor":
        assert eventually(lambda: not root.state.exists(), 5)
    if victim == "supervisor":
        assert root.running.stderr is not None
        assert "the supervisor was ended" in root.running.stderr.read()


def test_helpers_may_end_and_the_program_goes_on(jubako: Command, tmp_path: Path) -> None:
    programs.require("slirp4netns")
    root = open_fake_root(jubako, tmp_path / "state", "--net=slirp4netns", "--copy-up=/etc")
    (helper,) = descendants(root.supervisor)
    os.kill(helper, signal.SIGKILL)
    assert eventually(lambda: not descendants(root.supervisor), 5), "it is buried"
    assert root.ask("GET", "/v1/info")[0] == 200
    assert root.close() == 0
    assert root.running.stderr is not None
    assert "slirp4netns has ended by signal 9" in root.running.stderr.read()


def test_what_the_program_leaves_in_a_pid_namespace_ends_with_it(jubako: Command) -> None:
    before = orphans()
    jubako("rootless", "--pidns", "sh", "-c", "setsid sleep 100 >&- 2>&- & exit 0", check=True)
    assert eventually(lambda: orphans() <= before, 5)


def test_an_interrupt_during_the_start_ends_it(jubako: Command, tmp_path: Path) -> None:
    before = orphans()
    for attempt in range(8):
        running = jubako.start("rootless", f"--state-dir={tmp_path}/state", *FLAGS[:2], "sleep", "100")
        time.sleep(0.01 + attempt * 0.01)
        running.send_signal(signal.SIGINT)
        assert running.wait(10) in (130, -2), attempt
        assert eventually(lambda: orphans() <= before, 5)
