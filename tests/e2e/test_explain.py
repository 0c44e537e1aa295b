"""`jubako explain` tells what `jubako run` does, and does none of it (walkthrough W2.8)."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from world.account import Account
from world.command import Command
from world.traces import Directories

# What strace and explain name alike; unmask=ALL, since masks skip what this machine's /proc has not.
TRACED = (
    "setns,unshare,clone,clone3,sethostname,mount,pivot_root,umount2,open_tree,move_mount,mount_setattr,keyctl,capset,seccomp,"
    "execve,execveat"
)
REQUESTS = {
    "host": ("--tmpfs", "/scratch", "-w", "/scratch", "host", "/bin/true"),
    "directory": ("--read-only", "-v", ".:/src:ro", "--network", "host", "--rootfs", "ROOTFS", "/bin/true"),
    "layer": ("--user", "1000", "--cap-drop", "ALL", "--ulimit", "nofile=99", "--rootfs", "ROOTFS:O", "/bin/true"),
    "ids": ("--userns", "keep-id", "--uts", "host", "--ipc", "none", "--rootfs", "ROOTFS", "/bin/true"),
    "time": (
        "--time-offset",
        "boottime=60",
        "--pid",
        "host",
        "--security-opt",
        "seccomp=unconfined",
        "host",
        "/bin/true",
    ),
}


def everything(directories: Directories) -> dict[str, tuple[int, int, int]]:
    """Each file and directory of jubako's, with what changes when it is touched."""
    found = {}
    for top in vars(directories).values():
        if not isinstance(top, str | Path):
            continue
        for directory, _names, files in os.walk(top):
            for path in (directory, *(os.path.join(directory, name) for name in files)):
                status = os.lstat(path)
                found[path] = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
    return found


def calls_of(told: dict, key: str) -> list[str]:
    return [
        call for section in told["sections"] if section["key"] == key for s in section["steps"] for call in s["calls"]
    ]


def calls_expected(told: dict) -> list[str]:
    """The names of the plan's system calls, as far as they are traced."""
    names = [call.partition("(")[0] for call in calls_of(told, "plan")]
    return ["clone" if name == "clone3" else name for name in names if name in TRACED.split(",")]


def calls_seen(trace: Path, first: str) -> list[str]:
    """The names of the calls that strace saw, from the first `first` on; calls that only ask or try are left out."""
    lines = [line for line in trace.read_text().splitlines() if not re.search(r"execve\(NULL|execveat\(-1|_GET_", line)]
    seen = re.findall(r"^\d+ +(\w+)\(", "\n".join(lines), re.M)
    seen = ["clone" if name == "clone3" else name for name in seen]
    return seen[seen.index(first) :]


def compare(jubako: Command, strace: str, rootfs: Path, kind: str) -> None:
    """Explain a request of `REQUESTS`, run it below strace, and compare."""
    words = (word.replace("ROOTFS", str(rootfs)) for word in REQUESTS[kind])
    request = ("run", "--rm", "--security-opt", "unmask=ALL", *words)
    jubako(*request, check=True)  # what is found out once a boot is known from here on
    expected = calls_expected(jubako("explain", "--json", *request, check=True).json)
    trace = rootfs.parent / "trace"
    argv = (strace, "-f", "-e", f"trace={TRACED}", "-o", str(trace), *jubako.argv(*request))
    subprocess.run(argv, check=True, env=jubako.environment(), cwd=jubako.cwd)
    assert calls_seen(trace, expected[0])[: len(expected)] == expected


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_run_makes_the_system_calls_that_explain_tells_in_that_order(
    jubako: Command, program: Callable[..., str], rootfs: Path, kind: str
):
    compare(jubako, program("strace", "strace"), rootfs, kind)


@pytest.mark.root
@pytest.mark.parametrize("kind", ["host", "directory", "layer"])
def test_the_run_of_root_too_makes_the_system_calls_that_explain_tells(
    jubako: Command, program: Callable[..., str], rootfs: Path, kind: str
):
    compare(jubako, program("strace", "strace"), rootfs, kind)


@pytest.mark.root
def test_root_has_no_base_and_may_let_mounts_out(jubako: Command, tmp_path: Path):
    told = jubako("explain", "--json", "run", "-v", f"{tmp_path}:/mnt:rshared", "host", "true", check=True).json
    assert told["sections"][0]["state"] == "done"
    assert not told["sections"][0]["steps"]
    assert any("do not reach the host" in sentence for sentence in told["left_out"])
    both = jubako("explain", "--json", "run", "-v", f"{tmp_path}:/mnt:rshared", "--userns", "host", "host", "true")
    assert not any("do not reach the host" in sentence for sentence in both.json["left_out"])


def test_nothing_is_made_or_touched(jubako: Command, directories: Directories, tmp_path: Path):
    before = everything(directories)
    jubako("explain", "run", "host", "--", "true", check=True)
    jubako(
        "explain", "run", "--userns", "auto", "--name", "x", "--cidfile", tmp_path / "id", "host", "true", check=True
    )
    jubako("explain", "run", "--cap-add", "SYS_ADMIN", "--rootfs", f"{tmp_path}:O", "/bin/true", check=True)
    assert everything(directories) == before
    assert not os.listdir(tmp_path)


def test_nothing_is_cached_either(jubako: Command, tmp_path: Path):
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_DATA_HOME": str(tmp_path / "data")}
    jubako("explain", "run", "--cap-add", "SYS_ADMIN", "host", "true", env=home, check=True)
    assert not os.listdir(tmp_path)


def test_without_a_base_none_is_made(jubako: Command, tmp_path: Path, account: Account):
    places = {"JUBAKO_ROOT": str(tmp_path / "data"), "JUBAKO_RUN": str(tmp_path / "run")}
    told = jubako("explain", "--json", "run", "host", "true", env=places, check=True).json
    assert not os.listdir(tmp_path)
    base = told["sections"][0]
    assert base["state"] == "would"
    maps = [call for call in calls_of(told, "base") if call.startswith("newuidmap")]
    start, count = account.ranges[0]
    assert maps == [f"newuidmap PID 0 {account.uid} 1 1 {start} {count}"]


def test_the_base_that_runs_is_already_there(jubako: Command):
    jubako("run", "--rm", "host", "--", "true", check=True)
    told = jubako("explain", "run", "host", "true", check=True)
    assert re.search(r"already there: process \d+ keeps it", told.stdout), str(told)


def test_a_failed_step_has_the_number_that_explain_gives_it(jubako: Command, rootfs: Path):
    request = ("run", "--rm", "-w", "/proc/nowhere", "--rootfs", str(rootfs), "/bin/true")
    failed = jubako(*request)
    assert failed.exit_code == 125, str(failed)
    found = re.search(r"step (\d+) of (\d+): (\w+)", failed.stderr)
    assert found, str(failed)
    steps = next(s for s in jubako("explain", "--json", *request).json["sections"] if s["key"] == "plan")["steps"]
    assert (len(steps), steps[int(found[1]) - 1]["name"]) == (int(found[2]), found[3])


def test_what_cannot_be_is_said_with_the_reason(jubako: Command, tmp_path: Path):
    told = jubako("explain", "run", "-v", f"{tmp_path}:/mnt:rshared", "--uts", "host", "host", "true", check=True)
    text = " ".join(told.stdout.split())
    assert "container → host works only as root with --userns host" in text
    assert "no UTS namespace: the host's name is the container's" in text
    both = jubako("explain", "run", "-v", f"{tmp_path}:/mnt:rshared", "--userns", "host", "host", "true", check=True)
    assert "do not reach the host" in " ".join(both.stdout.split())


def test_only_a_terminal_gets_bold_type_and_no_color_takes_it_back(jubako: Command):
    request = ("explain", "run", "host", "true")
    assert "\x1b" not in jubako(*request, check=True).stdout
    terminal = jubako.terminal(*request, columns=60, env={"TERM": "xterm", "NO_COLOR": ""})
    assert "\x1b[1mThe base user namespace" in terminal.read_until("The container's files")
    plain = jubako.terminal(*request, columns=60, env={"TERM": "xterm", "NO_COLOR": "1"})
    assert "\x1b[1m" not in plain.read_until("The container's files")


def test_exec_makes_the_system_calls_that_explain_tells_in_that_order(
    jubako: Command, program: Callable[..., str], tmp_path: Path
):
    jubako("run", "-d", "--rm", "--name", "joined", "host", "--", "sleep", "100", check=True)
    try:
        told = jubako("explain", "--json", "exec", "joined", "/bin/true", check=True).json
        trace = tmp_path / "trace"
        strace = (program("strace", "strace"), "-f", "-e", f"trace={TRACED}", "-o", str(trace))
        argv = (*strace, *jubako.argv("exec", "joined", "/bin/true"))
        subprocess.run(argv, check=True, env=jubako.environment(), cwd=jubako.cwd)
        assert calls_seen(trace, "clone") == calls_expected(told)
    finally:
        jubako("kill", "joined", check=True)
