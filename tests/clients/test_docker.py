"""dockerd with our runtime in daemon.json: `docker run --runtime`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from world import client
from world.box import eventually
from world.command import Command
from world.house import House

WAITING = ("sh", "-c", "trap 'exit 7' TERM; echo started; while :; do sleep 0.1; done")
RUN = ("run", "--runtime=jubako")


@pytest.fixture
def docker(house: House, dockerd: None) -> Iterator[Command]:
    command = client.client(house, None, "docker")
    yield command
    command.close()
    left = command("ps", "--all", "--quiet").lines
    if left:
        command("rm", "--force", "--volumes", *left)


def test_output_input_and_exit_code_come_through(docker: Command) -> None:
    result = docker(*RUN, "--rm", "-i", "busybox", "sh", "-c", "cat; echo err >&2; exit 3", input="in\n")
    assert (result.stdout, result.stderr, result.exit_code) == ("in\n", "err\n", 3)


@pytest.mark.parametrize(("program", "code"), [("nowhere", 127), ("/nowhere", 127), ("/etc/passwd", 126)])
def test_a_program_that_cannot_be_started_has_the_shells_exit_code(docker: Command, program: str, code: int) -> None:
    result = docker(*RUN, "--rm", "busybox", program)
    assert result.exit_code == code, str(result)
    assert program in result.stderr


def test_a_terminal_works(docker: Command) -> None:
    terminal = docker.terminal(*RUN, "--rm", "-it", "busybox", "sh", rows=34, columns=94)
    terminal.read_until("# ")
    terminal.send("tty; stty size; exit 6\n")
    text = terminal.read_until("/dev/.*\r\n34 94\r\n")
    assert "\r\r\n" not in text
    assert terminal.wait() == 6


def test_it_is_entered(docker: Command) -> None:
    docker(*RUN, "-d", "--name", "there", "busybox", "sleep", "1000", check=True)
    options = ("--user", "alice", "--workdir", "/home", "--env", "WORD=a b")
    result = docker("exec", "-i", *options, "there", "sh", "-c", 'cat; id -un; pwd; echo "$WORD"; exit 4', input="in\n")
    assert (result.lines, result.exit_code) == (["in", "alice", "/home", "a b"], 4), str(result)
    terminal = docker.terminal("exec", "-it", "there", "sh", rows=35, columns=95)
    terminal.read_until("# ")
    terminal.send("tty; stty size; exit 5\n")
    terminal.read_until("/dev/.*\r\n35 95\r\n")
    assert terminal.wait() == 5


@pytest.mark.parametrize("program", ["nowhere", "/nowhere", "/etc/passwd"])
def test_a_program_to_enter_with_that_cannot_be_started(docker: Command, program: str) -> None:
    docker(*RUN, "-d", "--name", "there", "busybox", "sleep", "1000", check=True)
    result = docker("exec", "there", program)
    assert result.exit_code in (126, 127), str(result)
    assert program in result.stdout + result.stderr, str(result)


def test_logs_are_kept(docker: Command) -> None:
    docker(*RUN, "--name", "talker", "busybox", "sh", "-c", "echo out; echo err >&2", check=True)
    said = docker("logs", "talker", check=True)
    assert (said.stdout, said.stderr) == ("out\n", "err\n")


def test_stop_lets_it_end_by_itself_and_kill_does_not(docker: Command) -> None:
    docker(*RUN, "-d", "--name", "polite", "busybox", *WAITING, check=True)
    assert eventually(lambda: docker("logs", "polite").stdout == "started\n")
    docker("stop", "polite", check=True)
    assert docker("wait", "polite", check=True).stdout == "7\n"
    docker("start", "polite", check=True)
    docker("kill", "polite", check=True)
    assert docker("wait", "polite", check=True).stdout == "137\n"


def test_init_is_first_and_passes_signals_on(docker: Command) -> None:
    docker(*RUN, "-d", "--init", "--name", "inited", "busybox", *WAITING, check=True)
    assert "docker-init" in docker("exec", "inited", "cat", "/proc/1/cmdline", check=True).stdout
    assert eventually(lambda: docker("logs", "inited").stdout == "started\n")
    docker("stop", "inited", check=True)
    assert docker("wait", "inited", check=True).stdout == "7\n"


def test_it_is_paused_and_resumed(docker: Command) -> None:
    docker(*RUN, "-d", "--name", "clock", "busybox", "sh", "-c", "while :; do echo tick; sleep 0.05; done", check=True)
    docker("pause", "clock", check=True)
    assert docker("inspect", "--format", "{{.State.Status}}", "clock", check=True).stdout == "paused\n"
    before = docker("logs", "clock").stdout
    time.sleep(0.4)
    assert docker("logs", "clock").stdout == before
    docker("unpause", "clock", check=True)
    assert eventually(lambda: len(docker("logs", "clock").stdout) > len(before))


def test_restarting_runs_the_program_again(docker: Command) -> None:
    docker(*RUN, "-d", "--name", "again", "busybox", *WAITING, check=True)
    docker("restart", "--time", "5", "again", check=True)
    assert eventually(lambda: docker("logs", "again").stdout == "started\nstarted\n")


def test_its_processes_are_listed(docker: Command) -> None:
    docker(*RUN, "-d", "--name", "family", "busybox", "sh", "-c", "sleep 100 & sleep 200 & wait", check=True)
    assert eventually(lambda: len(docker("top", "family").lines) == 4)


def test_a_healthy_container_is_told(docker: Command) -> None:
    options = ("--health-cmd", "test -e /etc/passwd", "--health-interval", "500ms")
    docker(*RUN, "-d", "--name", "patient", *options, "busybox", "sleep", "1000", check=True)
    assert eventually(
        lambda: docker("inspect", "--format", "{{.State.Health.Status}}", "patient").stdout == "healthy\n"
    )


def test_a_published_port_answers_on_the_bridge(docker: Command, house: House) -> None:
    serve = "mkdir /www && echo served >/www/index.html && exec httpd -f -p 8080 -h /www"
    docker(*RUN, "-d", "-p", "127.0.0.1:18090:8080", "busybox", "sh", "-c", serve, check=True)
    fetch = client.client(house, None, "busybox", "wget")
    assert eventually(lambda: fetch("-q", "-O", "-", "http://127.0.0.1:18090/").stdout == "served\n")


def test_containers_of_a_network_find_each_other_by_name(docker: Command) -> None:
    docker("network", "create", "quarter", check=True)
    try:
        serve = "mkdir /www && echo served >/www/index.html && exec httpd -f -p 8080 -h /www"
        docker(*RUN, "-d", "--name", "server", "--network=quarter", "busybox", "sh", "-c", serve, check=True)
        script = "until wget -q -O - http://server:8080/; do sleep 0.1; done"
        result = docker(*RUN, "--rm", "--network=quarter", "busybox", "timeout", "-s", "KILL", "10", "sh", "-c", script)
        assert result.stdout == "served\n", str(result)
    finally:
        docker("rm", "--force", "server")
        docker("network", "rm", "quarter", check=True)


@pytest.mark.parametrize(
    ("flags", "script", "said"),
    [
        (
            ("--read-only", "--tmpfs", "/tmp"),
            "touch /f 2>/dev/null || echo refused; touch /tmp/f && echo written",
            "refused\nwritten\n",
        ),
        (("--user", "1000:29", "--group-add", "10"), "id -u; id -G", "1000\n29 10\n"),
        (("--network", "none"), "ls /sys/class/net", "lo\n"),
        (("--hostname", "box"), "hostname", "box\n"),
        (("--cap-drop", "all", "--cap-add", "chown"), "grep CapEff /proc/self/status", "CapEff:\t0000000000000001\n"),
        (
            ("--security-opt", "no-new-privileges"),
            "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status",
            "NoNewPrivs:\t1\nSeccomp:\t2\n",
        ),
        (("--privileged",), "mount -t tmpfs none /mnt && echo mounted", "mounted\n"),
        (("--pid", "host"), "cat /proc/1/comm", "catatonit\n"),
        (("--sysctl", "kernel.msgmax=9000"), "cat /proc/sys/kernel/msgmax", "9000\n"),
        (("--ulimit", "nofile=77:88"), "ulimit -n; ulimit -Hn", "77\n88\n"),
        (("--device", "/dev/fuse"), ": </dev/fuse && echo opened", "opened\n"),
        (("--shm-size", "3m"), "df -k /dev/shm | tail -1 | awk '{print $2}'", "3072\n"),
        (("-v", "/usr:/host:ro"), "test -x /host/bin/docker && touch /host/x 2>/dev/null || echo refused", "refused\n"),
    ],
    ids=lambda value: value[0].lstrip("-") if isinstance(value, tuple) else "",
)
def test_what_is_asked_of_the_container_holds(docker: Command, flags: tuple[str, ...], script: str, said: str) -> None:
    result = docker(*RUN, "--rm", *flags, "busybox", "sh", "-c", script)
    assert result.stdout == said, str(result)


def test_a_device_that_was_not_given_cannot_be_opened(docker: Command) -> None:
    script = "mknod /tmp/fuse c 10 229 && : </tmp/fuse"
    result = docker(*RUN, "--rm", "busybox", "sh", "-c", script)
    assert result.exit_code != 0
    assert "Operation not permitted" in result.stderr, str(result)


def test_the_runtime_can_be_the_default(docker: Command, house: House, runtime: str) -> None:
    known = json.loads(docker("info", "--format", "{{json .Runtimes}}", check=True).stdout)
    assert known["jubako"]["path"] == runtime


def test_five_at_once(docker: Command) -> None:
    running = [docker.start(*RUN, "--rm", "busybox", "echo", str(number)) for number in range(5)]
    assert [process.communicate(timeout=60)[0] for process in running] == [f"{number}\n" for number in range(5)]


def test_volumes_keep_what_is_written(docker: Command, house_file: Callable[[str, str], str]) -> None:
    docker(*RUN, "--rm", "-v", "jar:/data", "busybox", "sh", "-c", "echo kept >/data/file", check=True)
    result = docker(*RUN, "--rm", "-v", "jar:/data:ro", "busybox", "cat", "/data/file")
    docker("volume", "rm", "jar", check=True)
    assert result.stdout == "kept\n"


def test_an_image_is_built_from_what_a_container_changed(docker: Command) -> None:
    docker(*RUN, "--name", "changed", "busybox", "sh", "-c", "echo new >/new", check=True)
    docker("commit", "changed", "changed-image", check=True)
    result = docker(*RUN, "--rm", "changed-image", "cat", "/new")
    docker("rmi", "--force", "changed-image", check=True)
    assert result.stdout == "new\n"
