"""Walkthrough 1: a root file system, bind mounts, proc, archives, entering, capabilities and what must not leak."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world import archives
from world.account import Account, remove_tree
from world.box import Box, eventually, own
from world.command import Command, Result
from world.rootfs import copy_with_libraries

Run = Callable[..., Result]
OpenBox = Callable[..., Box]

# capabilities(7): CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP
PODMANS_DEFAULT = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """An empty directory to become a root file system."""
    made = tmp_path / "root"
    made.mkdir()
    yield made
    remove_tree(made)


# --- 1.1 a root file system by hand -----------------------------------------------------------------------------------


def test_1_1_a_root_built_by_hand_from_what_ldd_names_runs_its_programs(root: Path, run: Run) -> None:
    copy_with_libraries("/bin/bash", root)
    copy_with_libraries("/bin/cat", root)
    (root / "test.txt").write_text("hello from the root\n")
    assert run("--rootfs", root, "/bin/cat", "/test.txt", check=True).stdout == "hello from the root\n"
    assert run("--rootfs", root, "bash", "-c", "echo $0 $((6 * 7))", check=True).stdout == "bash 42\n"


def test_1_1_the_hosts_files_are_not_reachable_from_it(rootfs: Path, tmp_path: Path, box: OpenBox) -> None:
    (tmp_path / "secret").write_text("of the host")
    inside = box("--rootfs", rootfs)
    assert "No such file" in inside.ask(f"cat {tmp_path}/secret")
    assert "of the host" not in inside.ask(f"cd /; cat ../../..{tmp_path}/secret /proc/1/root{tmp_path}/secret")
    assert inside.ask("cat /test.txt") == "a file of the root file system"
    assert inside.ask("ls /usr/lib") != os.listdir("/usr/lib")
    # every mount it has, seen from outside: the root is the directory, and nothing but files of ours is of the host
    tops = [line.split()[3:5] for line in inside.proc("mountinfo").splitlines()]
    assert next(top for top, point in tops if point == "/").endswith(str(rootfs))
    assert os.path.samefile(f"/proc/{inside.pid}/root", rootfs)


def test_1_1_a_descriptor_of_the_host_that_was_open_before_does_not_get_in(
    rootfs: Path, run: Run, box: OpenBox
) -> None:
    host = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        told = run("--rootfs", rootfs, "sh", "-c", f"ls /proc/self/fd/{host}/etc; echo [*]", pass_fds=(host,))
        assert f"/proc/self/fd/{host}/etc" in told.stderr, told
        inside = box("--rootfs", rootfs, pass_fds=(host,))
        assert sorted(os.listdir(f"/proc/{inside.pid}/fd")) == ["0", "1", "2"]
    finally:
        os.close(host)


def test_1_1_a_directory_as_standard_input_is_refused(rootfs: Path, run: Run) -> None:
    host = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        told = run("-i", "--rootfs", rootfs, "ls", "/proc/self/fd/0/", stdin=host)
    finally:
        os.close(host)
    assert told.exit_code == 125
    assert told.stdout == ""
    assert told.stderr.startswith("jubako: use standard input (descriptor 0): it is a directory"), told


# --- 1.2 a program that is not there ----------------------------------------------------------------------------------


def test_1_2_a_missing_program_is_named_and_exits_127(root: Path, run: Run) -> None:
    told = run("--rootfs", root, "/bin/sh")
    assert told.exit_code == 127
    assert told.stderr.splitlines()[0] == "jubako: execute /bin/sh: No such file or directory (ENOENT)", told
    assert "in the container" in told.stderr


def test_1_2_a_program_whose_loader_was_not_copied_says_so(root: Path, run: Run) -> None:
    (root / "bin").mkdir()
    shutil.copy("/bin/cat", root / "bin")
    told = run("--rootfs", root, "/bin/cat", "/test.txt")
    assert told.exit_code == 127
    assert "ELF interpreter" in told.stderr, told


# --- 1.3 bind mounts --------------------------------------------------------------------------------------------------


def test_1_3_a_root_is_put_together_from_bind_mounts(root: Path, run: Run) -> None:
    parts = [f"/usr/{name}:/{name}:ro" for name in ("bin", "lib", "lib64") if os.path.isdir(f"/usr/{name}")]
    flags = [word for part in parts for word in ("-v", part)]
    assert run("--rootfs", root, *flags, "/bin/cat", "/proc/self/comm", check=True).stdout == "cat\n"
    assert (root / "bin").is_dir(), "a missing target is made"
    assert os.listdir(root / "bin") == [], "and what is mounted there stays in the container"


def test_1_3_files_are_mounted_as_well_as_directories(rootfs: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "motd").write_text("welcome\n")
    (tmp_path / "name").write_text("other\n")
    told = run(
        "--rootfs", rootfs, "-v", f"{tmp_path}/motd:/etc/deep/motd", "-v", f"{tmp_path}/name:/etc/hostname:ro",
        "cat", "/etc/deep/motd", "/etc/hostname",
        check=True,
    )  # fmt: skip
    assert told.stdout == "welcome\nother\n"
    assert (rootfs / "etc/hostname").read_text() == "from-the-image\n"


def test_1_3_what_is_written_to_a_bind_reaches_the_host_and_belongs_to_the_caller(
    rootfs: Path, tmp_path: Path, run: Run, account: Account
) -> None:
    (tmp_path / "work").mkdir()
    run("--rootfs", rootfs, "-v", f"{tmp_path}/work:/work", "sh", "-c", "echo made > /work/file", check=True)
    assert (tmp_path / "work/file").read_text() == "made\n"
    assert (tmp_path / "work/file").stat().st_uid == account.uid


def test_1_3_a_relative_source_counts_from_the_callers_directory(rootfs: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "project").mkdir()
    told = run(
        "--rootfs", rootfs, "-v", ".:/src", "-w", "/src", "sh", "-c", "pwd; touch made", cwd=tmp_path / "project"
    )
    assert told.stdout == "/src\n", told
    assert os.listdir(tmp_path / "project") == ["made"]


def test_1_3_a_read_only_bind_is_read_only(rootfs: Path, tmp_path: Path, box: OpenBox) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("kept")
    inside = box("--rootfs", rootfs, "-v", f"{tmp_path}/data:/data:ro")
    for attempt in ("echo x > /data/file", "rm /data/file", "touch /data/new", "chmod 777 /data"):
        assert "Read-only file system" in inside.ask(attempt), attempt
    for escape in ("mount -o remount,rw /data", "mount -o remount,rw,bind /data", "umount /data"):
        inside.ask(escape)
        assert "Read-only file system" in inside.ask("echo x > /data/file"), escape
    line = next(line for line in inside.proc("mountinfo").splitlines() if line.split()[4] == "/data")
    assert "ro" in line.split()[5].split(",")
    assert (tmp_path / "data/file").read_text() == "kept"


def test_1_3_the_submounts_of_a_read_only_bind_are_read_only_too(rootfs: Path, box: OpenBox) -> None:
    # /dev is on every machine a tree of mounts, and everyone may write to its shm
    assert os.access("/dev/shm", os.W_OK)
    inside = box("--rootfs", rootfs, "-v", "/dev:/host-dev:ro", "-v", "/dev:/writable")
    assert "Read-only file system" in inside.ask("touch /host-dev/shm/x")
    assert inside.ask("touch /writable/shm/jubako-x && rm /writable/shm/jubako-x && echo written") == "written"
    lines = [line.split() for line in inside.proc("mountinfo").splitlines()]
    below = [line for line in lines if line[4].startswith("/host-dev/")]
    assert below
    assert all("ro" in line[5].split(",") for line in below)


def test_1_3_mount_options_hold(rootfs: Path, tmp_path: Path, run: Run) -> None:
    shutil.copy(rootfs / "bin/busybox", tmp_path / "busybox")
    refused = run("--rootfs", rootfs, "-v", f"{tmp_path}:/x:noexec", "/x/busybox", "true")
    assert refused.exit_code == 126, refused
    assert run("--rootfs", rootfs, "-v", f"{tmp_path}:/x:exec", "/x/busybox", "true").exit_code == 0
    told = run("--rootfs", rootfs, "-v", f"{tmp_path}:/x:nosuid,nodev,ro", "grep", " /x ", "/proc/self/mountinfo")
    assert {"ro", "nosuid", "nodev"} <= set(told.stdout.split()[5].split(",")), told


# --- 1.4 proc ---------------------------------------------------------------------------------------------------------


def test_1_4_ps_lists_only_the_containers_own_processes_and_the_first_is_pid_1(rootfs: Path, box: OpenBox) -> None:
    inside = box("--rootfs", rootfs)
    inside.ask("sleep 100 >/dev/null 2>&1 &")
    assert eventually(lambda: "sleep" in inside.ask("cat /proc/[0-9]*/comm"))
    rows = [line.split() for line in inside.ask("ps -o pid,args").splitlines()[1:]]
    assert [row[1] for row in rows] == ["sh", "sleep", "{ps}"]
    assert rows[0][0] == "1"
    assert len([name for name in inside.ask("ls /proc").split() if name.isdigit()]) == 3
    assert inside.status("NSpid").split()[-1] == "1", "seen from the host"
    assert inside.pid != 1


def test_1_4_ps_works_on_the_hosts_own_system_too(run: Run) -> None:
    told = run("host", "--", "ps", "-e", "-o", "pid=,comm=", check=True)
    assert told.stdout.split() == ["1", "ps"]


# --- 1.5 exported file systems ----------------------------------------------------------------------------------------


def test_1_5_what_docker_save_writes_is_loaded_and_run(jubako: Command, docker_archive: Path, run: Run) -> None:
    told = jubako("load", "-i", docker_archive, check=True)
    try:
        assert "busybox:latest" in told.stdout
        assert run("busybox", "echo", "hello", check=True).stdout == "hello\n"
        assert run("docker.io/library/busybox:latest", "cat", "/test.txt").stdout == "a file of the root file system\n"
    finally:
        jubako("rmi", "busybox", check=True)


def test_1_5_what_a_real_peer_saves_is_loaded_and_run(
    jubako: Command, oci_layout: Path, tmp_path: Path, run: Run, program: Callable[..., str]
) -> None:
    saved = tmp_path / "saved.tar"
    peer = program("skopeo")
    subprocess.run(
        (peer, "copy", "-q", "--insecure-policy", f"oci:{oci_layout}:busybox:latest", f"docker-archive:{saved}:peer:1"),
        check=True,
    )
    with saved.open("rb") as archive:
        jubako("load", stdin=archive, check=True)
    try:
        assert run("peer:1", "cat", "/test.txt", check=True).stdout == "a file of the root file system\n"
    finally:
        jubako("rmi", "peer:1", check=True)


def test_1_5_what_docker_export_writes_is_imported_and_run(
    jubako: Command, busybox_rootfs: Path, tmp_path: Path, run: Run
) -> None:
    exported = tmp_path / "exported.tar"
    exported.write_bytes(archives.layer(busybox_rootfs))
    assert tarfile.is_tarfile(exported)
    with exported.open("rb") as archive:
        jubako("import", "-", "mine", stdin=archive, check=True)
    try:
        listed = run("mine", "/bin/ls", "/", check=True).stdout.split()
        assert {"bin", "etc", "test.txt"} <= set(listed)
        changed = run("mine", "sh", "-c", "echo changed > /test.txt; cat /test.txt", check=True)
        assert changed.stdout == "changed\n"
        assert run("mine", "cat", "/test.txt").stdout == "a file of the root file system\n", "the image stays as it is"
    finally:
        jubako("rmi", "mine", check=True)


# --- 1.7 entering a container -----------------------------------------------------------------------------------------


def test_1_7_exec_enters_all_the_namespaces_of_a_running_container(jubako: Command, rootfs: Path, box: OpenBox) -> None:
    inside = box("--name", "entered", "--hostname", "box", "--rootfs", rootfs)
    kinds = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
    told = jubako("exec", "entered", "sh", "-c", f"for k in {' '.join(kinds)}; do readlink /proc/self/ns/$k; done")
    assert told.lines == [inside.namespace(kind) for kind in kinds], told
    assert not {own(kind) for kind in kinds} & set(told.lines)
    assert jubako("exec", "entered", "hostname").stdout == "box\n"
    assert jubako("exec", "entered", "cat", "/proc/1/comm").stdout == "sh\n"
    assert jubako("exec", "entered", "sh", "-c", "exit 7").exit_code == 7


# --- 1.9 what must not leak -------------------------------------------------------------------------------------------


def test_1_9_only_the_standard_descriptors_reach_the_program(rootfs: Path, box: OpenBox) -> None:
    opened = [os.open(path, os.O_RDONLY) for path in ("/", "/etc", "/proc", "/etc/passwd", "/dev/null", "/", "/home")]
    try:
        inside = box("--rootfs", rootfs, pass_fds=tuple(opened))
    finally:
        for fd in opened:
            os.close(fd)
    assert sorted(os.listdir(f"/proc/{inside.pid}/fd")) == ["0", "1", "2"]
    kinds = [stat.S_IFMT(os.stat(f"/proc/{inside.pid}/fd/{fd}").st_mode) for fd in (0, 1, 2)]
    assert kinds == [stat.S_IFIFO] * 3
    assert inside.ask("ls /proc/self/fd").split()[:3] == ["0", "1", "2"]


def test_1_9_descriptors_that_were_asked_for_reach_it(rootfs: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "given").write_text("through a descriptor\n")
    fd = os.open(tmp_path / "given", os.O_RDONLY)
    try:
        told = run("--preserve-fds", str(fd - 2), "--rootfs", rootfs, "sh", "-c", f"cat <&{fd}", pass_fds=(fd,))
    finally:
        os.close(fd)
    assert told.stdout == "through a descriptor\n", told


def test_1_9_capabilities_are_no_more_than_podmans_and_none_is_inheritable_or_ambient(
    rootfs: Path, box: OpenBox
) -> None:
    inside = box("--rootfs", rootfs)
    sets = {name: int(inside.status(f"Cap{name}"), 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")}
    assert sets == {"Inh": 0, "Prm": PODMANS_DEFAULT, "Eff": PODMANS_DEFAULT, "Bnd": PODMANS_DEFAULT, "Amb": 0}
    assert inside.status("NoNewPrivs") == "1"
    assert inside.status("Seccomp") == "2"
    told = inside.ask("grep ^Cap /proc/self/status").split()
    assert [int(word, 16) for word in told[1::2]] == [0, PODMANS_DEFAULT, PODMANS_DEFAULT, PODMANS_DEFAULT, 0]


def test_1_9_capabilities_are_those_that_were_asked_for(rootfs: Path, box: OpenBox) -> None:
    inside = box("--rootfs", rootfs, "--cap-drop", "ALL", "--cap-add", "net_raw", "--cap-add", "CAP_SYS_TIME")
    wanted = 1 << 13 | 1 << 25
    assert [int(inside.status(f"Cap{name}"), 16) for name in ("Prm", "Eff", "Bnd")] == [wanted] * 3


def test_1_9_an_ordinary_user_inside_has_no_capability_but_those_added(rootfs: Path, box: OpenBox) -> None:
    plain = box("--rootfs", rootfs, "--user", "alice")
    assert [int(plain.status(f"Cap{name}"), 16) for name in ("Inh", "Prm", "Eff", "Amb")] == [0] * 4
    asked = box("--rootfs", rootfs, "--user", "alice", "--cap-add", "net_bind_service")
    wanted = 1 << 10
    # ambient, so that the capability survives the next execve of a program without file capabilities
    assert [int(asked.status(f"Cap{name}"), 16) for name in ("Prm", "Eff", "Amb")] == [wanted] * 3
    assert int(asked.ask("grep CapEff /proc/self/status").split()[1], 16) == wanted
