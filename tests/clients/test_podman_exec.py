"""`podman exec` with our runtime: streams, exit codes, terminals, users."""

from __future__ import annotations

import pytest

from world.box import eventually
from world.command import Command


@pytest.fixture
def running(podman: Command) -> Command:
    """`podman` with a container `there`."""
    podman("run", "-d", "--name", "there", "--env", "OF=container", "busybox", "sleep", "1000", check=True)
    return podman


def test_streams_and_exit_code_come_through(running: Command) -> None:
    result = running("exec", "-i", "there", "sh", "-c", "cat; echo err >&2; exit 3", input="in\n")
    assert (result.stdout, result.stderr, result.exit_code) == ("in\n", "err\n", 3)


def test_it_is_in_the_containers_namespaces(running: Command) -> None:
    script = "for n in mnt pid net ipc uts user cgroup; do readlink /proc/self/ns/$n; done"
    first = running("exec", "there", "sh", "-c", script.replace("self", "1"), check=True)
    assert running("exec", "there", "sh", "-c", script, check=True).lines == first.lines
    assert running("exec", "there", "cat", "/proc/1/cmdline").stdout == "sleep\x001000\x00"


@pytest.mark.parametrize(("program", "code"), [("nowhere", 127), ("/nowhere", 127), ("/etc/passwd", 126)])
def test_a_program_that_cannot_be_started_has_the_shells_exit_code(running: Command, program: str, code: int) -> None:
    result = running("exec", "there", program)
    assert result.exit_code == code, str(result)
    assert program in result.stderr


def test_users_environment_and_directory_are_as_asked(running: Command) -> None:
    options = ("--user", "alice", "--env", "WORD=a b", "--workdir", "/home")
    result = running("exec", *options, "there", "sh", "-c", 'id -u; id -G; echo "$WORD"; echo "$OF"; pwd', check=True)
    assert result.lines == ["1000", "1000 10 29", "a b", "container", "/home"]


def test_it_has_the_containers_confinement(running: Command) -> None:
    names = ("CapBnd", "CapEff", "Seccomp", "NoNewPrivs")
    script = f"grep -E '^({'|'.join(names)}):' /proc/$0/status"
    first = running("exec", "there", "sh", "-c", script, "1", check=True).lines
    assert running("exec", "there", "sh", "-c", script, "self", check=True).lines == first
    assert len(first) == len(names)


def test_more_can_be_given_by_privileged(running: Command) -> None:
    plain = running("exec", "there", "grep", "CapEff", "/proc/self/status", check=True).stdout
    more = running("exec", "--privileged", "there", "grep", "CapEff", "/proc/self/status", check=True).stdout
    assert int(more.split()[1], 16) & ~int(plain.split()[1], 16)


def test_a_terminal_works(running: Command) -> None:
    terminal = running.terminal("exec", "-it", "there", "sh", rows=30, columns=90)
    terminal.send("stty size; tty\n")
    text = terminal.read_until("/dev/.*\r\n")
    assert "30 90\r\n" in text
    assert "\r\r\n" not in text
    terminal.send("exit\n")
    assert terminal.wait() == 0


def test_a_terminals_exit_code_comes_through(running: Command) -> None:
    terminal = running.terminal("exec", "-it", "there", "sh", "-c", "exit 6")
    assert terminal.wait() == 6


def test_what_is_detached_goes_on(running: Command) -> None:
    running("exec", "-d", "there", "sh", "-c", "sleep 0.2; echo done >/tmp/mark", check=True)
    assert eventually(lambda: running("exec", "there", "cat", "/tmp/mark").stdout == "done\n")


def test_it_ends_with_the_container(running: Command) -> None:
    inside = running.start("exec", "there", "sh", "-c", "echo ready; sleep 1000")
    assert inside.stdout is not None
    assert inside.stdout.readline() == "ready\n"
    running("kill", "there", check=True)
    assert inside.wait(20) == 137


def test_a_large_output_arrives_whole(running: Command) -> None:
    result = running("exec", "there", "sh", "-c", "yes 0123456789 | head -n 200000", check=True)
    assert result.stdout == "0123456789\n" * 200_000


def test_many_at_once(running: Command) -> None:
    started = [running.start("exec", "there", "sh", "-c", f"echo {number}") for number in range(8)]
    assert [process.communicate(timeout=60)[0] for process in started] == [f"{number}\n" for number in range(8)]


def test_a_container_that_has_ended_is_refused(running: Command) -> None:
    running("kill", "there", check=True)
    running("wait", "there", check=True)
    result = running("exec", "there", "true")
    assert result.exit_code == 255
    assert "running" in result.stderr


def test_a_paused_container_is_refused(running: Command) -> None:
    running("pause", "there", check=True)
    result = running("exec", "there", "true")
    assert result.exit_code != 0
    assert "paused" in result.stderr or "running" in result.stderr
