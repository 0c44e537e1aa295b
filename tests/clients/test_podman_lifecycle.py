"""A container's life under podman and conmon: created, started, looked at, paused, stopped, killed, removed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from world.box import eventually
from world.command import Command
from world.house import House

WAITING = ("sh", "-c", "trap 'exit 7' TERM; echo started; while :; do sleep 0.1; done")


def status(podman: Command, name: str) -> str:
    return podman("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name, check=True).stdout.strip()


def test_created_started_and_ended_are_told_apart(podman: Command) -> None:
    podman("create", "--name", "life", "busybox", *WAITING, check=True)
    assert status(podman, "life") == "created 0"
    podman("start", "life", check=True)
    assert status(podman, "life") == "running 0"
    podman("stop", "life", check=True)
    assert status(podman, "life") == "exited 7"


def test_init_makes_the_container_and_start_runs_it(podman: Command) -> None:
    podman("create", "--name", "two-steps", "busybox", "sh", "-c", "echo ran; exit 5", check=True)
    podman("init", "two-steps", check=True)
    assert status(podman, "two-steps") == "initialized 0"
    assert podman("logs", "two-steps", check=True).stdout == ""
    assert podman("start", "--attach", "two-steps").exit_code == 5
    assert podman("logs", "two-steps", check=True).stdout == "ran\n"


def test_a_container_that_was_made_and_never_started_can_be_removed(podman: Command) -> None:
    podman("create", "--name", "unborn", "busybox", *WAITING, check=True)
    podman("init", "unborn", check=True)
    podman("rm", "--force", "--time", "0", "unborn", check=True)
    assert podman("ps", "--all", "--quiet", check=True).stdout == ""


def test_logs_keep_both_streams_and_follow(podman: Command) -> None:
    script = "for n in 1 2 3; do echo out $n; echo err $n >&2; sleep 0.1; done"
    podman("run", "-d", "--name", "talker", "busybox", "sh", "-c", script, check=True)
    said = podman("logs", "--follow", "talker", check=True)
    assert said.stdout == "out 1\nout 2\nout 3\n"
    assert said.stderr == "err 1\nerr 2\nerr 3\n"


def test_stop_sends_the_signal_of_the_image_and_then_kills(podman: Command) -> None:
    podman(
        "run",
        "-d",
        "--name",
        "polite",
        "--stop-signal",
        "USR1",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 9' USR1; while :; do sleep 0.1; done",
        check=True,
    )
    podman("run", "-d", "--name", "deaf", "busybox", "sh", "-c", "trap : TERM; while :; do sleep 0.1; done", check=True)
    podman("stop", "polite", check=True)
    podman("stop", "--time", "1", "deaf", check=True)
    assert status(podman, "polite") == "exited 9"
    assert status(podman, "deaf") == "exited 137"


@pytest.mark.parametrize(("signal", "code"), [("TERM", 7), ("15", 7), ("SIGTERM", 7), ("KILL", 137)])
def test_kill_sends_the_signal(podman: Command, signal: str, code: int) -> None:
    podman("run", "-d", "--name", "target", "busybox", *WAITING, check=True)
    assert eventually(lambda: podman("logs", "target").stdout == "started\n")
    podman("kill", "--signal", signal, "target", check=True)
    assert podman("wait", "target", check=True).stdout == f"{code}\n"


def test_a_paused_container_does_not_run_until_it_is_resumed(podman: Command) -> None:
    podman("run", "-d", "--name", "clock", "busybox", "sh", "-c", "while :; do echo tick; sleep 0.05; done", check=True)
    assert eventually(lambda: "tick" in podman("logs", "clock").stdout)
    podman("pause", "clock", check=True)
    assert status(podman, "clock") == "paused 0"
    before = podman("logs", "clock").stdout
    time.sleep(0.4)
    assert podman("logs", "clock").stdout == before
    podman("unpause", "clock", check=True)
    assert eventually(lambda: len(podman("logs", "clock").stdout) > len(before))
    assert status(podman, "clock") == "running 0"


def test_a_paused_container_is_removed_by_force(podman: Command) -> None:
    podman("run", "-d", "--name", "frozen", "busybox", *WAITING, check=True)
    podman("pause", "frozen", check=True)
    podman("rm", "--force", "--time", "0", "frozen", check=True)
    assert podman("ps", "--all", "--quiet", check=True).stdout == ""


def test_restarting_runs_the_program_again(podman: Command) -> None:
    podman(
        "run",
        "-d",
        "--name",
        "again",
        "busybox",
        "sh",
        "-c",
        "echo run; trap 'exit 0' TERM; while :; do sleep 0.1; done",
        check=True,
    )
    assert eventually(lambda: podman("logs", "again").stdout == "run\n")
    podman("restart", "again", check=True)
    assert eventually(lambda: podman("logs", "again").stdout == "run\nrun\n")


def test_a_restart_policy_starts_it_again(podman: Command) -> None:
    podman(
        "run",
        "-d",
        "--name",
        "stubborn",
        "--restart",
        "on-failure:2",
        "busybox",
        "sh",
        "-c",
        "echo try; exit 1",
        check=True,
    )
    assert eventually(lambda: podman("logs", "stubborn").stdout == "try\ntry\ntry\n", timeout=20)
    assert eventually(lambda: status(podman, "stubborn") == "exited 1")


def test_attaching_shows_what_follows_and_passes_input(podman: Command) -> None:
    podman("run", "-d", "-i", "--name", "echoing", "busybox", "sh", "-c", "read -r line; echo got $line", check=True)
    result = podman("attach", "echoing", input="something\n")
    assert (result.stdout.strip(), result.exit_code) == ("got something", 0)


def test_the_processes_of_a_container_are_listed(podman: Command) -> None:
    podman("run", "-d", "--name", "listed", "busybox", "sh", "-c", "sleep 100 & sleep 200 & wait", check=True)
    assert eventually(lambda: podman("top", "listed", "args").stdout.split()[-4:] == ["sleep", "100", "sleep", "200"])


def test_files_are_copied_in_and_out(podman: Command, house_file: Callable[[str, str], str]) -> None:
    given = house_file("given", "carried\n")
    podman("run", "-d", "--name", "desk", "busybox", *WAITING, check=True)
    podman("cp", given, "desk:/tmp/given", check=True)
    assert podman("exec", "desk", "cat", "/tmp/given", check=True).stdout == "carried\n"
    assert podman("cp", "desk:/tmp/given", "-", check=True).stdout.count("carried\n") == 1


def test_a_healthy_container_is_told_from_a_sick_one(podman: Command) -> None:
    podman(
        "run",
        "-d",
        "--name",
        "patient",
        "--health-interval",
        "disable",
        "--health-retries",
        "1",
        "--health-cmd",
        "test -e /tmp/well",
        "busybox",
        *WAITING,
        check=True,
    )
    assert podman("healthcheck", "run", "patient").exit_code == 1
    health = podman("inspect", "--format", "{{.State.Health.Status}}", "patient")
    assert health.stdout == "unhealthy\n", str(health)
    podman("exec", "patient", "touch", "/tmp/well", check=True)
    assert podman("healthcheck", "run", "patient").exit_code == 0
    assert podman("inspect", "--format", "{{.State.Health.Status}}", "patient").stdout == "healthy\n"


def test_the_process_id_that_podman_knows_is_the_programs(podman: Command, house: House) -> None:
    podman("run", "-d", "--name", "known", "busybox", *WAITING, check=True)
    pid = podman("inspect", "--format", "{{.State.Pid}}", "known", check=True).stdout.strip()
    assert "trap 'exit 7' TERM" in house.path(f"proc/{pid}/cmdline").read_text()


def test_the_runtime_is_named_in_what_podman_tells(podman: Command, runtime: str) -> None:
    info = json.loads(podman("info", "--format", "json", check=True).stdout)
    assert info["host"]["ociRuntime"]["path"] == runtime
    assert (
        runtime.rpartition("/")[2] in info["host"]["ociRuntime"]["version"]
        or "version" in info["host"]["ociRuntime"]["version"]
    )


def test_a_container_goes_on_from_its_checkpoint(root_podman: Command) -> None:
    script = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.1; done"
    root_podman("run", "-d", "--network=none", "--name", "counter", "busybox", "sh", "-c", script, check=True)
    assert eventually(lambda: "\n3\n" in root_podman("logs", "counter").stdout)
    root_podman("container", "checkpoint", "counter", check=True)
    assert status(root_podman, "counter").startswith("exited")
    before = root_podman("logs", "counter").lines
    root_podman("container", "restore", "counter", check=True)
    assert eventually(lambda: len(root_podman("logs", "counter").lines) > len(before) + 2)
    numbers = [int(line) for line in root_podman("logs", "counter").lines]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_change_of_the_file_system_is_seen_and_committed(podman: Command) -> None:
    podman("run", "--name", "changed", "busybox", "sh", "-c", "echo new >/new", check=True)
    assert "A /new\n" in podman("diff", "changed", check=True).stdout
    podman("commit", "-q", "changed", "changed-image", check=True)
    result = podman("run", "--rm", "changed-image", "cat", "/new")
    podman("rmi", "--force", "changed-image", check=True)
    assert result.stdout == "new\n"


def test_ten_containers_at_once(podman: Command) -> None:
    running = [podman.start("run", "--rm", "busybox", "sh", "-c", f"echo {number}; sleep 0.5") for number in range(10)]
    assert [process.communicate(timeout=60)[0] for process in running] == [f"{number}\n" for number in range(10)]
    assert [process.returncode for process in running] == [0] * 10


def test_a_limit_that_this_machine_cannot_keep_is_refused_by_name(root_podman: Command, house: House) -> None:
    if "memory" in (house.group / "cgroup.controllers").read_text():
        result = root_podman(
            "run", "--rm", "--memory", "64m", "busybox", "cat", "/sys/fs/cgroup/memory.max", check=True
        )
        assert result.stdout == f"{64 << 20}\n"
        return
    result = root_podman("run", "--rm", "--memory", "64m", "busybox", "true")
    assert result.exit_code != 0
    assert "memory" in result.stderr
