"""Processes by descriptor, their start times and titles, their descriptors and limits."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from jubako.linux import descriptors, pidfd, prctl, rlimit
from jubako.linux.libc import error
from jubako.linux.title import set_title
from unit.linux.forked import in_child


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(("sleep", "60")) as process:
        yield process
        process.kill()


# --- pidfds


def test_a_pidfd_signals_the_very_process_and_then_no_other(child: subprocess.Popen[bytes]) -> None:
    fd = pidfd.open_pidfd(child.pid)
    try:
        assert not os.get_inheritable(fd)
        assert pidfd.host_pid(fd) == child.pid
        pidfd.send_signal(fd, signal.SIGTERM)
        assert child.wait(5) == -signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            pidfd.send_signal(fd, signal.SIGTERM)
        assert pidfd.host_pid(fd) in (0, -1)
    finally:
        os.close(fd)


def test_a_pid_that_nobody_has_is_told(child: subprocess.Popen[bytes]) -> None:
    with pytest.raises(ProcessLookupError) as caught:
        pidfd.open_pidfd(4_000_000)
    assert caught.value.filename == "pid 4000000"


def test_the_start_time_tells_processes_with_the_same_pid_apart(child: subprocess.Popen[bytes]) -> None:
    started = pidfd.start_time(child.pid)
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
    assert 0 < started <= uptime
    assert started >= uptime - 1000
    fd = pidfd.open_process(child.pid, started)
    assert fd is not None
    os.close(fd)
    before = os.listdir("/proc/self/fd")
    assert pidfd.open_process(child.pid, started + 1) is None
    assert os.listdir("/proc/self/fd") == before
    assert pidfd.open_process(4_000_000, started) is None


def test_a_process_that_has_ended_has_no_start_time(child: subprocess.Popen[bytes]) -> None:
    os.kill(child.pid, 9)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert pidfd.start_time(child.pid) == 0  # a zombie
    child.wait()
    assert pidfd.start_time(child.pid) == 0


def test_a_name_with_spaces_and_brackets_confuses_nobody() -> None:
    def look() -> bool:
        before = pidfd.start_time(os.getpid())
        prctl.set_name("a) Z 1 2 (b")
        return pidfd.start_time(os.getpid()) == before > 0

    assert in_child(look)


# --- titles


def test_a_title_takes_the_place_of_the_arguments_and_is_cut_to_their_room() -> None:
    def look(title: str) -> list[str]:
        set_title(title)
        with open("/proc/self/cmdline", "rb") as line, open("/proc/self/comm") as name:
            return [line.read().rstrip(b"\0").decode("utf-8", "replace"), name.read().strip()]

    assert in_child(lambda: look("jubako-init")) == ["jubako-init", "jubako-init"]
    with open("/proc/self/cmdline", "rb") as file:
        room = len(file.read())
    line, name = in_child(lambda: look("x" * 5000))
    assert line == "x" * (room - 1)
    assert name == "x" * 15


# --- descriptors


def fds() -> list[int]:
    """Those that are open, without the listing's own."""
    return [fd for fd in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{fd}")]


def refuse(*_arguments: object, **_named: object) -> int:
    raise error(38, "close_range")


@pytest.mark.parametrize("old_kernel", [False, True])
def test_all_descriptors_but_the_kept_ones_are_closed(old_kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if old_kernel:
        monkeypatch.setattr(descriptors, "syscall", refuse)

    def look() -> list[int]:
        for number in (5, 9, 31):
            os.dup2(2, number)
        descriptors.close_all_but((100, 0, 9, 9, 31, 77))
        return sorted(fds())

    assert in_child(look) == [0, 9, 31, 100]


def test_a_failure_that_is_no_old_kernel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> int:
        raise error(9, "close_range")

    monkeypatch.setattr(descriptors, "syscall", broken)
    with pytest.raises(OSError, match="Bad file"):
        descriptors.close_all_but((0,))


# --- prctl and rlimits


def test_a_process_can_hide_and_give_up_new_privileges() -> None:
    def look() -> list[object]:
        before = prctl.has_no_new_privs()
        prctl.set_no_new_privs()
        prctl.set_dumpable(False)
        prctl.set_parent_death_signal(9)
        return [before, prctl.has_no_new_privs(), prctl.prctl(prctl.PR_GET_DUMPABLE)]

    assert in_child(look)[1:] == [True, 0]
    with pytest.raises(OSError, match="Invalid"):
        prctl.prctl(9999)


def test_the_limits_have_the_kernels_numbers() -> None:
    assert len(rlimit.NAMES) == 16
    for name, number in rlimit.NAMES.items():
        assert getattr(resource, name, number) == number
    assert rlimit.NAMES["RLIMIT_LOCKS"] == 10


def test_a_limit_is_set_soft_and_hard() -> None:
    def look() -> list[object]:
        rlimit.set_rlimit("RLIMIT_NOFILE", 50, 60)
        rlimit.set_rlimit("RLIMIT_CORE", 0, 0)
        return [rlimit.get_rlimit("RLIMIT_NOFILE"), rlimit.get_rlimit("RLIMIT_CORE")]

    assert in_child(look) == [[50, 60], [0, 0]]


@pytest.mark.parametrize("infinite", [(1 << 64) - 1, -1])
def test_no_limit_is_spelled_as_the_specification_and_as_the_kernel_do(infinite: int) -> None:
    _soft, hard = rlimit.get_rlimit("RLIMIT_FSIZE")
    if hard != -1:
        pytest.skip("this account has a file size limit")

    def look() -> object:
        rlimit.set_rlimit("RLIMIT_FSIZE", 1 << 40, infinite)
        rlimit.set_rlimit("RLIMIT_FSIZE", infinite, infinite)
        return rlimit.get_rlimit("RLIMIT_FSIZE")

    assert in_child(look) == [-1, -1]


def test_a_limit_that_cannot_be_is_an_os_error() -> None:
    def look(soft: int, hard: int) -> list[object]:
        try:
            rlimit.set_rlimit("RLIMIT_NOFILE", soft, hard)
        except OSError as failure:
            return [failure.errno, failure.filename]
        return []

    assert in_child(lambda: look(70, 60)) == [22, "RLIMIT_NOFILE"]
