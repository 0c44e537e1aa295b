"""What root of a container may ask of the kernel: nothing that reaches the machine, by default through the filter, and
with all capabilities and without a filter by the kernel's own borders.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from world.account import Account, subordinate_ids
from world.box import Box, own
from world.command import Command, Result
from world.rootfs import copy_with_libraries

Run = Callable[..., Result]
OpenBox = Callable[..., Box]

PYTHON = "/usr/bin/python3"
UNCONFINED = ("--privileged", "--security-opt", "seccomp=unconfined")
PROBE = """
import ctypes, errno, json, sys
libc = ctypes.CDLL(None, use_errno=True)
answers = {}
for name, number, arguments in json.loads(sys.argv[1]):
    ctypes.set_errno(0)
    words = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a.encode()) for a in arguments]
    result = libc.syscall(number, *words)
    answers[name] = errno.errorcode.get(ctypes.get_errno(), "") if result == -1 else "done"
print(json.dumps(answers))
"""
NUMBERS = {  # x86_64, aarch64
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "bpf": (321, 280), "perf_event_open": (298, 241),
    "open_by_handle_at": (304, 265), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "unshare": (272, 97), "setns": (308, 268), "sethostname": (170, 161), "settimeofday": (164, 170), "acct": (163, 89),
    "quotactl": (179, 60), "userfaultfd": (323, 282), "syslog": (103, 116), "mknodat": (259, 33), "ptrace": (101, 117),
    "fsopen": (430, 430), "fsmount": (432, 432), "open_tree": (428, 428), "move_mount": (429, 429), "clone": (56, 220),
    "mount_setattr": (442, 442), "io_uring_setup": (425, 425), "vhangup": (153, 58), "clock_settime": (227, 112),
    "fanotify_init": (300, 262), "lookup_dcookie": (212, 18), "move_pages": (279, 239), "pidfd_getfd": (438, 438),
}  # fmt: skip
REFUSED = {"EPERM", "ENOSYS", "EACCES"}


def number(name: str) -> int:
    return NUMBERS[name][0 if os.uname().machine == "x86_64" else 1]


def ask_kernel(run: Run, flags: tuple[str, ...], calls: dict[str, list[int | str]]) -> dict[str, str]:
    """What each system call answers inside a container of the host's system."""
    listed = json.dumps([[name, number(name.partition(" ")[0]), arguments] for name, arguments in calls.items()])
    told = run(*flags, "host", "--", PYTHON, "-I", "-c", PROBE, listed, check=True)
    answers: dict[str, str] = told.json
    return answers


def test_dangerous_system_calls_are_refused_by_default(run: Run) -> None:
    newuser, newns = 0x10000000, 0x00020000
    answers = ask_kernel(
        run, (),
        {
            "unshare user": [newuser], "unshare mount": [newns], "unshare all": [0x7E020000],
            "clone user": [newuser | 17],
            "mount": ["tmpfs", "/mnt", "tmpfs", 0, 0], "umount2": ["/proc", 2], "pivot_root": [".", "."],
            "fsopen": ["tmpfs", 0], "open_tree": [-100, "/", 1], "move_mount": [-100, "/tmp", -100, "/mnt", 0],
            "setns": [0, 0], "add_key": ["user", "k", "v", 1, -3], "request_key": ["user", "k", 0, -3],
            "keyctl": [0, -3, 0], "init_module": [0, 0, ""], "finit_module": [0, "", 0], "delete_module": ["x", 0],
            "bpf": [0, 0, 0], "perf_event_open": [0, 0, -1, -1, 0], "open_by_handle_at": [-100, 0, 0],
            "kexec_load": [0, 0, 0, 0], "kexec_file_load": [-1, -1, 0, 0, 0], "reboot": [-18751827, 672274793, 0],
            "swapon": ["/x", 0], "swapoff": ["/x"], "sethostname": ["x", 1], "settimeofday": [0, 0], "acct": [0],
            "quotactl": [0, 0, 0, 0], "userfaultfd": [0], "syslog": [3, 0, 0], "io_uring_setup": [1, 0],
            "mknodat": [-100, "/tmp/sda", 0o60600, 0x800], "vhangup": [], "fanotify_init": [0, 0],
            "mount_setattr": [-100, "/", 0, 0, 0], "lookup_dcookie": [0, 0, 0], "clock_settime": [0, 0],
        },
    )  # fmt: skip
    assert {name: answer for name, answer in answers.items() if answer not in REFUSED} == {}


def test_with_all_capabilities_and_no_filter_the_kernel_itself_still_refuses(run: Run) -> None:
    answers = ask_kernel(
        run, UNCONFINED,
        {
            "init_module": [0, 0, ""], "delete_module": ["x", 0], "bpf": [5, 0, 0], "kexec_load": [0, 0, 0, 0],
            "reboot": [-18751827, 672274793, 0], "swapon": ["/x", 0], "settimeofday": [0, 0], "acct": [0],
            "mknodat": [-100, "/tmp/sda", 0o60600, 0x800], "vhangup": [], "open_by_handle_at": [-100, 0, 0],
        },
    )  # fmt: skip
    harmless = {"EFAULT", "EINVAL", "ENOENT"}  # refused before the right was asked for
    assert {name: answer for name, answer in answers.items() if answer not in REFUSED | harmless} == {}
    assert answers["mknodat"] == answers["swapon"] == "EPERM"


def test_calls_of_another_abi_do_not_slip_past_the_filter(run: Run) -> None:
    if os.uname().machine != "x86_64":
        return
    script = (
        "import ctypes, errno; libc = ctypes.CDLL(None, use_errno=True);"
        "r = libc.syscall(0x40000000 | 165, b't', b'/mnt', b'tmpfs', 0, 0); print(r, ctypes.get_errno())"
    )
    told = run("--cap-add", "sys_admin", "host", "--", PYTHON, "-I", "-c", script)
    assert told.exit_code in (128 + 31, 159) or told.stdout.split()[0] == "-1", told


@pytest.mark.parametrize("flags", [(), UNCONFINED])
def test_settings_of_the_machine_cannot_be_changed(flags: tuple[str, ...], rootfs: Path, box: OpenBox) -> None:
    inside = box(*flags, "--rootfs", rootfs)
    paths = ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/panic_on_oom",
             "/proc/sysrq-trigger", "/sys/kernel/uevent_helper", "/proc/sys/fs/binfmt_misc/register",
             "/sys/power/state")  # fmt: skip
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    for path in paths:
        if os.path.exists(path):
            told = inside.ask(f"echo '|/tmp/evil' > {path} && echo WRITTEN")
            assert "WRITTEN" not in told, (path, told)
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_what_tells_about_the_whole_machine_is_masked(rootfs: Path, box: OpenBox) -> None:
    inside = box("--rootfs", rootfs)
    for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"):
        assert inside.ask(f"cat {path} 2>/dev/null | wc -c") == "0", path
    for path in ("/proc/acpi", "/sys/firmware", "/sys/dev/block"):
        assert inside.ask(f"ls -A {path} 2>/dev/null") == "", path
    assert "not permitted" in inside.ask("dmesg")


def test_cve_2022_0492_no_release_agent_can_be_set(rootfs: Path, box: OpenBox) -> None:
    inside = box(*UNCONFINED, "--rootfs", rootfs)
    for controller in ("rdma", "memory", "cpu", "none,name=x"):
        told = inside.ask(
            f"mkdir -p /m; mount -t cgroup -o {controller} cgroup /m && echo /x > /m/release_agent && echo SET"
        )
        assert "SET" not in told, told
    told = inside.ask("find /sys/fs/cgroup -name release_agent -exec sh -c 'echo /x > {} && echo SET' ';'")
    assert "SET" not in told


def test_cve_2014_8989_groups_cannot_be_dropped_to_gain_access(rootfs: Path, box: OpenBox, account: Account) -> None:
    inside = box("--rootfs", rootfs)
    mapped = {account.gid}
    for start, count in subordinate_ids("/etc/subgid", account.name, account.uid):
        mapped |= set(range(start, start + count))
    assert {int(group) for group in inside.status("Groups").split()} <= mapped, "no group of the caller's is kept"
    single = box("--uidmap", f"0:@{account.uid}:1", "--gidmap", f"0:@{account.gid}:1", "host")
    assert [int(word) for word in single.status("Gid").split()] == [account.gid] * 4


def test_cve_2022_36109_the_primary_group_is_a_supplementary_one_as_well(rootfs: Path, run: Run) -> None:
    (rootfs / "for-others").write_text("not for alice's group")
    (rootfs / "for-others").chmod(0o604)
    script = "chown 0:1000 /for-others; su alice -c 'cat /for-others; grep Groups /proc/self/status'"
    told = run("--rootfs", rootfs, "sh", "-c", script)
    assert "not for" not in told.stdout
    direct = run("--user", "alice", "--rootfs", rootfs, "grep", "Groups", "/proc/self/status")
    assert "1000" in direct.stdout.split(), direct


@pytest.mark.parametrize("flags", [(), ("--user", "alice"), ("--cap-add", "all"), ("--privileged",)])
def test_cve_2022_24769_no_capability_is_inheritable(flags: tuple[str, ...], rootfs: Path, box: OpenBox) -> None:
    inside = box("--name", "plain", *flags, "--rootfs", rootfs)
    inheritable = int(inside.status("CapInh"), 16)
    assert inheritable & ~int(inside.status("CapAmb"), 16) == 0


def test_set_uid_programs_give_nothing(rootfs: Path, run: Run) -> None:
    copy_with_libraries("/bin/cat", rootfs / "debian")
    shutil.copytree(rootfs / "debian", rootfs, dirs_exist_ok=True, ignore=shutil.ignore_patterns("bin"))
    shutil.copy("/bin/cat", rootfs / "bin/cat-as-root")
    run("--rootfs", rootfs, "chmod", "4755", "/bin/cat-as-root", check=True)
    command = ("--user", "alice", "--rootfs", rootfs, "cat-as-root", "/proc/self/status")

    def uids(result: Result) -> list[str]:
        return next(line.split()[1:] for line in result.lines if line.startswith("Uid:"))

    assert uids(run(*command, check=True)) == ["1000"] * 4
    allowed = run("--security-opt", "no-new-privileges=false", *command, check=True)
    assert uids(allowed) == ["1000", "0", "0", "0"], "unless they were asked for"


def test_the_session_keyring_is_the_containers_own(jubako: Command, program: Callable[..., str]) -> None:
    # the caller has a key; the container, even without a filter, has a session keyring in which it is not
    add, keyctl = number("add_key"), number("keyctl")
    outside = (
        "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True); s = libc.syscall;"
        f"s({keyctl}, 1, None); key = s({add}, b'user', b'jubako-secret', b'x', 1, ctypes.c_long(-3)); assert key > 0;"
        f"assert s({keyctl}, 10, ctypes.c_long(-3), b'user', b'jubako-secret', 0) == key;"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    inside = (
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True);"
        f"print(libc.syscall({keyctl}, 10, ctypes.c_long(-3), b'user', b'jubako-secret', 0), ctypes.get_errno())"
    )
    command = Command(jubako.account, jubako.cwd, (PYTHON, "-I", "-c", outside))
    told = command("run", "--rm", *UNCONFINED, "host", "--", PYTHON, "-I", "-c", inside, check=True)
    assert told.stdout.split()[0] == "-1", told
    assert "jubako-secret" not in command("run", "--rm", "host", "--", "cat", "/proc/keys").stdout


def test_processes_of_the_host_cannot_be_traced_or_signalled(run: Run) -> None:
    sleeper = subprocess.Popen(("sleep", "100"))
    try:
        answers = ask_kernel(run, UNCONFINED, {"ptrace": [16, sleeper.pid, 0, 0], "pidfd_getfd": [-1, 0, 0]})
        assert answers["ptrace"] == "ESRCH"
        run(*UNCONFINED, "host", "--", "kill", "-9", str(sleeper.pid))
        run(*UNCONFINED, "host", "--", "kill", "-9", "-1")
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_cve_2020_15257_no_control_socket_is_reachable_from_inside(
    rootfs: Path, box: OpenBox, account: Account
) -> None:
    inside = box("--network", "host", "--rootfs", rootfs)
    listening = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if "jubako" in line]
    assert not [name for name in listening if name.startswith("@")], "none is abstract: a file's mode guards it"
    for name in listening:
        if name.startswith(account.runtime_directory):
            directory = os.path.dirname(name)
            assert stat.S_IMODE(os.stat(directory).st_mode) & 0o077 == 0, directory
    assert "jubako" not in inside.ask("find / -xdev -type s 2>/dev/null")
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(OSError):
        client.connect("\0jubako")


def test_a_run_time_directory_that_belongs_to_somebody_else_is_refused(jubako: Command, account: Account) -> None:
    place = Path(f"/tmp/jubako-{account.uid}")
    if place.is_dir() and not place.is_symlink():
        place.rmdir()  # an empty one, that an earlier command without XDG_RUNTIME_DIR claimed
    assert not os.path.lexists(place)
    command = Command(account, jubako.cwd, ("env", "-u", "XDG_RUNTIME_DIR", "-u", "JUBAKO_RUN"))
    try:
        place.symlink_to("/tmp")
        told = command("run", "--rm", "host", "--", "true")
        assert told.exit_code == 125, told
        assert str(place) in told.stderr
        place.unlink()
        place.mkdir()
        place.chmod(0o777)
        told = command("run", "--rm", "host", "--", "true")
        assert told.exit_code == 125, told
        assert "hint:" in told.stderr
    finally:
        if place.is_symlink():
            place.unlink()
        else:
            shutil.rmtree(place, ignore_errors=True)


def test_a_user_namespace_made_inside_is_refused_and_with_a_filter_of_ones_own_possible(box: OpenBox) -> None:
    inside = box("host")
    assert "Operation not permitted" in inside.ask("unshare --user --map-root-user id -u")
    assert "not permitted" in inside.ask("unshare --mount true")
    open_ = box("--security-opt", "seccomp=unconfined", "host")
    assert open_.ask("unshare --user --map-root-user id -u") == "0"
    assert own("user") != open_.namespace("user")
