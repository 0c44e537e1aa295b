"""Each newer system call has a fallback that means the same: with the calls taken away, the borders still hold."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world import older_kernel
from world.box import KINDS, Box, eventually, open_box, own
from world.command import Command

# pidfd_open(2) has no equal that cannot hit the wrong process, and is in every kernel that we run on
CASES = [(name,) for name in older_kernel.SINCE_5_0] + [older_kernel.SINCE_5_10, older_kernel.SINCE_5_0]


@pytest.fixture(params=CASES, ids=lambda names: "+".join(names) if len(names) < 4 else "all of them")
def older(request: pytest.FixtureRequest, jubako: Command) -> Iterator[Command]:
    """`jubako` where some system calls answer ENOSYS."""
    prefix = ("/usr/bin/python3", "-I", os.path.abspath(older_kernel.__file__), ",".join(request.param))
    command = Command(jubako.account, jubako.cwd, prefix)
    yield command
    command.close()


@pytest.fixture
def inside(older: Command) -> Iterator[Callable[..., Box]]:
    opened: list[Box] = []

    def start(*arguments: str | os.PathLike[str]) -> Box:
        opened.append(open_box(older, *arguments))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_the_filter_of_these_tests_takes_calls_away(older: Command, request: pytest.FixtureRequest) -> None:
    probe = (
        "import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True);"
        "print([(libc.syscall(int(n), -1, 0, 0, 0, 0), ctypes.get_errno())[1] for n in sys.argv[1:]])"
    )
    numbers = [str(older_kernel.NUMBERS[name]) for name in request.node.callspec.params["older"]]
    told = Command(older.account, older.cwd, older.prefix, program="/usr/bin/python3")("-I", "-c", probe, *numbers)
    assert told.stdout == f"{[38] * len(numbers)}\n", told


def test_a_container_starts_in_namespaces_of_its_own(rootfs: Path, inside: Callable[..., Box]) -> None:
    box = inside("--hostname", "box", "--rootfs", rootfs)
    assert box.ask("hostname; id -u; echo $$").split() == ["box", "0", "1"]
    assert {kind for kind in KINDS if box.namespace(kind) == own(kind)} == set()
    assert sorted(os.listdir(f"/proc/{box.pid}/fd")) == ["0", "1", "2"]


def test_the_hosts_own_system_is_read_only(inside: Callable[..., Box]) -> None:
    box = inside("host")
    assert "Read-only" in box.ask("touch /usr/x")
    assert "Read-only" in box.ask("touch /etc/x")
    assert "Permission denied" in box.ask("cat /etc/shadow")
    assert box.ask("touch /tmp/x && echo written") == "written"


def test_read_only_binds_are_read_only_and_their_submounts_too(
    rootfs: Path, tmp_path: Path, inside: Callable[..., Box]
) -> None:
    (tmp_path / "data").mkdir()
    flags = ("-v", "/dev:/host-dev:ro", "-v", f"{tmp_path}/data:/data:ro", "-v", f"{tmp_path}/data:/open")
    box = inside(*flags, "--rootfs", rootfs)
    assert "Read-only" in box.ask("touch /data/x")
    assert "Read-only" in box.ask("touch /host-dev/shm/x")
    assert box.ask("touch /open/x && echo written") == "written"
    # of mounts on top of one another the last one counts: those below cannot be uncovered inside
    tops = {line.split()[4]: line.split()[5].split(",") for line in box.proc("mountinfo").splitlines()}
    read_only = {point: flags for point, flags in tops.items() if point.startswith(("/host-dev", "/data"))}
    assert len(read_only) > 2
    assert not [point for point, flags in read_only.items() if "ro" not in flags]


def test_a_read_only_root_is_read_only(rootfs: Path, inside: Callable[..., Box]) -> None:
    box = inside("--read-only", "--rootfs", rootfs)
    assert "Read-only" in box.ask("touch /x")
    assert box.ask("touch /tmp/x /run/x && echo written") == "written"


def test_masks_hold_and_settings_are_read_only(rootfs: Path, inside: Callable[..., Box]) -> None:
    box = inside("--rootfs", rootfs)
    assert "Read-only" in box.ask("echo x > /proc/sys/kernel/core_pattern")
    assert box.ask("cat /proc/keys /proc/timer_list 2>/dev/null | wc -c") == "0"
    assert box.status("Seccomp") == "2"
    assert box.status("CapInh") == "0000000000000000"


def test_links_in_the_root_stay_inside(rootfs: Path, tmp_path: Path, inside: Callable[..., Box]) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "source").mkdir()
    (tmp_path / "source/mark").write_text("")
    (rootfs / "link").symlink_to(victim)
    (rootfs / "up").symlink_to(f"../../../../../../../../../../..{victim}")
    (rootfs / "etc/resolv.conf").symlink_to(victim / "resolv.conf")
    box = inside(
        "-v", f"{tmp_path}/source:/link/new", "-v", f"{tmp_path}/source:/up/other", "-w", "/up/w", "--rootfs", rootfs
    )
    assert box.ask("ls /link/new /up/other") == "/link/new:\nmark\n\n/up/other:\nmark"
    assert os.listdir(victim) == []


def test_magic_links_are_not_followed(rootfs: Path, older: Command) -> None:
    (rootfs / "exe").symlink_to("/proc/self/exe")
    told = older("run", "--rm", "--rootfs", rootfs, "/exe", "-c", "print(1)")
    assert told.exit_code == 126, told
    assert told.stderr.startswith("jubako: execute /exe"), told
    for descriptor in range(3, 12):
        told = older("run", "--rm", "-w", f"/proc/self/fd/{descriptor}", "--rootfs", rootfs, "ls")
        assert told.exit_code == 125, told


def test_descriptors_do_not_get_in(rootfs: Path, older: Command) -> None:
    opened = [os.open("/", os.O_RDONLY) for _ in range(4)]
    try:
        told = older("run", "--rm", "--rootfs", rootfs, "ls", "/proc/self/fd", pass_fds=tuple(opened))
    finally:
        for descriptor in opened:
            os.close(descriptor)
    assert told.stdout.split() == ["0", "1", "2", "3"], told


def test_exec_init_and_a_terminal_work(rootfs: Path, older: Command, inside: Callable[..., Box]) -> None:
    box = inside("--name", "entered", "--init", "--rootfs", rootfs)
    told = older("exec", "entered", "sh", "-c", "readlink /proc/self/ns/net; exit 5")
    assert (told.exit_code, told.stdout.strip()) == (5, box.ask("readlink /proc/self/ns/net")), told
    terminal = older.terminal("run", "--rm", "-it", "--rootfs", str(rootfs), "sh", "-c", "tty; exit 6")
    assert terminal.wait() == 6
    assert "/dev/pts/0" in terminal.output or "/dev/console" in terminal.output


def test_clocks_are_set_ahead(rootfs: Path, inside: Callable[..., Box]) -> None:
    box = inside("--time-offset", "boottime=1000000", "--rootfs", rootfs)
    assert float(box.ask("cat /proc/uptime").split()[0]) > 1_000_000


def test_an_orphan_ends_with_its_container(rootfs: Path, older: Command) -> None:
    running = older.start("run", "--rm", "--rootfs", rootfs, "sh", "-c", "setsid sleep 4711 & echo ready; sleep 4711")
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    running.kill()
    running.wait(10)

    def gone() -> bool:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
        return not any(b"4711" in command(name) for name in names)

    assert eventually(gone)


def command(name: str) -> bytes:
    try:
        return Path(f"/proc/{name}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.root
def test_as_root_without_id_mapped_mounts_volumes_hold_and_a_root_is_refused_with_the_remedy(
    jubako: Command, rootfs: Path, tmp_path: Path
) -> None:
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o711)
    (tmp_path / "data").mkdir(mode=0o755)
    prefix = ("/usr/bin/python3", "-I", os.path.abspath(older_kernel.__file__), ",".join(older_kernel.SINCE_5_10))
    older = Command(jubako.account, jubako.cwd, prefix)
    script = "stat -c %u /data; touch /data/x /open/x; echo $?"
    flags = ("-v", f"{tmp_path}/data:/data:ro", "-v", f"{tmp_path}/data:/open")
    told = older("run", "--rm", *flags, "host", "--", "sh", "-c", script)
    assert told.stdout.split() == ["65534", "1"], told
    assert "Read-only file system" in told.stderr, told
    assert os.listdir(tmp_path / "data") == [], "not id-mapped, so nobody's: not writable either"
    told = older("run", "--rm", "--rootfs", rootfs, "true")
    assert told.exit_code == 125, told
    assert "hint: " in told.stderr
    assert "--userns host" in told.stderr
    assert older("run", "--rm", "--userns", "host", "--rootfs", rootfs, "true").exit_code == 0
