"""The base's record is believed only while it is true, and what fails inside the base is told outside."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.errors import JubakoError
from jubako.linux.boot import boot_id
from jubako.linux.pidfd import start_time
from jubako.paths import Paths
from jubako.runtime import base
from jubako.runtime.base import end_base, find_running, in_base


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    (tmp_path / "run").mkdir()
    return Paths(f"{tmp_path}/data", f"{tmp_path}/run", f"{tmp_path}/cache")


@pytest.fixture
def pause() -> Iterator[subprocess.Popen[bytes]]:
    """What stands for the pause process; its user namespace is the host's."""
    with subprocess.Popen(("sleep", "60")) as process:
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def no_descriptor_is_lost() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


def record(paths: Paths, text: str) -> None:
    Path(paths.run, "base").write_text(text)


def test_a_base_is_found_by_its_record_and_nothing_is_made(paths: Paths, pause: subprocess.Popen[bytes]) -> None:
    record(paths, f"{pause.pid} {start_time(pause.pid)} {boot_id()}\n")
    found = find_running(paths)
    assert found is not None
    assert (found.pid, found.made) == (pause.pid, False)
    assert os.path.samestat(os.fstat(found.fd), os.stat(f"/proc/{pause.pid}/ns/user"))
    os.close(found.fd)
    assert os.listdir(paths.run) == ["base"]


def test_a_record_that_holds_no_more_is_not_believed(paths: Paths, pause: subprocess.Popen[bytes]) -> None:
    assert find_running(paths) is None
    started = start_time(pause.pid)
    for text in (
        f"{pause.pid} {started + 1} {boot_id()}", f"{pause.pid} {started} another-boot",
        f"4000000 {started} {boot_id()}",
        "", "half 5", f"{pause.pid} x {boot_id()}", f"{pause.pid} {started} {boot_id()} more", "\udcff",
    ):  # fmt: skip
        Path(paths.run, "base").write_bytes(text.encode("utf-8", "surrogateescape"))
        assert find_running(paths) is None, text
        assert not end_base(paths)
    assert pause.poll() is None


def test_a_base_is_ended_once(paths: Paths, pause: subprocess.Popen[bytes]) -> None:
    record(paths, f"{pause.pid} {start_time(pause.pid)} {boot_id()}\n")
    assert end_base(paths)
    assert pause.wait(5) == -9
    assert not end_base(paths)
    assert os.listdir(paths.run) == []


def test_what_the_maker_records_is_what_is_read(paths: Paths) -> None:
    base._write_record(paths, os.getpid())
    assert base._read_record(paths) == (os.getpid(), start_time(os.getpid()))
    assert os.listdir(paths.run) == ["base"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (b"1 make", "make the base user namespace: Operation not permitted (EPERM)"),
        (b"28 make", "jubako doctor says how to allow them"),
        (b"22 enter", "enter the base user namespace: Invalid argument (EINVAL)"),
        (b"", "(EIO)"),
    ],
)
def test_the_childs_word_is_told_as_an_error(word: bytes, said: str) -> None:
    reader, writer = os.pipe()
    os.write(writer, word)
    os.close(writer)
    with pytest.raises(JubakoError) as caught:
        base._expect(reader)
    assert said in str(caught.value)
    os.close(reader)


def test_a_child_that_is_ready_lets_its_maker_go_on() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"1")
    base._expect(reader)
    os.close(reader)
    os.close(writer)


# --- work inside


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is done in a child that enters nothing."""
    monkeypatch.setattr(base, "enter_base", lambda _paths: None)


def test_work_is_done_in_another_process(paths: Paths, tmp_path: Path, outside: None) -> None:
    in_base(paths, lambda: (tmp_path / "done").write_text(str(os.getpid())) and None)
    assert (tmp_path / "done").read_text() != str(os.getpid())


def test_what_fails_inside_is_raised_outside_as_it_was(paths: Paths, outside: None) -> None:
    def fails() -> None:
        raise JubakoError("unpack", "caf\udce9", errno=errno.ENOSPC, reason="it is full", hint="make room")

    with pytest.raises(JubakoError) as caught:
        in_base(paths, fails)
    failure = caught.value
    assert (failure.operation, failure.subject, failure.errno) == ("unpack", "caf\udce9", errno.ENOSPC)
    assert (failure.reason, failure.hint) == ("it is full", "make room")


def test_a_failed_system_call_inside_names_its_file(paths: Paths, outside: None) -> None:
    with pytest.raises(JubakoError, match=r"/no/such: No such file or directory \(ENOENT\)"):
        in_base(paths, lambda: os.rmdir("/no/such"))


def test_a_worker_that_was_killed_is_told(paths: Paths, outside: None) -> None:
    with pytest.raises(JubakoError, match="the process was ended"):
        in_base(paths, lambda: os.kill(os.getpid(), 9))


def test_a_fault_of_ours_inside_does_not_come_back_as_success(
    paths: Paths, outside: None, capfd: pytest.CaptureFixture[str]
) -> None:
    def fault() -> None:
        raise ZeroDivisionError

    with pytest.raises(JubakoError):
        in_base(paths, fault)
