"""Walkthrough 2: each namespace by itself, seen from inside and from the host."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world.box import KINDS, Box, eventually, only_child, open_box, own
from world.command import Command, Result

Run = Callable[..., Result]
OpenBox = Callable[..., Box]


def descendants(pid: int) -> set[int]:
    """All processes below `pid`."""
    found: set[int] = set()
    todo = [pid]
    while todo:
        each = todo.pop()
        try:
            children = Path(f"/proc/{each}/task/{each}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.update(map(int, children))
        todo.extend(map(int, children))
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of `pids` that run (an orphan's zombie may wait a moment for whoever reaps it)."""
    states = {}
    for pid in pids:
        try:
            states[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return {pid for pid, state in states.items() if state not in "ZX"}


# --- all of them ------------------------------------------------------------------------------------------------------


def test_2_0_every_namespace_is_the_containers_own(rootfs: Path, box: OpenBox) -> None:
    inside = box("--rootfs", rootfs)
    assert {kind for kind in KINDS if inside.namespace(kind) == own(kind)} == set()
    other = box("--rootfs", rootfs)
    assert {kind for kind in KINDS if inside.namespace(kind) == other.namespace(kind)} == set()


@pytest.mark.parametrize(
    ("flag", "kind"),
    [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--network", "net"), ("--cgroupns", "cgroup")],
)
def test_2_0_each_can_be_left_out(flag: str, kind: str, rootfs: Path, box: OpenBox) -> None:
    inside = box(flag, "host", "--rootfs", rootfs)
    shared = {name for name in KINDS if inside.namespace(name) == own(name)}
    assert shared == {kind}


def test_2_0_the_time_namespace_can_be_left_out(rootfs: Path, box: OpenBox) -> None:
    inside = box("--ns", "time=host", "--rootfs", rootfs)
    assert {name for name in KINDS if inside.namespace(name) == own(name)} == {"time"}


# --- 2.1 uts ----------------------------------------------------------------------------------------------------------


def test_2_1_a_host_name_changed_inside_leaves_the_hosts_alone(rootfs: Path, box: OpenBox) -> None:
    before = os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()
    inside = box("--hostname", "box", "--domainname", "lacquer", "--cap-add", "sys_admin", "--rootfs", rootfs)
    assert inside.ask("hostname") == "box"
    assert inside.ask("cat /proc/sys/kernel/domainname") == "lacquer"
    assert inside.ask("cat /etc/hostname") == "box"
    assert inside.ask("hostname changed; hostname") == "changed"
    assert (os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()) == before
    assert inside.namespace("uts") != own("uts")


def test_2_1_by_default_the_name_is_the_beginning_of_the_containers_id(rootfs: Path, tmp_path: Path, run: Run) -> None:
    told = run("--cidfile", tmp_path / "id", "--rootfs", rootfs, "hostname", check=True)
    assert (tmp_path / "id").read_text().startswith(told.stdout.strip())
    assert len(told.stdout.strip()) == 12


# --- 2.2 pid ----------------------------------------------------------------------------------------------------------


def test_2_2_pid_1_inside_has_another_pid_outside(rootfs: Path, box: OpenBox) -> None:
    inside = box("--rootfs", rootfs)
    assert inside.ask("echo $$") == "1"
    assert inside.pid > 1
    assert inside.status("NSpid").split()[0] == str(inside.pid)
    assert inside.status("NSpid").split()[-1] == "1"
    assert inside.ask(f"kill -0 {inside.pid}; test -e /proc/{inside.pid} || echo unknown").endswith("unknown")


def test_2_2_the_pid_outside_is_written_where_it_was_asked_for(
    rootfs: Path, tmp_path: Path, box: OpenBox, run: Run
) -> None:
    inside = box("--pidfile", "pid", "--rootfs", rootfs, cwd=tmp_path)
    assert eventually(lambda: (tmp_path / "pid").read_text() == f"{inside.pid}\n")
    refused = run("--pidfile", tmp_path / "no/such", "--rootfs", rootfs, "true")
    assert refused.exit_code == 125, refused
    assert refused.stderr.startswith(f"jubako: write --pidfile {tmp_path}/no/such: No such file"), refused
    assert run("--pidfile", tmp_path / "failed", "--rootfs", rootfs, "nosuch").exit_code == 127
    assert not (tmp_path / "failed").exists()


def test_2_2_the_end_of_pid_1_ends_all_the_others(rootfs: Path, box: OpenBox) -> None:
    inside = box("--rootfs", rootfs)
    inside.ask("sleep 1000 >/dev/null 2>&1 & setsid sleep 1001 >/dev/null 2>&1 &")
    inside.ask("sh -c 'trap \"\" TERM HUP INT; sleep 1002; sleep 1003' >/dev/null 2>&1 &")
    assert eventually(lambda: len(descendants(inside.pid)) >= 4)
    family = descendants(inside.running.pid)
    assert inside.close() == 0
    assert eventually(lambda: not alive(family), 5), alive(family)


def test_2_2_with_the_hosts_pids_those_seen_inside_are_the_real_ones(box: OpenBox) -> None:
    inside = box("--pid", "host", "host")
    assert inside.ask("echo $$") == str(inside.pid)
    assert inside.ask("cat /proc/$$/comm") == "sh"
    sleeper = subprocess.Popen(("sleep", "100"))
    try:
        assert f"{sleeper.pid}" in inside.ask("ps -eo pid=").split()
        inside.ask(f"kill -9 {sleeper.pid}")  # the same user's process: as podman has it
        assert sleeper.wait(5) == -9
    finally:
        sleeper.kill()


@pytest.mark.parametrize("flag", ["host", "container:first"])
def test_2_2_without_a_pid_namespace_the_program_ends_with_its_supervisor(
    flag: str, rootfs: Path, box: OpenBox, jubako: Command
) -> None:
    box("--name", "first", "--rootfs", rootfs)
    inside = box("--pid", flag, "--name", "second", "--rootfs", rootfs)
    program = inside.pid
    assert eventually(lambda: jubako("inspect", "second").json[0]["State"]["Status"] == "running")
    os.kill(only_child(inside.running.pid), signal.SIGKILL)
    assert eventually(lambda: not alive({program}), 5)
    assert inside.running.wait(10) == 137, inside.running.stderr.read()  # type: ignore[union-attr]


@pytest.mark.parametrize("victim", ["command", "supervisor", "first process"])
def test_2_2_no_process_survives_when_one_of_ours_is_killed(victim: str, rootfs: Path, box: OpenBox) -> None:
    inside = box("--rootfs", rootfs)
    inside.ask("sleep 1000 >/dev/null 2>&1 & setsid sleep 1001 >/dev/null 2>&1 &")
    supervisor = only_child(inside.running.pid)
    family = descendants(inside.running.pid) | {inside.running.pid}
    os.kill(
        {"command": inside.running.pid, "supervisor": supervisor, "first process": inside.pid}[victim], signal.SIGKILL
    )
    inside.running.wait(10)
    assert eventually(lambda: not alive(family), 5), alive(family)
    if victim != "command":
        assert inside.running.returncode == 137


# --- 2.3 mnt ----------------------------------------------------------------------------------------------------------

# A mount namespace whose root is shared, as systemd has it, and a directory in it: what the host may mount is seen by
# `slave` and not by `private`. An ordinary user has this in a user namespace.
_SHARED = ("unshare", "--user", "--map-root-user", "--mount", "--propagation", "shared", "--")


class Outside:
    """A private "host" whose mounts are shared: a shell in it mounts, and `jubako` runs in it."""

    def __init__(self, jubako: Command, prefix: tuple[str, ...], directory: Path) -> None:
        self.directory = directory
        self.shell = subprocess.Popen(
            (*prefix, "sh", "-c", "mount --make-rshared /; echo ready; cat"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.shell.stdout is not None
        assert self.shell.stdout.readline() == b"ready\n"
        user = ("--user", "--preserve-credentials") if "--user" in prefix else ()
        self.enter = ("nsenter", "--target", str(self.shell.pid), *user, "--mount", "--wd=.")
        self.run_directory = directory / "run"  # a base of its own
        self.run_directory.mkdir()
        for each in (self.run_directory, directory, *directory.parents[:2]) if os.getuid() == 0 else ():
            each.chmod(0o711)  # ids of containers pass through
        self.jubako = Command(
            jubako.account, directory, (*self.enter, *jubako.prefix),
            {"JUBAKO_RUN": str(self.run_directory), "JUBAKO_ROOT": str(directory / "data")},
        )  # fmt: skip
        ready = self.jubako("run", "--rm", "host", "--", "true")
        if ready.exit_code:
            self.close()
        assert ready.exit_code == 0, ready

    def __call__(self, *argv: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run((*self.enter, *argv), capture_output=True, text=True, check=True)

    def close(self) -> None:
        self.jubako("system", "shutdown")
        self.jubako.close()
        self.shell.communicate()


@pytest.fixture
def outside(jubako: Command, tmp_path: Path) -> Iterator[Outside]:
    made = Outside(jubako, _SHARED, tmp_path)
    yield made
    made.close()


def test_2_3_mounts_inside_do_not_reach_the_host(rootfs: Path, tmp_path: Path, box: OpenBox) -> None:
    (tmp_path / "shared").mkdir()
    before = Path("/proc/self/mountinfo").read_text()
    inside = box("--cap-add", "sys_admin", "-v", f"{tmp_path}/shared:/shared:rshared", "--rootfs", rootfs)
    assert (
        inside.ask("mount -t tmpfs inside /shared && touch /shared/seen && mount -t tmpfs t /mnt && echo done")
        == "done"
    )
    assert "inside /shared tmpfs" in inside.proc("mounts")
    assert os.listdir(tmp_path / "shared") == []
    assert os.listdir(rootfs / "mnt") == []
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize(
    ("propagation", "seen"), [("rslave", True), ("slave", True), ("rshared", True), ("rprivate", False)]
)
def test_2_3_mounts_of_the_host_reach_a_volume_that_is_slave_and_not_one_that_is_private(
    propagation: str, seen: bool, outside: Outside, rootfs: Path
) -> None:
    source = outside.directory / "source"
    (source / "below").mkdir(parents=True)
    inside = open_box(outside.jubako, "-v", f"{source}:/volume:{propagation}", "--rootfs", rootfs)
    outside("mount", "-t", "tmpfs", "late", source / "below")
    try:
        outside("touch", source / "below/file")
        assert inside.ask("ls /volume/below") == ("file" if seen else "")
        assert ("late" in inside.proc("mounts")) is seen
    finally:
        inside.close()
        outside("umount", source / "below")


@pytest.mark.parametrize(
    ("propagation", "seen"), [("rslave", True), ("slave", True), ("rprivate", False), ("private", False), ("", False)]
)
def test_2_3_mounts_of_the_host_reach_the_root_file_system_only_with_slave(
    propagation: str, seen: bool, outside: Outside, rootfs: Path
) -> None:
    asked = ("--propagation", propagation) if propagation else ()
    inside = open_box(outside.jubako, *asked, "--rootfs", rootfs)
    outside("mount", "-t", "tmpfs", "late", rootfs / "mnt")
    try:
        outside("touch", rootfs / "mnt/file")
        assert inside.ask("ls /mnt") == ("file" if seen else "")
    finally:
        inside.close()
        outside("umount", rootfs / "mnt")


@pytest.mark.parametrize(
    ("propagation", "seen"), [("rshared", True), ("shared", True), ("rslave", False), ("rprivate", False)]
)
def test_2_3_between_namespaces_of_one_user_namespace_mounts_travel_with_shared(
    propagation: str, seen: bool, box: OpenBox
) -> None:
    inside = box("--cap-add", "sys_admin", "--propagation", propagation, "host")
    inside.ask("unshare -m --propagation unchanged sh -c 'echo here; exec sleep 1000' >/tmp/log 2>&1 &")
    inside.ask("until grep -qs . /tmp/log; do sleep 0.02; done; cat /tmp/log")
    assert inside.ask("mount -t tmpfs late /mnt && echo mounted") == "mounted"
    told = inside.ask("for p in /proc/[0-9]*; do grep -qs sleep $p/comm && grep -c ' /mnt ' $p/mounts; done")
    assert told == ("1" if seen else "0")


@pytest.mark.root
def test_2_3_as_root_mounts_of_a_container_reach_the_host_with_shared_and_the_hosts_user_namespace(
    jubako: Command, rootfs: Path, tmp_path: Path
) -> None:
    outside = Outside(jubako, ("unshare", "--mount", "--propagation", "shared", "--"), tmp_path)
    (tmp_path / "volume").mkdir()
    try:
        for userns, propagation, seen in (
            (("--userns", "host"), "rshared", True),
            (("--userns", "host"), "rslave", False),
            ((), "rshared", False),  # a mount namespace of another user namespace is always the slave
        ):
            flags = ("--cap-add", "sys_admin", *userns, "-v", f"{tmp_path}/volume:/volume:{propagation}")
            inside = open_box(outside.jubako, *flags, "--rootfs", rootfs)
            try:
                assert inside.ask("mount -t tmpfs from-inside /volume && echo mounted") == "mounted"
                mounts = outside("cat", "/proc/self/mounts").stdout
                assert (f"from-inside {tmp_path}/volume " in mounts) is seen, (userns, propagation)
                inside.ask("umount /volume")
            finally:
                inside.close()
    finally:
        outside.close()


# --- 2.4 net ----------------------------------------------------------------------------------------------------------


def test_2_4_there_is_only_a_loopback_device_and_it_is_up(rootfs: Path, box: OpenBox) -> None:
    inside = box("--network", "none", "--rootfs", rootfs)
    assert inside.ask("ls /sys/class/net") == "lo"
    assert "UP" in inside.ask("ip link show lo")
    assert inside.ask("ping -c1 -W2 127.0.0.1 >/dev/null 2>&1 || ip addr show lo | grep -o 127.0.0.1/8").endswith(
        ("", "127.0.0.1/8")
    )
    lines = inside.proc("net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in lines] == ["lo"]


def test_2_4_its_routing_table_and_its_sockets_are_its_own(rootfs: Path, box: OpenBox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        inside = box("--network", "none", "--rootfs", rootfs)
        assert inside.ask("ip route") == ""
        assert len(inside.proc("net/route").splitlines()) == 1
        assert f":{port:04X}" in Path("/proc/self/net/tcp").read_text()
        assert f":{port:04X}" not in inside.ask("cat /proc/net/tcp")
        refused = inside.ask(f"nc -w 2 127.0.0.1 {port} </dev/null; echo exit $?")
        assert "exit 1" in refused, refused
        inside.ask(f"nc -l -p {port} -e echo mine >/dev/null 2>&1 &")  # the same port is free here
        assert inside.ask(f"sleep 0.2; nc -w 2 127.0.0.1 {port}") == "mine"


def test_2_4_its_packet_filter_is_its_own(run: Run, program: Callable[..., str]) -> None:
    program("iptables")
    rules = "iptables -w -A INPUT -p tcp --dport 4242 -j DROP && iptables -w -S INPUT"
    told = run("--cap-add", "net_admin,net_raw", "host", "--", "sh", "-c", f"mkdir -p /run; {rules}")
    assert "--dport 4242" in told.stdout, told
    again = run("--cap-add", "net_admin,net_raw", "host", "--", "iptables", "-w", "-S", "INPUT")
    assert "4242" not in again.stdout, "another container has another one"


def test_2_4_abstract_unix_sockets_of_the_host_are_out_of_reach(run: Run) -> None:
    name = f"jubako-test-{os.getpid()}"
    connect = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(5);"
        f"s.connect('\\0{name}'); print(s.recv(9).decode())"
    )
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        told = run("--network", "none", "host", "--", "/usr/bin/python3", "-c", connect)
        assert "ConnectionRefusedError" in told.stderr, told
        assert name not in run("--network", "none", "host", "--", "cat", "/proc/net/unix").stdout
        pid = os.fork()
        if pid == 0:
            server.accept()[0].send(b"reached")
            os._exit(0)
        told = run("--network", "host", "host", "--", "/usr/bin/python3", "-c", connect)
        os.waitpid(pid, 0)
    assert told.stdout == "reached\n", f"with the host's network it can be reached: {told}"


# --- 2.6 ipc, cgroup, time --------------------------------------------------------------------------------------------


def test_2_6_system_v_objects_are_its_own(box: OpenBox, program: Callable[..., str]) -> None:
    program("ipcmk", "util-linux-extra")
    libc = ctypes.CDLL(None, use_errno=True)
    key = 0x4A554241
    mine = libc.shmget(key, 4096, 0o1600)
    assert mine >= 0
    try:
        inside = box("host")
        assert f"{key:#x}" not in inside.ask("ipcs -m")
        assert "Shared memory id" in inside.ask("ipcmk -M 4096")
        assert "Message queue id" in inside.ask("ipcmk -Q")
        assert len(inside.ask("cat /proc/sysvipc/shm").splitlines()) == 2
        assert len(inside.ask("cat /proc/sysvipc/msg").splitlines()) == 2
        keys = {line.split()[0] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}
        assert str(key) in keys
        assert inside.ask("awk 'NR>1 {print $1}' /proc/sysvipc/shm") not in keys
    finally:
        libc.shmctl(mine, 0, None)
    shared = box("--ipc", "host", "host")
    assert shared.namespace("ipc") == own("ipc")


def test_2_6_posix_queues_and_shared_memory_are_its_own(rootfs: Path, box: OpenBox) -> None:
    inside = box("--rootfs", rootfs)
    assert inside.ask("echo x > /dev/shm/mine && ls /dev/shm") == "mine"
    assert inside.ask("touch /dev/mqueue/queue && ls /dev/mqueue") == "queue"
    assert not os.path.exists("/dev/shm/mine")
    other = box("--rootfs", rootfs)
    assert other.ask("ls /dev/shm /dev/mqueue").split() == ["/dev/mqueue:", "/dev/shm:"]


def test_2_6_the_cgroup_it_is_in_is_the_root_of_what_it_sees(rootfs: Path, box: OpenBox) -> None:
    inside = box("--rootfs", rootfs)
    paths = {line.split(":", 2)[2] for line in inside.ask("cat /proc/self/cgroup").splitlines()}
    assert paths == {"/"}
    assert inside.namespace("cgroup") != own("cgroup")


def test_2_6_its_clocks_are_set_ahead(rootfs: Path, box: OpenBox) -> None:
    inside = box("--time-offset", "boottime=1000000,monotonic=500000", "--rootfs", rootfs)
    here = float(Path("/proc/uptime").read_text().split()[0])
    there = float(inside.ask("cat /proc/uptime").split()[0])
    assert 999_990 < there - here < 1_000_060
    offsets = {line.split()[0]: int(line.split()[1]) for line in inside.proc("timens_offsets").splitlines()}
    assert offsets == {"monotonic": 500_000, "boottime": 1_000_000}
    assert inside.namespace("time") != own("time")
    assert abs(float(inside.ask("date +%s")) - time.time()) < 60, "the wall clock is everybody's"


def test_2_6_a_clock_can_be_set_back(rootfs: Path, run: Run) -> None:
    told = run("--time-offset", "boottime=-1.5", "--rootfs", rootfs, "cat", "/proc/uptime", "/proc/self/timens_offsets")
    here = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert float(told.stdout.split()[0]) < here
    assert ["boottime", "-2", "500000000"] in [line.split() for line in told.lines], told


# --- 2.7 joining ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["net", "ipc", "uts"])
def test_2_7_run_joins_a_namespace_by_its_path(kind: str, rootfs: Path, box: OpenBox) -> None:
    first = box("--hostname", "first", "--rootfs", rootfs)
    second = box("--ns", f"{kind}=/proc/{first.pid}/ns/{kind}", "--rootfs", rootfs)
    shared = {name for name in KINDS if first.namespace(name) == second.namespace(name)}
    assert shared == {kind}
    if kind == "uts":
        assert second.ask("hostname") == "first"


def test_2_7_a_namespace_that_is_held_outlives_its_last_process_and_can_be_joined(rootfs: Path, box: OpenBox) -> None:
    first = box("--cap-add", "net_admin", "--rootfs", rootfs)
    assert first.ask("ip addr add 10.9.8.7/32 dev lo && echo added") == "added"
    name, held = first.namespace("net"), os.open(f"/proc/{first.pid}/ns/net", os.O_RDONLY)
    try:
        assert first.close() == 0
        second = box("--ns", f"net=/proc/{os.getpid()}/fd/{held}", "--rootfs", rootfs)
        assert second.namespace("net") == name
        assert "10.9.8.7" in second.ask("ip addr show lo")
    finally:
        os.close(held)


@pytest.mark.parametrize(("flag", "kind"), [("--network", "net"), ("--ipc", "ipc"), ("--uts", "uts"), ("--pid", "pid")])
def test_2_7_a_namespace_of_a_running_container_is_joined_by_its_name(
    flag: str, kind: str, rootfs: Path, box: OpenBox
) -> None:
    first = box("--name", "joined", "--rootfs", rootfs)
    first.ask("sleep 4321 >/dev/null 2>&1 &")
    second = box(flag, "container:joined", "--rootfs", rootfs)
    assert {name for name in KINDS if first.namespace(name) == second.namespace(name)} == {kind}
    if kind == "pid":
        assert "sleep 4321" in second.ask("ps -o args"), "its /proc is that of the namespace joined"
        assert second.close() == 0
        assert "sleep 4321" in first.ask("ps -o args"), "and the other container goes on"


def test_2_7_what_is_no_namespace_is_refused(rootfs: Path, tmp_path: Path, run: Run) -> None:
    missing = run("--ns", f"net={tmp_path}/missing", "--rootfs", rootfs, "true")
    assert missing.exit_code == 125
    assert missing.stderr.startswith(f"jubako: open the network namespace {tmp_path}/missing: No such file"), missing
    (tmp_path / "file").write_text("")
    wrong = run("--ns", f"net={tmp_path}/file", "--rootfs", rootfs, "true")
    assert wrong.exit_code == 125
    assert "jubako: join the namespace network: Invalid argument (EINVAL)" in wrong.stderr, wrong


# --- 2.8 the system calls ---------------------------------------------------------------------------------------------


def test_2_8_explain_prints_the_steps_in_order_and_makes_nothing(jubako: Command, rootfs: Path, tmp_path: Path) -> None:
    told = jubako("explain", "run", "--hostname", "box", "--rootfs", rootfs, "/bin/sh", check=True).stdout
    place = 0
    for word in ("CLONE_NEWUSER", "uid_map", "setresuid", "sethostname", '"proc"', "pivot_root", "capset", "execve"):
        assert word in told[place:], f"{word} does not come next in:\n{told}"
        place = told.index(word, place)


def test_2_8_the_system_calls_of_a_start_are_those_that_explain_shows(
    jubako: Command, rootfs: Path, tmp_path: Path, program: Callable[..., str]
) -> None:
    trace = tmp_path / "trace"
    calls = (
        "sethostname",
        "setdomainname",
        "pivot_root",
        "capset",
        "umount2",
        "mount",
        "move_mount",
        "seccomp",
        "keyctl",
    )
    traced = (program("strace"), "-f", "-qq", "-o", str(trace), "-e", "trace=" + ",".join(calls))
    flags = ("--hostname", "box", "--domainname", "lacquer", "--rootfs", rootfs)
    command = Command(jubako.account, tmp_path, traced)
    told = command("run", "--rm", *flags, "/bin/true")
    assert told.exit_code == 0, told
    explained = jubako("explain", "run", *flags, "/bin/true", check=True).stdout
    made = [
        line.split(None, 1)[1].partition("(")[0] for line in trace.read_text().splitlines() if "resumed" not in line
    ]
    for call in calls:
        assert (call in made) == (f"{call}(" in explained or f"{call};" in explained), call
    for filesystem in ("proc", "sysfs", "devpts", "mqueue"):
        assert f'"{filesystem}", MS_' in trace.read_text(), filesystem
        assert f'"{filesystem}", MS_' in explained, filesystem
