"""Any of our processes may be killed at any moment, and any number of commands may run at once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from world.command import Command, Result
from world.rest import at_rest
from world.traces import Directories

LONG = ("host", "--", "sh", "-c", "echo ready; sleep 600 & wait")


@pytest.fixture(autouse=True)
def _removed(jubako: Command, directories: Directories):
    yield
    jubako("rm", "--all", "--force", check=True)
    assert left(directories) == []


def left(directories: Directories) -> list[str]:
    """What is still in the directories of containers, names and run-time state."""
    places = (directories.data / "containers", directories.data / "names", directories.run / "containers")
    return [entry for place in places if place.is_dir() for entry in os.listdir(place)]


def inspect(jubako: Command, name: str) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = jubako("inspect", name, check=True).json[0]
    return found


def supervisor(jubako: Command, name: str) -> int:
    pid = inspect(jubako, name)["Jubako"]["SupervisorPid"]
    assert isinstance(pid, int)
    return pid


def gone(*pids: object) -> bool:
    """Whether the processes have ended (a zombie has)."""
    until = time.monotonic() + 5
    while any(_lives(pid) for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _lives(pid: object) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def until(condition: Callable[[], bool], seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_a_killed_supervisor_takes_the_container_with_it_and_the_next_command_says_so(jubako):
    jubako("run", "-d", "--name", "one", *LONG, check=True)
    waiter, follower = jubako.start("wait", "one"), jubako.start("logs", "-f", "one")
    init, monitor = inspect(jubako, "one")["State"]["Pid"], supervisor(jubako, "one")
    at_rest(waiter.pid)
    at_rest(follower.pid)
    os.kill(monitor, 9)
    assert gone(init, monitor)
    assert jubako("ps", "-a", "--format", "{{.Status}}").stdout.startswith("Exited (137)")
    assert "supervisor was killed" in str(inspect(jubako, "one")["State"]["Error"])
    assert waiter.communicate(timeout=5)[0] == "137\n"
    assert follower.wait(5) == 0
    jubako("start", "one", check=True)
    assert inspect(jubako, "one")["State"]["Running"]


def test_what_removes_itself_is_removed_by_whoever_comes_next_when_its_supervisor_was_killed(jubako, directories):
    jubako("run", "-d", "--rm", "--name", "one", *LONG, check=True)
    monitor = supervisor(jubako, "one")
    os.kill(monitor, 9)
    assert gone(monitor)
    assert left(directories) != []
    assert jubako("ps", "-aq", check=True).stdout == ""
    assert left(directories) == []


@pytest.mark.parametrize("flags", [(), ("--rm",)])
def test_a_foreground_caller_learns_that_its_supervisor_was_killed(jubako, flags):
    running = jubako.start("run", *flags, "--name", "one", *LONG)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    os.kill(supervisor(jubako, "one"), 9)
    assert running.wait(5) == 137
    assert jubako("ps", "-a", "--format", "{{.Names}}").lines == ([] if flags else ["one"])


@pytest.mark.parametrize("flags", [(), ("--rm",), ("-i",)])
def test_a_container_in_the_foreground_does_not_outlive_its_caller(jubako, flags):
    running = jubako.start("run", *flags, "--name", "one", *LONG)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    init, monitor = inspect(jubako, "one")["State"]["Pid"], supervisor(jubako, "one")
    running.kill()
    assert gone(init, monitor)
    expected = [] if flags == ("--rm",) else ["exited 137"]
    assert jubako("ps", "-a", "--format", "{{.State}} {{.ExitCode}}").lines == expected


def test_a_killed_first_process_is_an_ordinary_end(jubako):
    jubako("run", "-d", "--name", "one", *LONG, check=True)
    waiter = jubako.start("wait", "one")
    at_rest(waiter.pid)
    jubako("exec", "one", "true", check=True)
    jubako("kill", "-s", "9", "one", check=True)
    assert waiter.communicate(timeout=5)[0] == "137\n"
    running = jubako.start("run", "--rm", "--name", "two", *LONG)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    jubako("kill", "two", check=True)
    assert running.wait(5) == 137


def test_a_state_of_another_boot_or_of_a_pid_used_again_is_not_believed(jubako, directories):
    jubako("run", "-d", "--name", "one", *LONG, check=True)
    path = next((directories.data / "containers").iterdir()) / "state.json"
    true_state = json.loads(path.read_text())
    for lie in ({"boot": "00000000-0000-0000-0000-000000000000"}, {"monitor": os.getpid()}, {"monitor_start": 1}):
        path.write_text(json.dumps({**true_state, **lie}))
        assert jubako("top", "one").exit_code == 125, lie
        assert jubako("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one").stdout == "exited 137\n", lie
    path.write_text(json.dumps(true_state))
    os.kill(true_state["monitor"], 9)
    assert gone(true_state["pid"])


def test_a_command_killed_at_any_moment_leaves_a_whole_container_or_none(jubako, directories):
    chance = random.Random(7)
    seen = set()
    for number in range(24):
        detached = number % 2 == 0
        words = ("run", *(("-d",) if detached else ()), "--rm", "--name", "one", "host", "--", "sleep", "600")
        command = jubako.start(*words, stdin=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.02, 0.25))
        command.kill()
        command.wait(5)
        assert until(lambda: _is_settled(jubako))
        states = jubako("ps", "-a", "--format", "{{.Names}} {{.State}}", check=True).lines
        assert states in ([], ["one running"]), number
        seen.add(bool(states))
        jubako("rm", "-f", "one", check=True)
        jubako("ps", "-a", check=True)
        assert until(lambda: left(directories) == []), left(directories)
    assert seen == {True, False}, "the moments were not spread over the whole command"


def _is_settled(jubako: Command) -> bool:
    """Whether no supervisor of a killed caller is at work any more."""
    before = jubako("ps", "-a", "--json").stdout
    time.sleep(0.1)
    after = jubako("ps", "-a", "--json").json
    return [row["ID"] for row in json.loads(before)] == [row["ID"] for row in after]


def test_starting_at_the_same_time_starts_once(jubako, busybox_rootfs):
    script = "echo started >> /count; sleep 600"
    jubako("create", "--name", "one", "--rootfs", f"{busybox_rootfs}:O", "sh", "-c", script, check=True)
    starts = [jubako.start("start", "one") for _ in range(8)]
    assert [each.wait(20) for each in starts] == [0] * 8
    assert jubako("exec", "one", "cat", "/count", check=True).stdout == "started\n"


def test_one_name_goes_to_one_container_only(jubako):
    makers = [jubako.start("create", "--name", "one", "host", "--", "true") for _ in range(8)]
    codes = sorted(each.wait(20) for each in makers)
    assert codes == [0] + [125] * 7
    assert len(jubako("ps", "-aq", check=True).lines) == 1


def test_removing_while_starting_ends_in_one_of_the_two(jubako):
    for _round in range(4):
        jubako("create", "--name", "one", "host", "--", "sleep", "600", check=True)
        start, remove = jubako.start("start", "one"), jubako.start("rm", "-f", "one")
        _out, errors = start.communicate(timeout=20)
        assert remove.wait(20) == 0
        assert start.returncode == 0 or "removed" in errors or "no such container" in errors
        assert jubako("ps", "-aq", check=True).stdout == ""


def test_many_commands_at_once_keep_everything_consistent(jubako, directories):
    """Eight workers do five rounds each of whatever comes to mind to the same three names."""
    results: list[Result] = []
    names = ("a", "b", "c")

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _round in range(5):
            one, two = chance.sample(names, 2)
            for words in (
                ("create", "--name", one, "host", "--", "sleep", "600"),
                ("start", one),
                ("rename", one, two),
                chance.choice((("stop", "-t", "0", two), ("kill", two), ("restart", "-t", "0", two), ("ps", "-a"))),
                chance.choice((("rm", two), ("rm", "-f", two), ("inspect", one))),
            ):
                results.append(jubako(*words))

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result in results:
        assert result.exit_code in (0, 125), str(result)
        assert "should not happen" not in result.stderr, str(result)
        assert "Traceback" not in result.stderr, str(result)
    rows = jubako("ps", "-a", "--no-trunc", "--json", check=True).json
    assert sorted(row["Names"] for row in rows) == sorted(os.listdir(directories.data / "names"))
    assert {row["ID"] for row in rows} == set(os.listdir(directories.data / "containers"))
    for row in rows:
        assert os.readlink(directories.data / "names" / row["Names"]) == row["ID"]
        assert _lives(row["Pid"]) == (row["State"] == "running")
