"""Steps that can be done without a container, each in a child of its own: what they leave behind is looked at."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import JubakoError, StepError
from jubako.linux.clone import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUSER, CLONE_NEWUTS
from jubako.plan.step import Slots
from jubako.plan.steps import identity, mounts, namespaces, process, program, rootfs, terminal
from jubako.spec.passwd import ResolvedUser
from unit.linux.forked import in_child

USER = ResolvedUser(0, 0, (), "/", "root")


def error_of(step: Any, slots: Slots | None = None) -> list[object]:
    """Errno and file of the failure."""
    try:
        step.apply(slots or Slots())
    except OSError as failure:
        return [failure.errno, failure.filename]
    return []


# --- session, streams, limits


def test_a_session_begins_with_default_signals_and_none_blocked() -> None:
    def look() -> list[object]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        process.BeginSession().apply(Slots())
        with open("/proc/self/status") as file:
            fields = dict(line.split(":\t") for line in file if ":\t" in line)
        return [os.getsid(0) == os.getpid(), int(fields["SigIgn"], 16), int(fields["SigBlk"], 16)]

    assert in_child(look) == [True, 0, 0]


def test_streams_are_connected_whatever_their_numbers() -> None:
    def look() -> list[str]:
        fds = [os.pipe()[0] for _ in range(2)]
        wanted = [os.readlink(f"/proc/self/fd/{fd}") for fd in (fds[0], fds[1], 2)]
        process.ConnectStreams(("a", "b", "c")).apply(Slots({"a": fds[0], "b": fds[1], "c": 2}))
        got = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
        return [str(got == wanted), *(str(os.get_inheritable(number)) for number in range(3))]

    assert in_child(look) == ["True"] * 4


def test_limits_and_the_oom_score_are_the_processs() -> None:
    def look() -> list[object]:
        process.SetRlimit("RLIMIT_CORE", 0, 0).apply(Slots())
        process.SetOomScore(555).apply(Slots())
        with open("/proc/self/oom_score_adj") as score, open("/proc/self/limits") as limits:
            core = next(line for line in limits if line.startswith("Max core"))
            return [int(score.read()), core.split()[4:6]]

    assert in_child(look) == [555, ["0", "0"]]


def test_a_kernel_parameter_that_is_not_there_is_told_by_its_path() -> None:
    assert in_child(lambda: error_of(process.WriteSysctl("net.no.such", "1"))) == [2, "/proc/sys/net/no/such"]


def test_a_kernel_parameter_is_set_in_the_namespace(tmp_path: Path) -> None:
    def look() -> str:
        process.WriteSysctl("net.ipv4.ip_unprivileged_port_start", "80").apply(Slots())
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
            return file.read().strip()

    assert in_child(look, CLONE_NEWUSER | CLONE_NEWNET) == "80"


def test_a_hidden_process_lets_nobody_read_its_executable() -> None:
    def look() -> int:
        process.HideProcess().apply(Slots())
        return os.stat("/proc/self/fd").st_uid

    assert in_child(look) == 0


def test_new_privileges_are_given_up_for_good() -> None:
    def look() -> str:
        identity.SetNoNewPrivileges().apply(Slots())
        with open("/proc/self/status") as file:
            return next(line.split()[1] for line in file if line.startswith("NoNewPrivs"))

    assert in_child(look) == "1"


# --- namespaces


def test_names_are_those_of_the_namespace() -> None:
    def look() -> list[str]:
        namespaces.SetHostName("box").apply(Slots())
        namespaces.SetDomainName("example.org").apply(Slots())
        with open("/proc/sys/kernel/domainname") as file:
            return [os.uname().nodename, file.read().strip()]

    assert in_child(look, CLONE_NEWUSER | CLONE_NEWUTS) == ["box", "example.org"]
    assert os.uname().nodename != "box"


def test_loopback_comes_up() -> None:
    def look() -> list[object]:
        namespaces.BringUpLoopback().apply(Slots())
        namespaces.BringUpLoopback().apply(Slots())
        import socket

        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
            return ["up"]

    assert in_child(look, CLONE_NEWUSER | CLONE_NEWNET) == ["up"]


def test_a_namespace_is_joined_by_its_descriptor() -> None:
    def look() -> bool:
        fd = os.open("/proc/self/ns/ipc", os.O_RDONLY)
        before = os.fstat(fd).st_ino
        from jubako.linux.clone import unshare

        unshare(CLONE_NEWIPC)
        assert os.stat("/proc/self/ns/ipc").st_ino != before
        namespaces.JoinNamespace("ipc", "ns:ipc").apply(Slots({"ns:ipc": fd}))
        return os.stat("/proc/self/ns/ipc").st_ino == before

    assert in_child(look, CLONE_NEWUSER | CLONE_NEWIPC)


# --- the working directory and the descriptors


@pytest.mark.parametrize("old_kernel", [False, True])
def test_the_working_directory_is_made_and_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old_kernel: bool
) -> None:
    if old_kernel:
        monkeypatch.setattr(program, "openat2", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "none")))

    def look(create: bool) -> list[object]:
        step = program.EnterDirectory(f"{tmp_path}/new/dir", create)
        failed = error_of(step, Slots({"user": USER}))
        return failed or [os.getcwd()]

    assert in_child(lambda: look(False))[0] == errno.ENOENT
    assert in_child(lambda: look(True)) == [f"{tmp_path}/new/dir"]
    assert in_child(lambda: look(False)) == [f"{tmp_path}/new/dir"]


def test_a_working_directory_behind_a_magic_link_is_refused(tmp_path: Path) -> None:
    def look() -> list[object]:
        fd = os.open(tmp_path, os.O_PATH)
        return error_of(program.EnterDirectory(f"/proc/self/fd/{fd}"), Slots({"user": USER}))

    assert in_child(look)[0] == errno.ELOOP


@pytest.mark.parametrize("here", ["(unreachable)/x", "relative"])
def test_a_working_directory_outside_of_the_root_is_refused(monkeypatch: pytest.MonkeyPatch, here: str) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: here)
    for enter in (lambda: program.check_directory("/x"), lambda: program.EnterDirectory(".").apply(Slots())):
        with pytest.raises(StepError, match="outside of the container's root"):
            enter()
    monkeypatch.setattr(os, "getcwd", lambda: (_ for _ in ()).throw(FileNotFoundError()))
    with pytest.raises(StepError, match="outside"):
        program.check_directory("/x")


def test_descriptors_are_closed_but_for_the_streams_the_kept_and_the_channel() -> None:
    def look() -> list[int]:
        for number in (3, 4, 20, 21):
            os.dup2(2, number)
        os.dup2(100, 50)
        program.CloseDescriptors(4).apply(Slots({"channel": 50}))
        left = [fd for fd in range(256) if os.path.exists(f"/proc/self/fd/{fd}")]
        os.dup2(50, 100)
        return left

    assert in_child(look) == [0, 1, 2, 3, 50]


def test_streams_are_given_to_the_programs_user_and_files_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda fd, uid, gid: given.append((fd, uid, gid)))

    def look() -> list[Any]:
        reader, _writer = os.pipe()
        os.dup2(reader, 0)
        os.dup2(os.open(tmp_path / "f", os.O_CREAT | os.O_WRONLY), 1)
        os.close(2)
        terminal.OwnStreams().apply(Slots({"user": ResolvedUser(5, 6, (), "/", "x")}))
        terminal.OwnStreams().apply(Slots({"user": USER}))
        return list(given)

    assert in_child(look) == [[0, 5, -1]]


# --- below the root, without mounting


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    (tmp_path / "root").mkdir()
    return Slots({"root": os.open(tmp_path / "root", os.O_PATH)})


def test_links_are_made_below_the_root_and_existing_ones_are_left(tmp_path: Path, slots: Slots) -> None:
    step = mounts.MakeLinks((("/dev/fd", "/proc/self/fd"), ("/top", "x")))
    step.apply(slots)
    step.apply(slots)
    assert os.readlink(tmp_path / "root/dev/fd") == "/proc/self/fd"
    assert os.readlink(tmp_path / "root/top") == "x"
    slots.close("root")


def test_a_source_that_is_not_there_is_told_with_its_target(slots: Slots) -> None:
    with pytest.raises(JubakoError, match=r"/no/such: No such file"):
        mounts.BindMount("/no/such", "/x").apply(slots)
    slots.close("root")


def test_a_path_that_is_not_there_needs_no_cover(slots: Slots) -> None:
    mounts.MaskPath("/proc/kcore").apply(slots)
    mounts.MakeReadOnly("/proc/sys").apply(slots)
    slots.close("root")


def test_a_device_is_known_by_its_number() -> None:
    os.close(rootfs.open_device("/dev/null", 1, 3))
    before = os.listdir("/proc/self/fd")
    for path, number in (("/dev/zero", 3), ("/etc/passwd", 3), ("/", 3)):
        with pytest.raises(OSError, match="not the character device 1:3"):
            rootfs.open_device(path, 1, number)
    assert os.listdir("/proc/self/fd") == before


def test_a_link_to_a_device_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    with pytest.raises(OSError, match="not the character device"):
        rootfs.open_device(f"{tmp_path}/null", 1, 3)


def test_propagations_are_spelled_as_mount_spells_them() -> None:
    from jubako.linux import mount as mnt

    assert rootfs.propagation_flags("private") == mnt.MS_PRIVATE
    assert rootfs.propagation_flags("rslave") == mnt.MS_SLAVE | mnt.MS_REC
    with pytest.raises(KeyError):
        rootfs.propagation_flags("odd")


def test_paths_of_the_caller_are_opened_and_used_by_descriptor(tmp_path: Path) -> None:
    slots = Slots()
    rootfs.OpenPaths((str(tmp_path),)).apply(slots)
    assert os.path.samestat(os.stat(slots.path(str(tmp_path))), tmp_path.stat())
    (tmp_path / "x").write_text("here")
    with open(slots.path(f"{tmp_path}/x")) as file:
        assert file.read() == "here"
    slots.close(f"path:{tmp_path}")


# --- users


def test_names_are_read_from_plain_files_only(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("web:x:5:6::/srv:/bin/sh\n")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("passwd")
    assert identity._read_inside(f"{tmp_path}/passwd").startswith(b"web:")
    assert identity._read_inside(f"{tmp_path}/link").startswith(b"web:")
    for name in ("fifo", "none", "passwd/none", "."):
        assert identity._read_inside(f"{tmp_path}/{name}") == b""
    assert identity._read_inside("/proc/self/root/etc/passwd") == b""  # through a magic link


def test_the_user_is_looked_up_with_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/etc/passwd": b"web:x:5:6::/srv:/bin/sh\n", "/etc/group": b"www:x:6:\nextra:x:8:web\naudio:x:9:\n"}
    monkeypatch.setattr(identity, "_read_inside", files.__getitem__)
    slots = Slots()
    identity.ResolveUser("web", ("audio", "77")).apply(slots)
    user = slots["user"]
    assert (user.uid, user.gid, user.home) == (5, 6, "/srv")
    assert set(user.additional_gids) >= {8, 9, 77}
    with pytest.raises(JubakoError):
        identity.ResolveUser("nobody-such").apply(slots)
