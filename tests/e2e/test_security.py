"""What containers have been broken out of with, tried on ours: the known CVEs of the field and the usual attempts.

Attacks run as root of the container; where that is said, with all capabilities and without the system call filter,
so that the kernel's own borders are seen to hold as well.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world.account import Account, subordinate_ids
from world.box import Box, eventually, own
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
    result = libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a.encode()) for a in arguments])
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


def text_of(result: Result) -> str:
    return result.stdout + result.stderr


# --- CVE-2019-5736: the runtime's own program -------------------------------------------------------------------------


@pytest.fixture
def with_own_python(jubako: Command, tmp_path: Path) -> Iterator[Command]:
    """`jubako` run by an interpreter that belongs to the caller, who is root in the container: the dangerous case."""
    interpreter = tmp_path / "own-python"
    shutil.copy(os.path.realpath(PYTHON), interpreter)
    main = next(Path(jubako.program).resolve().parent.parent.glob("lib/python3*/site-packages/jubako/__main__.py"))
    launcher = tmp_path / "jubako"
    launcher.write_text(f'#!/bin/sh\nexec {interpreter} -I -S {main} "$@"\n')
    launcher.chmod(0o755)
    before = hashlib.sha256(interpreter.read_bytes()).hexdigest()
    command = Command(jubako.account, tmp_path, program=str(launcher))
    yield command
    command.close()
    assert hashlib.sha256(interpreter.read_bytes()).hexdigest() == before, "the interpreter was overwritten"


def test_cve_2019_5736_the_runtimes_own_program_cannot_be_the_containers(
    with_own_python: Command, rootfs: Path, tmp_path: Path
) -> None:
    assert with_own_python("run", "--rm", "--rootfs", rootfs, "echo", "works").stdout == "works\n"
    (rootfs / "exe").symlink_to("/proc/self/exe")
    (rootfs / "task").symlink_to("/proc/thread-self/exe")
    (rootfs / "one").symlink_to("/proc/1/exe")
    for name, interpreter in (("direct", "/proc/self/exe"), ("linked", "/exe"), ("first", "/proc/1/exe")):
        (rootfs / name).write_text(f"#!{interpreter}\nimport os\nprint('inside the interpreter of the host')\n")
        (rootfs / name).chmod(0o755)
    for program in ("/proc/self/exe", "/proc/1/exe", "/exe", "/task", "/one", "/direct", "/linked", "/first"):
        for flags in ((), ("--init",)):
            told = with_own_python("run", "--rm", *flags, "--rootfs", rootfs, program, "-c", "print('interpreter')")
            assert told.exit_code == 126, (program, told)
            assert "interpreter" not in told.stdout, (program, told)
            assert told.stderr.startswith("jubako: execute "), (program, told)


def test_cve_2019_5736_and_2016_9962_nothing_of_a_process_that_enters_can_be_opened(
    with_own_python: Command, rootfs: Path, tmp_path: Path
) -> None:
    # root of the container lies in wait for whoever enters, to open its program, memory and descriptors
    spy = """
    while [ ! -e /stop ]; do for p in /proc/[0-9]*; do
        case ${p#/proc/} in 1) continue;; esac
        readlink $p/exe $p/cwd $p/root $p/fd/* ; cat $p/environ | tr '\\0' '\\n'
        (echo x >> $p/exe; dd if=$p/mem bs=1 count=1) && echo WRITTEN $p
    done; done > /seen 2>/dev/null
    """
    (rootfs / "spy").write_text(spy)
    running = with_own_python.start(
        "run", "--rm", "--name", "watched", "--cap-add", "sys_ptrace", "--rootfs", rootfs, "sh", "/spy"
    )
    assert eventually(lambda: with_own_python("exec", "watched", "true").exit_code == 0)
    for _ in range(12):
        told = with_own_python("exec", "watched", "echo", "entered", env={"SECRET": "of the caller"})
        assert told.stdout == "entered\n", told
    (rootfs / "stop").write_text("")
    assert running.wait(20) == 0
    seen = (rootfs / "seen").read_text(errors="replace")
    assert "SECRET" not in seen
    for path in (str(tmp_path / "own-python"), jubako_directory(with_own_python), with_own_python.account.home):
        assert path not in seen.replace(str(rootfs), ""), f"{path} was seen from inside"


def jubako_directory(command: Command) -> str:
    return command.account.runtime_directory


def test_cve_2019_5736_an_entry_point_changed_while_running_does_not_reach_the_host(
    with_own_python: Command, rootfs: Path
) -> None:
    running = with_own_python.start("run", "--rm", "--name", "changed", "-i", "--rootfs", rootfs, "sh")
    assert eventually(lambda: with_own_python("exec", "changed", "true").exit_code == 0)
    (rootfs / "bin/evil").write_text("#!/proc/self/exe\n")
    (rootfs / "bin/evil").chmod(0o755)
    for program in ("/bin/evil", "/proc/self/exe"):
        told = with_own_python("exec", "changed", program, "-c", "print('interpreter')")
        assert told.exit_code == 126, told
        assert "interpreter" not in told.stdout
    running.communicate()


@pytest.mark.parametrize("secret", ["exe", "fd", "maps", "environ", "mem", "cwd", "root"])
def test_our_own_first_process_cannot_be_looked_into(secret: str, rootfs: Path, box: OpenBox) -> None:
    inside = box("--init", "--cap-add", "sys_ptrace", "-e", "PASSED=secret", "--rootfs", rootfs)
    shown = inside.ask(f"ls -l /proc/1/{secret}; readlink /proc/1/{secret}; ls /proc/1/{secret}/; cat /proc/1/{secret}")
    assert "python" not in shown
    assert "secret" not in shown
    assert "denied" in shown or "not permitted" in shown, shown


def test_our_own_first_process_does_not_show_what_the_caller_typed(rootfs: Path, box: OpenBox) -> None:
    inside = box("--init", "-e", "PASSED=secret", "--label", "typed=here", "--rootfs", rootfs)
    shown = inside.ask("tr '\\0' ' ' < /proc/1/cmdline; cat /proc/1/comm; ps -o args")
    assert "secret" not in shown.replace("PASSED=secret sh", "")
    assert "typed" not in shown
    assert str(rootfs) not in shown


# --- CVE-2024-21626: the working directory ----------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/proc/self/fd", "/proc/1/fd", "/dev/fd", "/link"])
def test_cve_2024_21626_the_working_directory_is_never_a_descriptor_of_the_host(
    place: str, rootfs: Path, run: Run
) -> None:
    (rootfs / "link").symlink_to("/proc/self/fd")
    opened = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(5)]
    try:
        for descriptor in range(21):
            directory = f"{place}/{descriptor}"
            told = run(
                "-w", directory, "--rootfs", rootfs, "sh", "-c", "pwd; ls; cat ../../../etc/passwd ./etc/passwd",
                pass_fds=tuple(opened),
            )  # fmt: skip
            assert told.exit_code == 125, (directory, told)
            assert told.stdout == ""
            assert told.stderr.startswith("jubako: enter the working directory"), told
    finally:
        for descriptor in opened:
            os.close(descriptor)


def test_cve_2024_21626_nor_that_of_exec(rootfs: Path, box: OpenBox, jubako: Command) -> None:
    box("--name", "entered", "--rootfs", rootfs)
    for descriptor in range(21):
        told = jubako("exec", "-w", f"/proc/self/fd/{descriptor}", "entered", "ls", "-la")
        assert told.exit_code != 0, told
        assert "passwd" not in told.stdout
        assert told.stdout == ""


# --- CVE-2021-30465, CVE-2019-19921, CVE-2025-31133, -52565, -52881: links in the root --------------------------------


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host that a hostile root would like to write to."""
    made = tmp_path / "victim"
    made.mkdir()
    (made / "file").write_text("untouched")
    yield made
    assert sorted(os.listdir(made)) == ["file"]
    assert (made / "file").read_text() == "untouched"


@pytest.mark.parametrize("name", ["proc", "sys", "dev", "etc", "etc/hosts", "etc/resolv.conf", "etc/hostname", "tmp", "run"])
@pytest.mark.parametrize("up", ["", "../../../../../../../../.."])
def test_cve_2021_30465_a_link_in_the_root_never_leads_a_mount_or_a_file_outside(
    name: str, up: str, rootfs: Path, victim: Path, run: Run
) -> None:
    place = rootfs / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    target = victim / "file" if "/" in name else victim
    place.symlink_to(f"{up}{target}")
    before = Path("/proc/self/mountinfo").read_text()
    told = run("--rootfs", rootfs, "/bin/busybox", "cat", "/proc/self/mountinfo", "/etc/hosts")
    assert Path("/proc/self/mountinfo").read_text() == before
    assert "untouched" not in text_of(told)
    if told.exit_code in (125, 126, 127):
        assert told.stderr.startswith("jubako: "), told


@pytest.mark.parametrize("target", ["/inside", "/link/new", "/link", "/up/new", "/chain/a/b", "/dangling", "/dangling/new"])
def test_cve_2021_30465_a_volume_over_a_link_stays_inside(
    target: str, rootfs: Path, victim: Path, tmp_path: Path, box: OpenBox
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/mark").write_text("")
    (rootfs / "link").symlink_to(victim)
    (rootfs / "up").symlink_to(f"../../../../../../../../../../..{victim}")
    (rootfs / "chain").symlink_to("/link")
    (rootfs / "dangling").symlink_to("../../../../nowhere/at/all")
    inside = box("-v", f"{tmp_path}/source:{target}", "--tmpfs", "/link/tmp", "-w", "/up/work", "--rootfs", rootfs)
    assert "mark" in inside.ask(f"ls {target}").split()
    for line in inside.proc("mountinfo").splitlines():
        assert str(victim) not in line.split()[3]
    assert str(victim).lstrip("/").split("/")[0] in os.listdir(rootfs) or target in ("/inside",)


def test_cve_2021_30465_a_directory_that_is_swapped_for_a_link_meanwhile_wins_nothing(
    rootfs: Path, victim: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "source").mkdir()
    (rootfs / "swapped").mkdir()
    (rootfs / "link").symlink_to(victim)
    libc, stop = ctypes.CDLL(None, use_errno=True), threading.Event()
    exchange = 2  # RENAME_EXCHANGE
    names = [os.fsencode(rootfs / name) for name in ("swapped", "link")]

    def swap() -> None:
        while not stop.is_set():
            libc.renameat2(-100, names[0], -100, names[1], exchange)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(25):
            told = run("-v", f"{tmp_path}/source:/swapped/new", "--tmpfs", "/swapped/tmp", "--rootfs", rootfs, "true")
            assert told.exit_code in (0, 125), told
    finally:
        stop.set()
        swapper.join()


def test_cve_2025_31133_masks_are_the_real_null_device_whatever_dev_the_root_brings(
    rootfs: Path, tmp_path: Path, box: OpenBox
) -> None:
    (rootfs / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    evil = tmp_path / "dev"
    evil.mkdir()
    (evil / "null").symlink_to("/proc/sys/kernel/core_pattern")
    for flags in ((), ("-v", f"{evil}:/dev")):
        inside = box(*flags, "--rootfs", rootfs)
        for masked in ("keys", "timer_list", "kcore"):
            path = f"/proc/{inside.pid}/root/proc/{masked}"
            if os.path.exists(path):
                found = os.stat(path)
                assert stat.S_ISCHR(found.st_mode), (flags, masked)
                assert found.st_rdev == os.makedev(1, 3), (flags, masked)
        assert "Read-only" in inside.ask("echo x > /proc/sys/kernel/core_pattern")


def test_cve_2025_31133_what_is_masked_by_request_is_masked_inside_only(
    rootfs: Path, victim: Path, run: Run
) -> None:
    (rootfs / "link").symlink_to(victim)
    (rootfs / "secret").write_text("of the image")
    flags = ("--security-opt", "mask=/secret:/link", "--rootfs", rootfs)
    assert run(*flags, "cat", "/secret").stdout == ""


def test_cve_2025_52565_a_console_that_is_a_link_is_not_mounted_over(
    rootfs: Path, tmp_path: Path, jubako: Command
) -> None:
    evil = tmp_path / "dev"
    evil.mkdir()
    for name in ("console", "ptmx", "tty", "pts"):
        (evil / name).symlink_to("/proc/sysrq-trigger")
    terminal = jubako.terminal(
        "run", "--rm", "-it", "-v", f"{evil}:/dev", "--rootfs", str(rootfs), "grep", "-c", "sysrq", "/proc/self/mountinfo"
    )
    terminal.wait()
    # the one mount there is our own, read-only one
    assert terminal.output.strip() in ("0", "1") or "jubako: " in terminal.output, terminal.output


@pytest.mark.parametrize("name", ["proc", "proc/self/attr", "proc/sys"])
def test_cve_2025_52881_what_is_written_to_proc_goes_to_proc(name: str, rootfs: Path, victim: Path, run: Run) -> None:
    place = rootfs / name
    if name == "proc":
        place.rmdir()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(victim)
    told = run("--sysctl", "kernel.msgmax=4242", "--rootfs", rootfs, "/bin/busybox", "cat", "/proc/sys/kernel/msgmax")
    assert told.stdout in ("4242\n", ""), told
    assert Path("/proc/sys/kernel/msgmax").read_text() != "4242\n"


# --- descriptors, environment, home, streams --------------------------------------------------------------------------


def test_descriptors_of_the_caller_do_not_get_in(rootfs: Path, run: Run) -> None:
    opened = [os.open(path, os.O_RDONLY) for path in ("/", "/etc", "/proc", "/etc/passwd", "/", "/dev")]
    try:
        for flags in ((), ("--init",), ("-i",)):
            told = run(*flags, "--rootfs", rootfs, "ls", "/proc/self/fd", pass_fds=tuple(opened), input="")
            assert told.stdout.split() == ["0", "1", "2", "3"], (flags, told)  # 3 is the listing's own
    finally:
        for descriptor in opened:
            os.close(descriptor)


def test_the_callers_environment_and_home_are_not_visible(run: Run, jubako: Command, account: Account) -> None:
    secret = Path(account.home, ".jubako-test-secret")
    secret.write_text("of the caller")
    try:
        script = f"env; ls -A {account.home} /home; cat {secret}; cat /proc/1/environ"
        told = run("host", "--", "sh", "-c", script, env={"TOKEN": "of-the-environment"})
        assert "of the caller" not in told.stdout
        assert "of-the-environment" not in told.stdout
        assert account.name not in told.stdout
        assert not [line for line in told.lines if line.startswith(("USER=", "LOGNAME=", "XDG_", "SSH_"))]
    finally:
        secret.unlink()


def test_the_hosts_run_time_directories_and_sockets_are_not_visible(run: Run) -> None:
    told = run("host", "--", "sh", "-c", "find /run /tmp /var -type s; ls -A /run /tmp /var/tmp")
    assert told.stdout.split() == ["/run:", "lock", "/tmp:", "/var/tmp:"], told


def test_a_terminal_of_the_host_is_never_handed_over(rootfs: Path, jubako: Command) -> None:
    terminal = jubako.terminal("run", "--rm", "-i", "--rootfs", str(rootfs), "sh")
    terminal.send("tty; echo x > /dev/tty; ls -l /proc/self/fd/; echo end\n")
    shown = terminal.read_until("^end")
    assert "not a tty" in shown
    assert "/dev/pts" not in shown.replace("\r", "")
    assert "can't create /dev/tty" in shown, shown
    terminal.send("exit\n")
    terminal.wait()


def test_tiocsti_cannot_type_into_the_callers_shell(jubako: Command) -> None:
    # under a shell of the caller's, which would read what was typed into its terminal
    script = "import fcntl, termios\\nfor c in b'echo typed-by-container\\\\n': fcntl.ioctl(0, termios.TIOCSTI, bytes([c]))"
    caller = Command(jubako.account, jubako.cwd, program="/bin/sh")
    terminal = caller.terminal("-i")
    words = " ".join(jubako.argv("run", "--rm", "-it", "host", "--", PYTHON, "-I", "-c"))
    terminal.send(f"PS1=; {words} \"$(printf '{script}')\"; echo end-of-run-$?\n")
    terminal.read_until("end-of-run-\\d", timeout=20)
    terminal.send("echo still $((40 + 2))\n")
    rest = terminal.read_until("still 42")
    assert "\ntyped-by-container" not in terminal.output.replace("\r", ""), terminal.output
    assert "typed" not in rest
    terminal.send("exit\n")
    terminal.wait()
    jubako.close()
    terminal.close()


# --- what the kernel is asked -----------------------------------------------------------------------------------------


def test_dangerous_system_calls_are_refused_by_default(run: Run) -> None:
    newuser, newns = 0x10000000, 0x00020000
    answers = ask_kernel(
        run, (),
        {
            "unshare user": [newuser], "unshare mount": [newns], "unshare all": [0x7E020000], "clone user": [newuser | 17],
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
    paths = ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/panic_on_oom", "/proc/sysrq-trigger",
             "/sys/kernel/uevent_helper", "/proc/sys/fs/binfmt_misc/register", "/sys/power/state")  # fmt: skip
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
        told = inside.ask(f"mkdir -p /m; mount -t cgroup -o {controller} cgroup /m && echo /x > /m/release_agent && echo SET")
        assert "SET" not in told, told
    told = inside.ask("find /sys/fs/cgroup -name release_agent -exec sh -c 'echo /x > {} && echo SET' ';'")
    assert "SET" not in told


def test_cve_2014_8989_groups_cannot_be_dropped_to_gain_access(
    rootfs: Path, box: OpenBox, account: Account
) -> None:
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


def test_cve_2020_15257_no_control_socket_is_reachable_from_inside(rootfs: Path, box: OpenBox, account: Account) -> None:
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
