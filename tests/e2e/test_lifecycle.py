"""A container's life from the command line: create, start, stop, kill, wait, restart, rm, rename, ps, inspect, top."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from world.command import Command
from world.rest import at_rest

OBEDIENT = "trap 'exit 7' TERM; trap 'exit 8' INT; echo ready; while :; do sleep 0.05; done"
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.fixture(autouse=True)
def _removed(jubako: Command):
    yield
    jubako("rm", "--all", "--force", check=True)


def detached(jubako: Command, name: str, script: str, *flags: str | Path) -> str:
    """A container in the background that has said something; its id."""
    identifier = jubako(
        "run", "-d", "--name", name, *flags, "host", "--", "sh", "-c", script, check=True
    ).stdout.strip()
    follower = jubako.start("logs", "-f", name)
    assert follower.stdout is not None
    if "echo ready" in script:
        assert follower.stdout.readline() == "ready\n"
    follower.kill()
    return identifier


def state(jubako: Command, name: str) -> dict[str, object]:
    found: dict[str, object] = jubako("inspect", name, check=True).json[0]["State"]
    return found


def test_a_created_container_runs_when_it_is_started_and_keeps_its_files(jubako, busybox_rootfs):
    script = "echo once >> /file; cat /file; exit 4"
    jubako("create", "--name", "job", "--rootfs", f"{busybox_rootfs}:O", "sh", "-c", script, check=True)
    assert state(jubako, "job")["Status"] == "created"
    first = jubako("start", "-a", "job")
    second = jubako("start", "-a", "job")
    assert (first.stdout, first.exit_code) == ("once\n", 4)
    assert (second.stdout, second.exit_code) == ("once\nonce\n", 4)
    assert not os.path.exists(busybox_rootfs / "file")


def test_start_gives_input_when_it_is_asked_for(jubako):
    jubako("create", "-i", "--name", "cat", "host", "--", "cat", check=True)
    assert jubako("start", "-a", "-i", "cat", input="typed\n").stdout == "typed\n"
    assert jubako("start", "-a", "cat", input="not sent\n").stdout == ""


def test_starting_a_container_that_runs_changes_nothing(jubako):
    detached(jubako, "one", STUBBORN)
    before = state(jubako, "one")
    assert jubako("start", "one", check=True).stdout == "one\n"
    assert state(jubako, "one") == before


def test_a_start_that_fails_says_why_and_leaves_the_container_as_it_was(jubako, rootfs):
    jubako("create", "--name", "bad", "--rootfs", rootfs, "/no/such/program", check=True)
    for arguments in (("start", "bad"), ("start", "-a", "bad")):
        result = jubako(*arguments)
        assert result.exit_code == 127
        assert "/no/such/program" in result.stderr
    found = state(jubako, "bad")
    assert found["Status"] == "created"
    assert "/no/such/program" in str(found["Error"])


def test_stop_sends_the_stop_signal_and_waits_for_the_end(jubako):
    detached(jubako, "one", OBEDIENT)
    assert jubako("stop", "one", check=True).stdout == "one\n"
    assert state(jubako, "one")["ExitCode"] == 7
    detached(jubako, "two", OBEDIENT, "--stop-signal", "INT")
    jubako("stop", "two", check=True)
    assert state(jubako, "two")["ExitCode"] == 8
    detached(jubako, "three", OBEDIENT)
    jubako("stop", "--signal", "SIGINT", "three", check=True)
    assert state(jubako, "three")["ExitCode"] == 8
    assert jubako("stop", "three", check=True).stdout == "three\n"


def test_stop_kills_what_does_not_end_in_time(jubako):
    detached(jubako, "one", STUBBORN)
    detached(jubako, "two", STUBBORN, "--stop-timeout", "0")
    begin = time.monotonic()
    assert jubako("stop", "-t", "1", "one", "two", check=True).lines == ["one", "two"]
    assert 1 <= time.monotonic() - begin < 8
    assert [state(jubako, name)["ExitCode"] for name in ("one", "two")] == [137, 137]


def test_kill_sends_any_signal_to_the_first_process(jubako):
    detached(jubako, "one", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done")
    assert jubako("kill", "-s", "USR1", "one", check=True).stdout == "one\n"
    assert jubako("wait", "one", check=True).stdout == "9\n"
    jubako("start", "one", check=True)
    jubako("kill", "one", check=True)
    assert state(jubako, "one")["ExitCode"] == 137
    result = jubako("kill", "one")
    assert (result.exit_code, "not running" in result.stderr) == (125, True)
    assert jubako("kill", "-s", "NOSUCH", "one").exit_code == 125


def test_wait_prints_the_exit_codes_in_the_order_asked_also_of_what_is_removed(jubako):
    detached(jubako, "slow", "sleep 0.6; exit 3")
    jubako("run", "-d", "--rm", "--name", "gone", "host", "--", "sh", "-c", "sleep 0.3; exit 5", check=True)
    detached(jubako, "ended", "exit 6")
    assert jubako("wait", "slow", "gone", "ended", check=True).lines == ["3", "5", "6"]
    assert jubako("wait", "gone").exit_code == 125


def test_waiting_for_several_ends_with_ctrl_c(jubako):
    detached(jubako, "one", STUBBORN)
    detached(jubako, "two", STUBBORN)
    for words in (("wait", "one"), ("wait", "one", "two"), ("logs", "-f", "one")):
        waiter = jubako.start(*words)
        at_rest(waiter.pid)
        waiter.send_signal(2)
        assert waiter.wait(5) == 130, words


def test_wait_knows_other_conditions(jubako):
    jubako("create", "--name", "one", "host", "--", "sleep", "9", check=True)
    running = jubako.start("wait", "--condition", "running", "one")
    removed = jubako.start("wait", "--condition", "removed", "one")
    at_rest(running.pid)
    at_rest(removed.pid)
    assert running.poll() is None
    jubako("start", "one", check=True)
    assert running.wait(5) == 0
    assert removed.poll() is None
    jubako("rm", "-f", "one", check=True)
    assert removed.wait(5) == 0


def test_restart_gives_a_new_process_in_the_same_container(jubako):
    identifier = detached(jubako, "one", OBEDIENT)
    before = state(jubako, "one")["Pid"]
    assert jubako("restart", "one", check=True).stdout == "one\n"
    found = jubako("inspect", "one").json[0]
    assert found["Id"] == identifier
    assert found["State"]["Running"]
    assert found["State"]["Pid"] != before
    jubako("stop", "-t", "0", "one", check=True)
    jubako("restart", "one", check=True)
    assert state(jubako, "one")["Running"]


def test_rm_refuses_what_runs_unless_forced(jubako):
    detached(jubako, "one", STUBBORN)
    result = jubako("rm", "one")
    assert result.exit_code == 125
    assert "it is running" in result.stderr
    assert "--force" in result.stderr
    assert jubako("rm", "-f", "one", check=True).stdout == "one\n"
    assert jubako("ps", "-aq", check=True).stdout == ""
    assert jubako("rm", "one").exit_code == 125
    assert jubako("rm", "-f", "one").exit_code == 0


def test_prune_removes_what_does_not_run_and_has_the_label(jubako):
    detached(jubako, "running", STUBBORN, "--label", "stage=test")
    for name, label in (("wanted", "stage=test"), ("other", "stage=live")):
        jubako("create", "--name", name, "--label", label, "host", "--", "true", check=True)
    assert jubako("container", "prune", "--filter", "label=stage=test").exit_code == 125  # nobody was asked
    jubako("container", "prune", "-f", "--filter", "label=stage=test", check=True)
    assert sorted(jubako("ps", "-a", "--format", "{{.Names}}").lines) == ["other", "running"]
    jubako("container", "prune", "-f", check=True)
    assert jubako("ps", "-a", "--format", "{{.Names}}").lines == ["running"]


def test_rename_moves_the_name_and_takes_nobody_elses(jubako):
    detached(jubako, "one", STUBBORN)
    jubako("create", "--name", "two", "host", "--", "true", check=True)
    taken = jubako("rename", "one", "two")
    assert taken.exit_code == 125
    assert "belongs to" in taken.stderr
    jubako("rename", "one", "three", check=True)
    assert jubako("inspect", "one").exit_code == 125
    assert jubako("stop", "-t", "0", "three", check=True).stdout == "three\n"
    jubako("create", "--name", "one", "host", "--", "true", check=True)
    assert jubako("rename", "one", "../x").exit_code == 125


def test_replace_removes_the_container_of_the_same_name(jubako):
    first = detached(jubako, "one", STUBBORN)
    second = jubako("run", "-d", "--replace", "--name", "one", "host", "--", "sleep", "9", check=True).stdout.strip()
    assert first != second
    assert jubako("ps", "-aq", "--no-trunc").lines == [second]


def test_a_container_with_a_timeout_is_killed_when_it_is_over(jubako):
    begin = time.monotonic()
    assert jubako("run", "--rm", "--timeout", "1", "host", "--", "sleep", "60").exit_code == 137
    assert time.monotonic() - begin < 10


def test_ps_filters_and_counts(jubako):
    detached(jubako, "up", STUBBORN, "--label", "tier=web")
    detached(jubako, "down", "exit 3")
    jubako("wait", "down", check=True)
    jubako("create", "--name", "made", "host", "--", "true", check=True)

    def names(*arguments: str) -> list[str]:
        return sorted(jubako("ps", *arguments, "--format", "{{.Names}}", check=True).lines)

    assert names() == ["up"]
    assert names("-a") == ["down", "made", "up"]
    assert names("-l") == ["made"]
    assert names("-n", "2") == ["down", "made"]
    assert names("--filter", "status=exited") == ["down"]
    assert names("-a", "--filter", "exited=3") == ["down"]
    assert names("-a", "--filter", "exited=0") == []
    assert names("-a", "--filter", "name=ow") == ["down"]
    assert names("-a", "--filter", "label=tier") == ["up"]
    assert names("-a", "--filter", "label=tier=db") == []
    assert names("-a", "--filter", "ancestor=host") == ["down", "made", "up"]
    rows = json.loads(jubako("ps", "-a", "--json", check=True).stdout)
    assert {row["Names"]: row["State"] for row in rows} == {"up": "running", "down": "exited", "made": "created"}


def test_inspect_tells_what_was_asked_for_and_what_goes_on(jubako, tmp_path):
    flags = ("-v", f"{tmp_path}:/data:ro", "-e", "A=b", "--label", "k=v", "--hostname", "box", "-w", "/tmp")
    done = jubako("run", "-d", "--name", "one", *flags, "host", "--", "sleep", "60", check=True)
    identifier = done.stdout.strip()
    found = jubako("inspect", "one", check=True).json[0]
    assert found["Id"] == identifier
    assert (found["Path"], found["Args"]) == ("sleep", ["60"])
    assert found["Config"]["Hostname"] == "box"
    assert "A=b" in found["Config"]["Env"]
    assert found["Config"]["Labels"] == {"k": "v"}
    assert found["Config"]["WorkingDir"] == "/tmp"
    mount = next(each for each in found["Mounts"] if each["Destination"] == "/data")
    assert (mount["Source"], mount["RW"]) == (str(tmp_path), False)
    pid = found["State"]["Pid"]
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0060\x00"
    assert jubako("inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "one").stdout == f"running {pid}\n"
    missing = jubako("inspect", "one", "nobody")
    assert missing.exit_code == 125
    assert "nobody" in missing.stderr


def test_top_shows_the_processes_of_this_container_only(jubako):
    detached(jubako, "one", "sleep 61 & echo ready; sleep 62")
    detached(jubako, "two", "echo ready; sleep 63")
    lines = jubako("top", "one", check=True).lines
    assert "PID" in lines[0]
    assert sorted(line.split()[-1] for line in lines[1:] if "sleep 6" in line and "sh -c" not in line) == ["61", "62"]
    assert all("sleep 63" not in line for line in lines)
    pids = {int(line.split()[0]) for line in jubako("top", "one", "-eo", "pid,args", check=True).lines[1:]}
    assert state(jubako, "one")["Pid"] in pids
    assert jubako("top", "one", "-eo", "args").exit_code == 125
    jubako("stop", "-t", "0", "one", check=True)
    assert jubako("top", "one").exit_code == 125


def test_what_only_a_running_container_can_do_is_refused_with_the_remedy(jubako):
    jubako("create", "--name", "made", "host", "--", "true", check=True)
    for command in ("kill", "top", "attach", "pause"):
        result = jubako(command, "made")
        assert result.exit_code == 125, command
        assert "jubako start made" in result.stderr, command


def test_shutdown_ends_the_base_and_the_next_container_makes_it_anew(jubako):
    assert jubako("system", "shutdown").exit_code == 0
    assert jubako("run", "--rm", "host", "--", "id", "-u").stdout == "0\n"


def test_pausing_without_a_control_group_says_what_is_missing(jubako):
    detached(jubako, "one", STUBBORN)
    if jubako("inspect", "-f", "{{.Jubako.Cgroup}}", "one", check=True).stdout.strip():
        pytest.skip("this session has a delegated control group: see test_lifecycle_cgroup")
    result = jubako("pause", "one")
    assert result.exit_code == 125
    assert "control group" in result.stderr
    assert "hint:" in result.stderr
