"""`exec`: further processes in a container, by arguments and by --process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from world.bundle import Bundle
from world.console import ConsoleSocket
from world.rule import only_root, rule
from world.runtime import Container, Runtime, wait_for_end


@pytest.fixture
def box(runtime: Runtime, bundles: Callable[..., Bundle]) -> Container:
    bundle = bundles(maps="all")
    bundle.process["env"].append("FROM_CONFIG=yes")
    bundle.process["cwd"] = "/home"
    bundle.sh("echo ready; exec sleep 1000")
    started = runtime.start_new(bundle)
    started.read_until("ready")
    return started


def process(box: Container, place: Path, **changes: Any) -> str:
    """A file for --process: the container's own, changed."""
    path = place / "process.json"
    path.write_text(json.dumps({**box.bundle.process, **changes}))
    return str(path)


@rule("command line", "exec", "common", "The process is in all namespaces of the container, and in its root.")
def test_exec_is_in_the_container(box: Container):
    said = box.exec("sh", "-c", "for k in mnt pid net ipc uts; do readlink /proc/self/ns/$k; done; cat /test.txt")
    *namespaces, text = said.stdout.splitlines()
    assert namespaces == [os.readlink(f"/proc/{box.pid}/ns/{kind}") for kind in ("mnt", "pid", "net", "ipc", "uts")]
    assert text == "a file of the root file system"


@rule("command line", "exec", "common", "Streams and exit code are the process's own.")
def test_exec_passes_streams_and_code(box: Container):
    result = box.exec("sh", "-c", "cat; echo error >&2; exit 9", input="through\n", check=False)
    assert (result.stdout, result.stderr, result.exit_code) == ("through\n", "error\n", 9)


@rule(
    "command line", "exec", "common", "Directory and environment are the configuration's; --cwd and --env change them."
)
def test_exec_in_another_directory(box: Container):
    assert box.exec("sh", "-c", "pwd; echo $FROM_CONFIG").stdout == "/home\nyes\n"
    flags = ("--cwd", "/tmp", "--env", "ADDED=1", "-e", "FROM_CONFIG=no")
    assert box.exec("sh", "-c", "pwd; echo $ADDED $FROM_CONFIG", flags=flags).stdout == "/tmp\n1 no\n"


@rule("command line", "exec", "common", "--user UID[:GID] is who the process is.")
@pytest.mark.parametrize(("given", "ids"), [("1000", "1000 0"), ("1000:1001", "1000 1001"), ("0:5", "0 5")])
def test_exec_as_another_user(box: Container, given: str, ids: str):
    said = box.exec("sh", "-c", "echo $(id -u) $(id -g)", flags=("--user", given)).stdout
    assert said.split()[0] == ids.split(maxsplit=1)[0]
    if ":" in given:
        assert said.split()[1] == ids.split()[1]


@rule("command line", "exec", "common", "--additional-gids adds groups.")
def test_exec_with_groups(box: Container):
    said = box.exec("grep", "^Groups", "/proc/self/status", flags=("--user", "1000:1000", "-g", "7", "-g", "8")).stdout
    assert {"7", "8"} <= set(said.split()[1:])


@rule("command line", "exec", "common", "--cap adds capabilities, and leaves the inheritable set empty.")
def test_exec_with_a_capability(box: Container):
    lines = box.exec("grep", "^Cap", "/proc/self/status", flags=("--cap", "CAP_SYS_CHROOT")).stdout.splitlines()
    sets = {line.split(":")[0]: int(line.split()[1], 16) for line in lines}
    assert sets["CapEff"] & (1 << 18)
    assert sets["CapInh"] == 0


@rule("command line", "exec", "common", "--no-new-privs sets no_new_privs.")
def test_exec_without_new_privileges(runtime: Runtime, bundle: Bundle):
    bundle.process["noNewPrivileges"] = False
    bundle.args("sleep", "1000")
    box = runtime.start_new(bundle)
    assert box.exec("grep", "NoNewPrivs", "/proc/self/status").stdout.split()[1] == "0"
    assert box.exec("grep", "NoNewPrivs", "/proc/self/status", flags=("--no-new-privs",)).stdout.split()[1] == "1"


@rule("command line", "exec", "common", "--process FILE is a whole process object.")
def test_exec_of_a_process_object(box: Container, place: Path):
    file = process(
        box,
        place,
        args=["sh", "-c", "pwd; echo $X; id -u; umask; ulimit -n; grep ^CapEff /proc/self/status"],
        cwd="/tmp",
        env=["PATH=/bin", "X=from the object"],
        user={"uid": 1000, "gid": 1000, "umask": 0o27},
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100}],
        capabilities={},
    )
    result = box.runtime("exec", "--process", file, box.id, check=True)
    assert result.lines[:5] == ["/tmp", "from the object", "1000", "0027", "99"]
    assert int(result.lines[5].split()[1], 16) == 0


@rule("command line", "exec", "common", "--detach returns at once; --pid-file gets the pid as the host sees it.")
def test_exec_detached(box: Container, place: Path):
    flags = ("--detach", "--pid-file", str(place / "pid"), "--process", process(box, place, args=["sleep", "1000"]))
    with open(place / "out", "wb") as out:
        started = box.runtime.start("exec", *flags, box.id, stdout=out, stderr=out, stdin=None)
        assert started.wait(20) == 0, (place / "out").read_text()
    pid = int((place / "pid").read_text())
    assert os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{box.pid}/ns/pid")
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\x00"
    box.stop()
    wait_for_end(pid)


@rule("command line", "exec", "common", "--tty with --console-socket sends the process's own terminal.")
def test_exec_with_a_terminal(box: Container, place: Path):
    with ConsoleSocket(place) as sockets:
        file = process(
            box, place, args=["sh", "-c", "tty; stty size"], terminal=True, consoleSize={"height": 20, "width": 70}
        )
        with open(place / "out", "wb") as out:
            started = box.runtime.start(
                *("exec", "--detach", "--tty", "--console-socket", sockets.path, "--process", file, box.id),
                stdout=out,
                stderr=out,
                stdin=None,
            )
            console = sockets.accept()
            assert started.wait(20) == 0, (place / "out").read_text()
        said = console.read_to_end().split()
        assert said[0].startswith("/dev/pts/")
        assert said[1:] == ["20", "70"]


@rule("command line", "exec", "common", "--tty in front joins the caller's terminal.")
def test_exec_in_a_terminal(box: Container):
    terminal = box.runtime.terminal("exec", "--tty", box.id, "sh", "-c", "tty; stty size; read x; echo got $x", rows=31)
    terminal.read_until("31 80")
    terminal.send("it\n")
    terminal.read_until("got it")
    assert terminal.wait() == 0


@rule("command line", "exec", "common", "What cannot be executed gives 255 and says what.")
@pytest.mark.parametrize("program", ["/no/such/program", "no-such-program", "/test.txt"])
def test_exec_of_nothing(box: Container, program: str):
    result = box.exec(program, check=False)
    assert result.exit_code == 255
    assert program in result.stderr


@rule("command line", "exec", "common", "Users that are none are refused.")
@pytest.mark.parametrize("user", ["", "-1", "4294967295", "4294967296", "1:-1", "root:x"])
def test_exec_as_nobody(box: Container, user: str):
    assert box.exec("id", flags=("--user", user), check=False).exit_code != 0


@rule("command line", "exec", "common", "exec into a container that is stopped is an error.")
def test_exec_into_a_stopped_container(box: Container):
    box.stop()
    assert box.exec("true", check=False).exit_code != 0


@rule("command line", "exec", "common", "exec into a container that is created works.")
def test_exec_into_a_created_container(runtime: Runtime, bundle: Bundle):
    box = runtime.create(bundle)
    assert box.exec("echo", "here").stdout == "here\n"
    assert box.status == "created"


@rule("command line", "exec", "common", "The seccomp filter of the configuration holds for exec too.")
def test_exec_is_filtered(runtime: Runtime, bundle: Bundle):
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 61}],
    }
    probe = bundle.use_probe()
    bundle.args("sleep", "1000")
    box = runtime.start_new(bundle)
    assert box.exec(probe, "syscall", "140", "0", "0").stdout == "ENODATA\n"


@only_root
@rule("command line", "exec", "common", "--preserve-fds passes descriptors, and without it there are none.")
def test_exec_has_no_other_descriptors(box: Container):
    read, write = os.pipe()
    try:
        lines = box.exec("ls", "-l", "/proc/self/fd", pass_fds=(read, write)).stdout.splitlines()
    finally:
        os.close(read)
        os.close(write)
    assert not [line for line in lines if "->" in line and int(line.split()[-3]) > 3]
