"""Who a program is and what it may: capabilities, ids, groups, system calls, terminals, control groups.

CVE-2018-7169, 2022-27650, 2022-29162, 2023-25809, 2026-30892.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from world.bundle import Bundle
from world.console import ConsoleSocket
from world.rule import in_cgroup, only_rootless
from world.runtime import Container, Runtime
from world.terminal import Terminal


@pytest.fixture
def box(runtime: Runtime, bundle: Bundle) -> Container:
    """A running container."""
    bundle.sh("echo ready; exec sleep 100")
    made = runtime.start_new(bundle)
    made.read_until("ready")
    return made


def sets(text: str) -> dict[str, int]:
    """The capabilities in the text of /proc/PID/status."""
    rows = [line.split() for line in text.splitlines() if line.startswith("Cap")]
    return {name.rstrip(":"): int(value, 16) for name, value in rows}


# --- capabilities and ids ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--cap", "CAP_NET_RAW"), ("--cap", "CAP_SYS_ADMIN", "--cap", "CAP_CHOWN")])
def test_cve_2022_29162_and_2022_27650_exec_leaves_nothing_inheritable(flags: tuple[str, ...], box: Container) -> None:
    found = sets(box.exec("cat", "/proc/self/status", flags=flags).stdout)
    assert found["CapInh"] == found["CapAmb"] == 0
    assert bool(found["CapEff"] & 1 << 13) == ("CAP_NET_RAW" in flags), "the flag does something"


def test_cve_2026_30892_a_user_is_the_one_who_was_named(runtime: Runtime, bundles: Callable[..., Bundle]) -> None:
    bundle = bundles(maps="all")
    bundle.sh("echo ready; exec sleep 100")
    box = runtime.start_new(bundle)
    box.read_until("ready")
    for name, uids in (("1", "1 1 1 1"), ("1000:7", "1000 1000 1000 1000"), ("0", "0 0 0 0")):
        status = box.exec("cat", "/proc/self/status", flags=("--user", name)).stdout
        assert next(line.split() for line in status.splitlines() if line.startswith("Uid:"))[1:] == uids.split()
    assert sets(box.exec("cat", "/proc/self/status", flags=("--user", "1")).stdout)["CapInh"] == 0


def test_cve_2026_30892_and_nobody_else(box: Container) -> None:
    numbers = ("-1", "-0", "+1", "4294967295", "4294967296", "18446744073709551617", "1:-1", "1:4294967295", "0x1")
    for name in ("", *numbers, "1:", ":1", "1:1:1", "root", "\u0661", " 1", "1 "):
        told = box.exec("id", "-u", flags=("--user", name), check=False)
        assert told.exit_code == 255, told
        assert told.stdout == "", told


def test_a_hostile_passwd_and_group_give_no_ids(runtime: Runtime, bundles: Callable[..., Bundle]) -> None:
    """The document says numbers, and what the root's files make of them is the home directory only."""
    bundle = bundles(maps="all")
    evil = "1000:x:0:0:root:/root:/bin/sh\nalice:x:1000:0:a:/home/alice:/bin/sh\nx:x:-1:4294967295::/:\n" + "y:" * 9999
    (bundle.rootfs / "etc/passwd").write_text(evil)
    (bundle.rootfs / "etc/group").write_text("root:x:0:alice,1000\nshadow:x:42:alice\n1000:x:0:alice\n")
    bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [7]}
    bundle.sh("grep -E '^(Uid|Gid|Groups|CapEff)' /proc/self/status; echo $HOME; exec sleep 100")
    box = runtime.start_new(bundle)
    words = {line.split()[0]: line.split()[1:] for line in box.read_until("/home/alice").splitlines()}
    assert words["Uid:"] == words["Gid:"] == ["1000"] * 4
    assert set(words["Groups:"]) == {"7", "1000"}
    for name in ("fifo", "/proc/1/root/etc/passwd", "/etc/passwd", "/dev/zero"):
        (bundle.rootfs / "etc/passwd").unlink()
        if name == "fifo":
            os.mkfifo(bundle.rootfs / "etc/passwd")
        else:
            (bundle.rootfs / "etc/passwd").symlink_to(name)
        told = box.exec("cat", "/proc/self/status", flags=("--user", "1000:1000"))
        assert "\nUid:\t1000\t1000\t1000\t1000\n" in told.stdout


def test_a_path_leads_to_no_program_of_the_host(runtime: Runtime, bundle: Bundle, box: Container) -> None:
    """PATH is the document's or exec's, and is searched in the container: also relative and magic entries."""
    for search in ("/proc/1/root/usr/bin", "/proc/self/exe", "../../../../usr/bin", "", ":::", "/proc/self/cwd/bin"):
        told = box.exec("python3", flags=("--env", f"PATH={search}"), check=False)
        assert told.exit_code == 255, told
        assert "python3" in told.stderr


@only_rootless
def test_cve_2018_7169_and_2014_8989_groups_cannot_be_dropped(runtime: Runtime, bundle: Bundle) -> None:
    """A file that a group may not read is closed to its members; who could leave the group could read it."""
    script = "cat /proc/self/setgroups; /bin/probe syscall 116 0 0; grep Groups /proc/self/status"  # setgroups(0, NULL)
    bundle.use_probe()
    bundle.capabilities(["CAP_SETGID", "CAP_SETUID", "CAP_SYS_ADMIN"])
    said = runtime.says(bundle, script).splitlines()
    assert said[:2] == ["deny", "EPERM"]
    bundle.process["user"]["additionalGids"] = [5]
    assert "additionalGids" in runtime.refuses(bundle)


# --- system calls -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls of other architectures are x86-64's")
def test_a_filter_holds_for_32_bit_and_x32_calls(runtime: Runtime, bundle: Bundle) -> None:
    """getpid is 39, 20 in the 32-bit table, and 0x40000027 as an x32 call; the document names one architecture."""
    probe = bundle.use_probe()
    script = f"{probe} syscall 39; {probe} syscall 0x40000027; echo $?; {probe} syscall32 20; echo $?; echo end"
    without = runtime.says(bundle, script).split()
    assert without[0].isdigit()
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }
    said = runtime.says(bundle, script).split()
    assert said[0] == "EPERM"
    assert said[-1] == "end"
    assert not [word for word in said[1:-1] if word.isdigit() and word not in ("0", "159", "132", "139")], said
    bundle.linux["seccomp"]["architectures"] += ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    said = runtime.says(bundle, script).split()
    assert said.count("EPERM") == 3 or "ENOSYS" in said, said


def test_tiocsti_types_into_no_terminal_of_the_callers(runtime: Runtime, bundle: Bundle) -> None:
    """Without a terminal of its own a program has the caller's streams, and may not type into what they are."""
    tiocsti = 0x5412
    probe = bundle.use_probe()
    bundle.capabilities(["CAP_SYS_ADMIN"] if runtime.account.uid else ["CAP_KILL"])
    # the argument is an address with a byte to read: the program's own ELF header
    bundle.sh(f"tty; {probe} syscall 16 0 {tiocsti} 0x400000; {probe} syscall 16 0 0x540E 0; echo over")
    bundle.write()
    number = f"tiocsti-{os.getpid()}"
    argv = runtime.argv("run", "--bundle", bundle.path, number)
    terminal = Terminal(argv, 24, 80, runtime.environment(), runtime.cwd)
    terminal.read_until("over")
    terminal.wait()
    words = terminal.output.split()
    terminal.close()
    assert words.count("EPERM") + words.count("EIO") >= 2, terminal.output
    assert "0" not in words


def test_a_terminal_of_the_container_is_its_own(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["terminal"] = True
    bundle.sh("tty; ls /dev/pts; echo over")
    with ConsoleSocket(bundle.path) as socket:
        box = runtime.create(bundle, "--console-socket", str(socket.path))
        console = socket.accept()
        box.start()
        words = console.read_until("over").split()
    assert words == ["/dev/pts/0", "0", "ptmx", "over"]


# --- control groups ---------------------------------------------------------------------------------------------------


def test_a_path_of_control_groups_leads_not_upwards(runtime: Runtime, bundle: Bundle) -> None:
    for path in ("../up", "/../up", "a/../../../up", ".."):
        bundle.linux["cgroupsPath"] = path
        assert "cgroupsPath" in runtime.refuses(bundle)
    bundle.linux.pop("cgroupsPath")
    for name in ("..", "../up", "/up", "."):
        bundle.config["annotations"] = {"run.oci.delegate-cgroup": name}
        assert "delegate-cgroup" in runtime.refuses(bundle)


def test_nor_does_execs_flag(box: Container) -> None:
    for path in ("..", "/..", "a/../..", "../../up"):
        told = box.exec("true", flags=("--cgroup", path), check=False)
        assert told.exit_code == 255, told


def mount_groups(bundle: Bundle) -> str:
    """Give the container a writable view of control groups; a script that tries to change something in it."""
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "rw"])
    return (
        "cd /sys/fs/cgroup; n=0; for f in $(find . -name cgroup.procs -o -name cgroup.kill -o -name cgroup.freeze);"
        " do n=$((n+1)); (: > $f) 2>/dev/null && echo WRITABLE $f; done;"
        " mkdir evil 2>/dev/null && echo MADE; echo $n files"
    )


@only_rootless
@pytest.mark.parametrize("own_namespace", [True, False])
def test_cve_2023_25809_groups_of_the_caller_cannot_be_written_to(
    own_namespace: bool, runtime: Runtime, bundle: Bundle
) -> None:
    if not own_namespace:
        bundle.no_namespace("cgroup")
    said = runtime.says(bundle, mount_groups(bundle))
    assert int(said.splitlines()[-1].split()[0]) > 0, "there was nothing to write to"
    assert "WRITABLE" not in said
    assert "MADE" not in said


@in_cgroup
def test_cve_2023_25809_nor_where_they_are_delegated_to_the_caller(runtime: Runtime, bundle: Bundle) -> None:
    """As a user of systemd has them: the very group that the caller's shell is in belongs to it."""
    runtime.flags = ("--cgroup-manager", "disabled")
    script = mount_groups(bundle)
    if runtime.account.uid:
        said = runtime.says(bundle, script)
        assert "WRITABLE" not in said, said
        assert "MADE" not in said
    bundle.no_namespace("cgroup")
    said = runtime.says(bundle, script)
    assert int(said.splitlines()[-1].split()[0]) > 0, "there was nothing to write to"
    if runtime.account.uid:
        assert "WRITABLE" not in said, said


# --- files of ours ----------------------------------------------------------------------------------------------------


def test_the_state_is_nobody_elses(box: Container) -> None:
    place = box.runtime.root / box.id
    for name in os.listdir(place):
        status = (place / name).lstat()
        assert status.st_uid == os.getuid(), name
        assert status.st_mode & 0o022 == 0, (name, oct(status.st_mode))
    assert box.runtime.root.stat().st_mode & 0o077 == 0
    mounted = box.proc("mountinfo")
    assert str(box.runtime.root) not in mounted


def test_a_pid_file_is_written_through_no_link(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    precious = place / "precious"
    precious.write_text("untouched")
    (bundle.path / "pid").symlink_to(precious)
    box = runtime.create(bundle, "--pid-file", str(bundle.path / "pid"))
    assert (bundle.path / "pid").read_text() == str(box.pid)
    assert not (bundle.path / "pid").is_symlink()
    assert precious.read_text() == "untouched"
