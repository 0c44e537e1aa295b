"""Control groups' files, on directories that look like them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.linux import cgroup, clone, libc
from jubako.plan.step import Slots
from jubako.plan.steps.processes import CloneInit
from unit.linux.forked import in_child
from world.cgroup import GROUPS, cgroup2_mount


@pytest.fixture
def group(tmp_path: Path) -> Path:
    for directory in (tmp_path / "g", tmp_path / "g/below"):
        directory.mkdir()
        for name in ("cgroup.procs", "cgroup.freeze", "cgroup.events"):
            (directory / name).write_text("")
    return tmp_path / "g"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(("sleep", "60")) as process:
        yield process
        process.kill()


def test_interface_files_are_written_as_the_kernel_reads_them(group: Path) -> None:
    cgroup.add_process(str(group), 123)
    assert (group / "cgroup.procs").read_text() == "123"
    cgroup.freeze(str(group), True)
    assert cgroup.read(str(group), "cgroup.freeze") == "1"
    cgroup.freeze(str(group), False)
    assert cgroup.read(str(group), "cgroup.freeze") == "0"


def test_events_and_processes_are_read(group: Path) -> None:
    (group / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    (group / "cgroup.procs").write_text("1\n27\n")
    assert cgroup.events(str(group)) == {"populated": 1, "frozen": 0}
    assert cgroup.processes(str(group)) == (1, 27)


def test_an_interface_file_is_never_made(group: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cgroup.write(str(group), "cgroup.kill", "1")
    assert not (group / "cgroup.kill").exists()


def test_where_the_kernel_kills_a_group_it_is_asked_to(group: Path, sleeper: subprocess.Popen[bytes]) -> None:
    (group / "cgroup.kill").write_text("")
    (group / "cgroup.procs").write_text(f"{sleeper.pid}\n")
    cgroup.kill(str(group))
    assert (group / "cgroup.kill").read_text() == "1"
    assert sleeper.poll() is None


def test_an_older_kernels_group_is_frozen_killed_one_by_one_and_thawed(
    group: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (group / "below/cgroup.procs").write_text(f"999999999\n{sleeper.pid}\n")
    written = []
    monkeypatch.setattr(cgroup, "freeze", lambda directory, frozen: written.append((directory, frozen)))
    cgroup.kill(str(group))
    assert sleeper.wait(5) == -signal.SIGKILL
    assert written == [(str(group), True), (str(group), False)]


def test_a_process_that_this_namespace_does_not_see_does_not_kill_the_caller(
    group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (group / "cgroup.procs").write_text("0\n")
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _signal: killed.append(pid))
    cgroup.kill(str(group))
    assert killed == []


def test_a_group_is_removed_deepest_first(tmp_path: Path) -> None:
    (tmp_path / "g/a/b").mkdir(parents=True)
    (tmp_path / "g/c").mkdir()
    cgroup.remove(f"{tmp_path}/g")
    assert not (tmp_path / "g").exists()


def test_the_own_group_is_the_line_without_a_controller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with open("/proc/self/cgroup") as file:
        lines = [line.rstrip("\n") for line in file if line.startswith("0::")]
    assert cgroup.own_group() == (lines[0][3:] if lines else None)
    assert cgroup.own_group(os.getpid()) == cgroup.own_group("self")


def test_the_mount_point_is_one_that_mountinfo_calls_cgroup2() -> None:
    found = cgroup.mount_point()
    with open("/proc/self/mountinfo") as file:
        points = [line.split()[4] for line in file if " - cgroup2 " in line]
    assert (found[0] if found else None) == (points[0] if points else None)


# --- born into a group


@pytest.fixture
def real_group() -> Iterator[Path]:
    path = cgroup2_mount() / f"{GROUPS}clone-{os.getpid()}"
    path.mkdir()
    yield path
    cgroup.wait_until(str(path), "populated", 0, 10)
    path.rmdir()


def born(group: Path, flags: int = 0) -> str:
    """The group of a child that `clone` made, as the child reads it."""
    directory = cgroup.open_group(str(group))
    reader, writer = os.pipe()
    pid, pidfd = clone.clone(flags, directory)
    if pid == 0:
        try:
            os.write(writer, (cgroup.own_group() or "").encode())
        finally:
            os._exit(0)
    for fd in (directory, writer, pidfd):
        os.close(fd)
    with open(reader, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    return text


@pytest.mark.root
@pytest.mark.parametrize("flags", [0, clone.CLONE_NEWPID | clone.CLONE_NEWNS, clone.CLONE_NEWUSER])
def test_a_child_is_born_into_the_group(real_group: Path, flags: int) -> None:
    assert born(real_group, flags).endswith(f"/{real_group.name}")


@pytest.mark.root
def test_the_kernels_refusal_is_that_of_the_call(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        born(tmp_path)
    assert caught.value.call == "clone3"


@pytest.mark.root
def test_where_nobody_is_born_into_a_group_the_step_moves(real_group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(libc.SYS, "clone3", 9999)  # ENOSYS
    with pytest.raises(OSError, match="not implemented"):
        born(real_group)

    def child() -> str:
        slots = Slots()
        reader, writer = os.pipe()
        CloneInit(0, str(real_group)).apply(slots)
        if slots["child"]:
            os.read(reader, 1)
            os._exit(0)
        found = cgroup.own_group(slots["init_child"]) or ""
        os.write(writer, b"x")
        os.waitpid(slots["init_child"], 0)
        return found

    assert str(in_child(child)).endswith(f"/{real_group.name}")
