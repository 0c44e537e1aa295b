"""What containers have been broken out of with, tried on ours: the known CVEs of the field and the usual attempts.

Attacks run as root of the container; where that is said, with all capabilities and without the system call filter,
so that the kernel's own borders are seen to hold as well.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world.account import Account
from world.box import Box, eventually
from world.command import Command, Result

Run = Callable[..., Result]
OpenBox = Callable[..., Box]

PYTHON = "/usr/bin/python3"
UNCONFINED = ("--privileged", "--security-opt", "seccomp=unconfined")


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
    exit 0  # not the code of the last attempt
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


def test_a_program_that_enters_has_the_same_borders_as_the_first_one(
    rootfs: Path, box: OpenBox, jubako: Command
) -> None:
    opened = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(3)]
    try:
        inside = box("--name", "entered", "--cap-drop", "chown", "--rootfs", rootfs)
        told = jubako("exec", "entered", "cat", "/proc/self/status", pass_fds=tuple(opened))
        listed = jubako("exec", "entered", "ls", "/proc/self/fd", pass_fds=tuple(opened))
        unfiltered = jubako("exec", "entered", "unshare", "--user", "true")
    finally:
        for descriptor in opened:
            os.close(descriptor)
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    entered = dict(line.split(":", 1) for line in told.lines)
    assert {name: entered[name].strip() for name in names} == {name: inside.status(name) for name in names}
    assert int(entered["SigIgn"], 16) == int(entered["SigBlk"], 16) == 0
    assert listed.stdout.split() == ["0", "1", "2", "3"], listed
    assert unfiltered.exit_code != 0


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


@pytest.mark.parametrize(
    "name", ["proc", "sys", "dev", "etc", "etc/hosts", "etc/resolv.conf", "etc/hostname", "tmp", "run"]
)
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


@pytest.mark.parametrize(
    "target", ["/inside", "/link/new", "/link", "/up/new", "/chain/a/b", "/dangling", "/dangling/new"]
)
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


def test_cve_2025_31133_what_is_masked_by_request_is_masked_inside_only(rootfs: Path, victim: Path, run: Run) -> None:
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
        "run",
        "--rm",
        "-it",
        "-v",
        f"{evil}:/dev",
        "--rootfs",
        str(rootfs),
        "grep",
        "-c",
        "sysrq",
        "/proc/self/mountinfo",
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
    terminal.send("tty; (echo x > /dev/tty) 2>&1; ls -l /proc/self/fd/; echo end\n")
    shown = terminal.read_until("^end")
    assert "not a tty" in shown
    assert "/dev/pts" not in shown.replace("\r", "")
    assert "can't create /dev/tty" in shown, shown
    terminal.send("exit\n")
    terminal.wait()


def test_tiocsti_cannot_type_into_the_callers_shell(jubako: Command) -> None:
    # under a shell of the caller's, which would read what was typed into its terminal
    script = (
        "import fcntl, termios\\nfor c in b'echo typed-by-container\\\\n': fcntl.ioctl(0, termios.TIOCSTI, bytes([c]))"
    )
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
