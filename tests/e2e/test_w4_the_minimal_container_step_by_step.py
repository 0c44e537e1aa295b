"""Walkthrough 4: what a container runtime of a hundred lines does, one step after another."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world.account import Account
from world.box import Box, eventually, id_map, own
from world.command import Command, Result

Run = Callable[..., Result]
OpenBox = Callable[..., Box]


# --- 4.1 a command ----------------------------------------------------------------------------------------------------


def test_4_1_arguments_arrive_as_they_were_given(rootfs: Path, run: Run) -> None:
    words = ("", "two words", "quote'\"", "new\nline", "$HOME", "*", "--help", "-v", "ünï", "\\")
    told = run("--rootfs", rootfs, "sh", "-c", 'for a in "$@"; do printf "%s\\0" "$a"; done', "sh", *words)
    assert told.stdout.split("\0")[:-1] == list(words), told


def test_4_1_a_program_is_looked_for_along_path_inside(rootfs: Path, run: Run) -> None:
    (rootfs / "opt/tools").mkdir(parents=True)
    (rootfs / "opt/tools/mine").write_text("#!/bin/sh\necho found $0\n")
    (rootfs / "opt/tools/mine").chmod(0o755)
    assert run("--rootfs", rootfs, "mine").exit_code == 127
    assert run("-e", "PATH=/bin:/opt/tools", "--rootfs", rootfs, "mine").stdout == "found /opt/tools/mine\n"
    (rootfs / "usr/local/bin").mkdir(parents=True)
    shutil.copy(rootfs / "opt/tools/mine", rootfs / "usr/local/bin/ls")
    assert run("--rootfs", rootfs, "ls").stdout == "found /usr/local/bin/ls\n", "the first one found counts"
    (rootfs / "usr/local/bin/ls").chmod(0o644)
    assert "found" not in run("--rootfs", rootfs, "ls").stdout, "what cannot be executed is passed over"


def test_4_1_the_environment_is_the_containers_and_not_the_callers(rootfs: Path, run: Run) -> None:
    told = run(
        "-e", "ADDED=1", "-e", "TAKEN", "--hostname", "box", "--rootfs", rootfs, "env",
        env={"TAKEN": "over", "SECRET": "of the caller", "LD_PRELOAD": ""},
        check=True,
    )  # fmt: skip
    values = dict(line.split("=", 1) for line in told.lines)
    assert values.pop("PATH").startswith("/usr/local/sbin:/usr/local/bin")
    assert values == {"ADDED": "1", "TAKEN": "over", "HOSTNAME": "box", "container": "jubako", "HOME": "/root"}


# --- 4.2 and 4.3 root without sudo ------------------------------------------------------------------------------------


def test_4_2_a_uts_namespace_needs_privileges_that_a_user_namespace_gives(
    jubako: Command, rootfs: Path, run: Run
) -> None:
    if os.getuid():
        denied = subprocess.run(("unshare", "--uts", "true"), capture_output=True, text=True)
        assert "Operation not permitted" in denied.stderr
    assert run("--hostname", "works", "--rootfs", rootfs, "hostname", check=True).stdout == "works\n"
    told = jubako("explain", "run", "--hostname", "works", "--rootfs", rootfs, "hostname", check=True).stdout
    assert told.index("CLONE_NEWUSER") < told.index("CLONE_NEWUTS") or "CLONE_NEWUSER|" in told
    assert told.index("CLONE_NEWUTS") < told.index('sethostname("works"')


@pytest.fixture
def without_newuidmap(account: Account, tmp_path: Path) -> Iterator[Command]:
    """`jubako` where newuidmap cannot gain its privilege, as in a service with NoNewPrivileges; a base of its own."""
    for name in ("run", "data"):
        (tmp_path / name).mkdir(mode=0o700)
    places = {"JUBAKO_RUN": str(tmp_path / "run"), "JUBAKO_ROOT": str(tmp_path / "data")}
    command = Command(account, tmp_path, ("setpriv", "--no-new-privs"), places)
    yield command
    command("system", "shutdown", check=True)
    command.close()


def test_4_3_without_newuidmap_there_is_a_map_of_one_id_and_a_warning(
    without_newuidmap: Command, rootfs: Path, account: Account
) -> None:
    told = without_newuidmap("run", "--rm", "--rootfs", rootfs, "cat", "/proc/self/setgroups", "/proc/self/uid_map")
    assert told.exit_code == 0, told
    lines = told.stdout.splitlines()
    assert lines[0] == "deny", told
    assert [tuple(map(int, line.split()))[::2] for line in lines[1:]] == [(0, 1)]
    assert told.stderr.startswith("jubako: warning: "), told
    again = without_newuidmap("run", "--rm", "--rootfs", rootfs, "id", "-u")
    assert again.stdout == "0\n"
    assert again.stderr == "", "it is said once"


def test_4_3_with_one_id_another_user_is_refused_with_the_remedy(without_newuidmap: Command, rootfs: Path) -> None:
    without_newuidmap("run", "--rm", "--rootfs", rootfs, "true")
    told = without_newuidmap("run", "--rm", "--user", "alice", "--rootfs", rootfs, "true")
    assert told.exit_code == 125
    assert "become the container's user" in told.stderr, told
    assert "hint:" in told.stderr


def test_4_3_the_maps_are_written_and_root_has_its_capabilities(rootfs: Path, box: OpenBox, account: Account) -> None:
    inside = box("--rootfs", rootfs)
    assert id_map(inside.proc("uid_map"))[0] == (0, account.uid, 1)
    assert id_map(inside.proc("gid_map"))[0] == (0, account.gid, 1)
    assert inside.ask("chown 1:1 /tmp && stat -c %u /tmp") == "1"


# --- 4.4 fork and wait ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 42, 125, 255])
def test_4_4_the_exit_code_passes_through(code: int, rootfs: Path, run: Run) -> None:
    assert run("--rootfs", rootfs, "sh", "-c", f"exit {code}").exit_code == code


def test_4_4_the_exit_code_of_a_short_program_in_a_terminal_is_never_lost(rootfs: Path, jubako: Command) -> None:
    # its end, the terminal's hang-up and the first word about the window's size come at the same moment, in any order
    for _ in range(25):
        terminal = jubako.terminal("run", "--rm", "-it", "--rootfs", str(rootfs), "sh", "-c", "echo short; exit 6")
        assert terminal.wait() == 6, terminal.output
        assert terminal.output == "short\r\n"
        terminal.close()


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV"])
def test_4_4_a_death_by_signal_is_128_and_its_number(name: str, rootfs: Path, run: Run) -> None:
    # PID 1 is immune against signals of its own namespace without a handler: so a child dies, and its shell reports
    number = signal.Signals[f"SIG{name}"].value
    told = run("--rootfs", rootfs, "sh", "-c", f"sh -c 'kill -{name} $$'; exit $?")
    assert told.exit_code == 128 + number
    told = run("--init", "--rootfs", rootfs, "sh", "-c", f"kill -{name} $$")
    assert told.exit_code == 128 + number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_4_4_signals_pass_through_to_the_program(number: signal.Signals, rootfs: Path, jubako: Command) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.05; done"
    running = jubako.start("run", "--rm", "--rootfs", rootfs, "sh", "-c", script)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    running.send_signal(number)
    assert running.stdout.read() == f"got {name}\n"
    assert running.wait(10) == 7


def test_4_4_with_init_orphans_are_reaped_and_signals_forwarded(rootfs: Path, jubako: Command) -> None:
    script = (
        "trap 'exit 9' TERM; (sleep 0.1 & sleep 0.1 &); sleep 0.5;"
        "ps -o pid,stat,args; echo ready; while :; do sleep 0.05; done"
    )
    running = jubako.start("run", "--rm", "--init", "--rootfs", rootfs, "sh", "-c", script)
    assert running.stdout is not None
    rows = []
    while (line := running.stdout.readline()) != "ready\n":
        assert line
        rows.append(line.split())
    assert not [row for row in rows if "Z" in row[1]], rows
    assert [row[0] for row in rows if row[2] == "sh"] == ["2"], rows
    running.terminate()
    assert running.wait(10) == 9


def test_4_4_signal_dispositions_inside_are_the_defaults(rootfs: Path, run: Run) -> None:
    # Python ignores SIGPIPE and SIGXFSZ, and a shell may have made us ignore SIGINT: execve(2) would keep all of it
    lines = run("--rootfs", rootfs, "cat", "/proc/self/status", check=True).lines
    told = dict(line.split(":\t") for line in lines if line.startswith("Sig"))
    assert int(told["SigIgn"], 16) == 0
    assert int(told["SigBlk"], 16) == 0


def test_4_4_a_program_that_is_pid_1_has_a_session_of_its_own(rootfs: Path, box: OpenBox) -> None:
    inside = box("--rootfs", rootfs)
    fields = inside.proc("stat").rpartition(")")[2].split()
    assert [int(fields[2]), int(fields[3])] == [inside.pid] * 2, "group and session"
    assert int(fields[4]) == 0, "no terminal"


# --- 4.5 the root -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--no-pivot",)])
def test_4_5_nothing_of_the_hosts_tree_is_left(
    flags: tuple[str, ...], rootfs: Path, tmp_path: Path, box: OpenBox
) -> None:
    (tmp_path / "secret").write_text("of the host")
    inside = box(*flags, "--cap-add", "sys_admin,sys_chroot", "--rootfs", rootfs)
    points = [line.split()[4] for line in inside.ask("cat /proc/self/mountinfo").splitlines()]
    allowed = ("/proc", "/sys", "/dev", "/etc/")
    assert [point for point in points if point != "/" and not point.startswith(allowed)] == []
    assert points.count("/") == 1
    for escape in ("cd ../../../../..", "chroot ..", "chroot /proc/1/root", "chroot /proc/self/root/.."):
        assert "of the host" not in inside.ask(f"{escape} 2>/dev/null; cat .{tmp_path}/secret {tmp_path}/secret"), (
            escape
        )
    # the classic way out of a chroot: chroot into a directory while standing above it
    script = f"mkdir -p /d; cd /; chroot /d /bin/true; cd ../../../..; cat .{tmp_path}/secret"
    assert "of the host" not in inside.ask(script)
    assert "of the host" not in inside.ask(f"umount -l / ; umount -l /proc; cat {tmp_path}/secret")
    assert inside.namespace("mnt") != own("mnt")


@pytest.mark.parametrize("flags", [(), ("--no-pivot",)])
def test_4_5_the_classic_escape_from_a_chroot_leads_nowhere(flags: tuple[str, ...], tmp_path: Path, run: Run) -> None:
    (tmp_path / "secret").write_text("of the host")
    script = f"""
import os
os.mkdir("/tmp/d"); fd = os.open("/", os.O_RDONLY); os.chroot("/tmp/d"); os.fchdir(fd)
for _ in range(64): os.chdir("..")
os.chroot(".")
print(os.path.exists("{tmp_path}/secret"), os.path.exists("/tmp/d"))
"""
    told = run(*flags, "--cap-add", "sys_chroot", "host", "--", "/usr/bin/python3", "-c", script)
    assert told.stdout == "False True\n", told


def test_4_5_the_working_directory_is_entered_and_made(rootfs: Path, run: Run) -> None:
    assert run("--rootfs", rootfs, "pwd").stdout == "/\n"
    assert run("-w", "/home/alice", "--rootfs", rootfs, "pwd").stdout == "/home/alice\n"
    assert run("-w", "/new/deep", "--rootfs", rootfs, "pwd").stdout == "/new/deep\n"
    assert (rootfs / "new/deep").is_dir()
    made = run("-w", "/home/alice/w", "--user", "alice", "--rootfs", rootfs, "sh", "-c", "touch f && stat -c %u f")
    assert made.stdout == "1000\n", made


def test_4_5_a_read_only_root_is_read_only_and_has_writable_places(rootfs: Path, box: OpenBox) -> None:
    inside = box("--read-only", "--rootfs", rootfs)
    for attempt in ("touch /new", "echo x > /test.txt", "mkdir /etc/d", "mount -o remount,rw /"):
        inside.ask(attempt)
    assert "Read-only" in inside.ask("touch /new")
    assert inside.ask("touch /tmp/x /run/x /var/tmp/x /dev/shm/x && echo written") == "written"
    assert "ro" in inside.proc("mountinfo").splitlines()[0].split()[5].split(",")
    strict = box("--read-only", "--read-only-tmpfs=false", "--rootfs", rootfs)
    assert "Read-only" in strict.ask("touch /tmp/x")


# --- 4.6 from the host ------------------------------------------------------------------------------------------------


def test_4_6_the_containers_processes_are_ordinary_processes_of_the_user(
    rootfs: Path, box: OpenBox, account: Account
) -> None:
    inside = box("--rootfs", rootfs)
    inside.ask("sleep 4242 >/dev/null 2>&1 &")
    assert eventually(lambda: "4242" in subprocess.run(("ps", "-eo", "args"), capture_output=True, text=True).stdout)
    listed = subprocess.run(("ps", "-eo", "uid=,pid=,args="), capture_output=True, text=True).stdout.splitlines()
    row = next(line.split(None, 2) for line in listed if "sleep 4242" in line)
    assert int(row[0]) == account.uid
    os.kill(int(row[1]), signal.SIGKILL)  # and the user may signal them as any other
    assert eventually(lambda: "4242" not in inside.ask("ps -o args"))
    inside.ask("su alice -c 'sleep 4243 >/dev/null 2>&1 &'")
    assert eventually(lambda: "sleep 4243" in inside.ask("ps -o args"))
    pid = next(p for p in os.listdir("/proc") if p.isdigit() and b"4243" in read(f"/proc/{p}/cmdline"))
    assert os.stat(f"/proc/{pid}").st_uid == account.ranges[0][0] + 999


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


# --- 4.7 in one line --------------------------------------------------------------------------------------------------


def test_4_7_a_whole_run_in_one_line_from_an_image_that_docker_saved(
    jubako: Command, docker_archive: Path, run: Run
) -> None:
    jubako("load", "-i", docker_archive, check=True)
    try:
        told = run("busybox", "sh", "-c", "echo $0 $1; id -u; hostname | wc -c; exit 3", "one", "two")
        assert told.exit_code == 3
        assert told.lines == ["one two", "0", "13"]
        assert told.stderr == "", "nothing is printed but what the program prints"
        assert run("busybox", input="no -i: nothing to read").stdout == "", "the image's own command, sh"
        assert run("-i", "busybox", input="echo through stdin; exit 4").stdout == "through stdin\n"
        assert run("--entrypoint", "/bin/echo", "busybox", "hello").stdout == "hello\n"
    finally:
        jubako("rmi", "busybox", check=True)


def test_4_7_the_hosts_own_system_needs_no_image(run: Run, account: Account, tmp_path: Path) -> None:
    told = run("host", "--", "sh", "-c", "id -u; ls -A /home /root /tmp /srv /mnt; echo $HOME; touch /usr/x /tmp/y")
    assert told.lines == ["0", "/home:", "", "/mnt:", "", "/root:", "", "/srv:", "", "/tmp:", "/root"], told
    assert "'/usr/x': Read-only file system" in told.stderr
    assert "/tmp/y" not in told.stderr
    (tmp_path / "project").mkdir()
    run("-v", ".:/src", "-w", "/src", "host", "--", "touch", "made", cwd=tmp_path / "project", check=True)
    assert (tmp_path / "project/made").stat().st_uid == account.uid
