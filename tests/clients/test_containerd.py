"""containerd with our runtime behind its shim: `ctr run --runc-binary`, as CRI and Docker use it too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from world import client
from world.box import eventually
from world.command import Command, Result
from world.daemons import NO_SHARES
from world.house import House


@pytest.fixture
def ctr(house: House, containerd: None) -> Iterator[Command]:
    command = client.client(house, None, "ctr")
    yield command
    command.close()
    for name in command("container", "ls", "-q").lines:
        command("task", "rm", "--force", name)
        command("container", "rm", name)


@pytest.fixture
def run(ctr: Command, runtime: str, containerd_image: str) -> Callable[..., Result]:
    """`ctr run` of NAME with the tested runtime; `flags` go before the image."""

    def start(name: str, *argv: str, flags: tuple[str, ...] = (), **options: Any) -> Result:
        return ctr("run", "--runc-binary", runtime, *NO_SHARES, *flags, containerd_image, name, *argv, **options)

    return start


def status(ctr: Command, name: str) -> str:
    rows = [line.split() for line in ctr("task", "ls", check=True).lines[1:]]
    return next((row[2] for row in rows if row[0] == name), "")


def test_output_input_and_exit_code_come_through(run: Callable[..., Result]) -> None:
    result = run("through", "sh", "-c", "head -n 1; echo err >&2; exit 3", flags=("--rm",), input="in\n")
    assert (result.stdout, result.stderr, result.exit_code) == ("in\n", "err\n", 3)


def test_a_program_that_is_missing_is_told_by_name(run: Callable[..., Result]) -> None:
    result = run("missing", "/nowhere", flags=("--rm",))
    assert result.exit_code != 0
    assert "/nowhere" in result.stderr


def test_a_terminal_works(ctr: Command, runtime: str, containerd_image: str) -> None:
    terminal = ctr.terminal(
        "run", "--rm", "-t", "--runc-binary", runtime, *NO_SHARES, containerd_image, "screen", "sh", rows=31, columns=91
    )
    terminal.send("tty; until [ \"$(stty size)\" = '31 91' ]; do sleep 0.1; done; echo siz''ed; exit 6\n")
    terminal.read_until("^/dev/pts/[0-9]+\\s")
    terminal.read_until("^sized\\s")
    assert terminal.wait() == 6


def test_a_task_is_started_entered_and_killed(ctr: Command, run: Callable[..., Result]) -> None:
    run("task", "sleep", "1000", flags=("-d",), check=True)
    assert status(ctr, "task") == "RUNNING"
    entered = ctr("task", "exec", "--exec-id", "one", "task", "sh", "-c", "cat /proc/1/cmdline; exit 4")
    assert (entered.stdout, entered.exit_code) == ("sleep\x001000\x00", 4), str(entered)
    ctr("task", "kill", "--signal", "KILL", "task", check=True)
    assert eventually(lambda: status(ctr, "task") == "STOPPED")
    assert "code 137" in ctr("task", "rm", "task").stderr


def test_entering_with_a_terminal(ctr: Command, run: Callable[..., Result]) -> None:
    run("entered", "sleep", "1000", flags=("-d",), check=True)
    terminal = ctr.terminal("task", "exec", "-t", "--exec-id", "two", "entered", "sh", rows=32, columns=92)
    terminal.send("tty; stty size; exit 5\n")
    terminal.read_until("/dev/pts/[0-9]+\\s+32 92\\s")
    assert terminal.wait() == 5


def test_entering_as_another_user_in_another_directory(ctr: Command, run: Callable[..., Result]) -> None:
    run("users", "sleep", "1000", flags=("-d",), check=True)
    entered = ctr(
        "task",
        "exec",
        "--exec-id",
        "three",
        "--user",
        "1000:29",
        "--cwd",
        "/home",
        "users",
        "sh",
        "-c",
        "id -u; id -g; pwd",
        check=True,
    )
    assert entered.lines == ["1000", "29", "/home"]


def test_a_program_to_enter_with_that_is_missing_is_told_by_name(ctr: Command, run: Callable[..., Result]) -> None:
    run("entered", "sleep", "1000", flags=("-d",), check=True)
    entered = ctr("task", "exec", "--exec-id", "four", "entered", "/nowhere")
    assert entered.exit_code != 0
    assert "/nowhere" in entered.stderr


def test_a_paused_task_does_not_run_until_it_is_resumed(house: House, ctr: Command, run: Callable[..., Result]) -> None:
    run(
        "clock", "sh", "-c", "n=0; while :; do n=$((n+1)); echo $n >/tmp/n; sleep 0.05; done", flags=("-d",), check=True
    )

    pid = ctr("task", "ls", check=True).stdout.split("clock")[1].split()[0]

    def count() -> str:
        return house.path(f"proc/{pid}/root/tmp/n").read_text()

    assert eventually(lambda: house.path(f"proc/{pid}/root/tmp/n").exists())
    ctr("task", "pause", "clock", check=True)
    assert status(ctr, "clock") == "PAUSED"
    before = count()
    time.sleep(0.3)
    assert count() == before
    ctr("task", "resume", "clock", check=True)
    assert status(ctr, "clock") == "RUNNING"
    assert eventually(lambda: count() != before)


def test_the_processes_of_a_task_are_listed(ctr: Command, run: Callable[..., Result]) -> None:
    run("family", "sh", "-c", "sleep 100 & sleep 200 & wait", flags=("-d",), check=True)
    assert eventually(lambda: len(ctr("task", "ps", "family", check=True).lines[1:]) == 3)


def test_metrics_are_read_from_its_group(ctr: Command, run: Callable[..., Result]) -> None:
    run("measured", "sleep", "1000", flags=("-d",), check=True)
    assert "METRIC" in ctr("task", "metrics", "measured", check=True).stdout


def test_a_signal_ends_it_by_its_own_handler(ctr: Command, run: Callable[..., Result]) -> None:
    run(
        "handler",
        "sh",
        "-c",
        "trap 'exit 9' TERM; touch /tmp/ready; while :; do sleep 0.1; done",
        flags=("-d",),
        check=True,
    )
    assert eventually(
        lambda: ctr("task", "exec", "--exec-id", "look", "handler", "test", "-e", "/tmp/ready").exit_code == 0
    )
    ctr("task", "kill", "--signal", "TERM", "handler", check=True)
    assert eventually(lambda: status(ctr, "handler") == "STOPPED")
    assert "code 9" in ctr("task", "rm", "handler").stderr


@pytest.mark.parametrize(
    ("flags", "script", "said"),
    [
        (("--read-only",), "touch /file 2>/dev/null || echo refused", "refused\n"),
        (("--user", "1000:1000"), "id -u; id -g", "1000\n1000\n"),
        (("--env", "WORD=a b", "--cwd", "/home"), 'echo "$WORD"; pwd', "a b\n/home\n"),
        (("--net-host",), "ls /sys/class/net | grep -x lo", "lo\n"),
        (
            ("--mount", "type=bind,src=/usr,dst=/host,options=rbind:ro"),
            "test -x /host/bin/ctr && echo seen; touch /host/x 2>/dev/null || echo refused",
            "seen\nrefused\n",
        ),
        (("--cap-drop", "CAP_CHOWN"), "chown 5 /bin 2>/dev/null || echo refused", "refused\n"),
        (("--seccomp",), "grep Seccomp: /proc/self/status", "Seccomp:\t2\n"),
        (("--privileged",), "mount -t tmpfs none /mnt && echo mounted", "mounted\n"),
        (
            ("--uidmap", "0:200000:1000", "--gidmap", "0:200000:1000", "--remap-labels=false"),
            "awk '{print $2}' /proc/self/uid_map",
            "200000\n",
        ),
    ],
    ids=lambda value: value[0].lstrip("-").partition("=")[0] if isinstance(value, tuple) else "",
)
def test_what_is_asked_of_the_container_holds(
    run: Callable[..., Result], flags: tuple[str, ...], script: str, said: str
) -> None:
    result = run("asked", "sh", "-c", script, flags=("--rm", *flags))
    assert result.stdout == said, str(result)
