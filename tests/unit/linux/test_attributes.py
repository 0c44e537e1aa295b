"""Scheduler, priority of input and output, memory policy, personality, procfs: set in a child, and read back."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from jubako.linux import ioprio, lsm, mempolicy, mount, personality, procfs, resctrl, sched
from jubako.linux.clone import CLONE_NEWNS, CLONE_NEWUSER
from jubako.linux.libc import error
from unit.linux.forked import in_child


def test_a_scheduler_is_set_with_its_nice_value_and_flags() -> None:
    def look() -> list[object]:
        sched.set_scheduler(0, sched.POLICIES["SCHED_BATCH"], sched.FLAGS["SCHED_FLAG_RESET_ON_FORK"], 7)
        return [*sched.get_scheduler(), os.nice(0)]

    assert in_child(look) == [sched.POLICIES["SCHED_BATCH"], 1, 7, 0, 7]


def test_a_policy_that_the_kernel_does_not_have_is_told() -> None:
    with pytest.raises(OSError) as caught:
        sched.set_scheduler(0, sched.POLICIES["SCHED_ISO"])
    assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, "pid 0")


def test_priority_of_input_and_output_is_set() -> None:
    def look() -> list[object]:
        ioprio.set_io_priority(0, ioprio.CLASSES["IOPRIO_CLASS_BE"], 6)
        first = ioprio.get_io_priority()
        ioprio.set_io_priority(os.getpid(), ioprio.CLASSES["IOPRIO_CLASS_IDLE"], 0)
        return [*first, ioprio.get_io_priority()[0]]

    assert in_child(look) == [2, 6, 3]


def test_a_personality_changes_what_uname_says_for_good() -> None:
    def look() -> list[object]:
        before = personality.get_personality()
        personality.set_personality(personality.DOMAINS["LINUX32"])
        return [before, personality.get_personality(), os.uname().machine]

    before, after, machine = in_child(look)
    assert (before, after) == (0, 8)
    assert machine != os.uname().machine


def test_a_memory_policy_is_set_with_its_nodes_and_flags() -> None:
    def look() -> list[object]:
        mode = mempolicy.MODES["MPOL_BIND"] | mempolicy.FLAGS["MPOL_F_STATIC_NODES"]
        mempolicy.set_memory_policy(mode, (0,))
        first = mempolicy.get_memory_policy()
        mempolicy.set_memory_policy(mempolicy.MODES["MPOL_LOCAL"], ())
        return [first == (mode, (0,)), mempolicy.get_memory_policy()[0]]

    assert in_child(look) == [True, mempolicy.MODES["MPOL_LOCAL"]]


def test_a_node_that_is_not_there_is_refused() -> None:
    with pytest.raises(OSError) as caught:
        mempolicy.set_memory_policy(mempolicy.MODES["MPOL_BIND"], (700,))
    assert caught.value.errno == errno.EINVAL


# --- procfs


@pytest.fixture(params=["openat2", "walk"])
def walking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    def missing(*_arguments: Any, **_named: Any) -> Any:
        raise error(errno.ENOSYS, "openat2")

    if request.param == "walk":
        monkeypatch.setattr(procfs, "openat2", missing)
    return str(request.param)


def test_a_file_of_procfs_is_reached_without_links_and_mounts(tmp_path: Path, walking: str) -> None:
    def look() -> list[Any]:
        proc = procfs.private_procfs()
        own = procfs.own_directory(proc)
        with open(procfs.open_in_procfs(proc, f"{own}/comm", os.O_RDONLY)) as file:
            name = file.read()
        procfs.write_in_procfs(proc, f"{own}/comm", b"renamed")
        failed = []
        for path in ("self/comm", f"{own}/cwd/x", "../etc/passwd", f"{own}/exe"):
            try:
                os.close(procfs.open_in_procfs(proc, path, os.O_RDONLY))
                failed.append(0)
            except OSError as failure:
                failed.append(failure.errno)
        with open("/proc/self/comm") as file:
            return [bool(name), file.read(), all(failed)]

    assert in_child(look) == [True, "renamed\n", True]


def test_a_procfs_that_is_covered_is_not_believed(tmp_path: Path, walking: str) -> None:
    def look() -> list[Any]:
        mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
        own = f"{os.getpid()}/task/{os.getpid()}"
        fake = tmp_path / "fake"
        fake.write_text("")
        mount.mount(str(fake), f"/proc/{own}/attr/exec", None, mount.MS_BIND)
        found = []
        proc = os.open("/proc", os.O_PATH)
        try:
            procfs.write_in_procfs(proc, f"{own}/attr/exec", b"label")
        except OSError as failure:
            found.append(failure.errno)
        mount.mount("t", "/proc", "tmpfs", 0)
        try:
            os.close(procfs.private_procfs())
            found.append("private")
        except OSError as failure:
            found.append(failure.errno)
        return [*found, fake.read_text()]

    first, second, text = in_child(look, CLONE_NEWUSER | CLONE_NEWNS)
    assert first == errno.EXDEV
    assert second in (errno.ENODEV, "private")
    assert text == ""


def test_a_label_cannot_be_set_where_there_is_no_module() -> None:
    if lsm.is_enabled(lsm.APPARMOR) or lsm.is_enabled(lsm.SELINUX):
        pytest.skip("this machine has a security module")

    def look() -> int:
        try:
            lsm.set_exec_label(os.open("/proc", os.O_PATH), lsm.APPARMOR, "x")
        except OSError as failure:
            return failure.errno or 0
        return 0

    assert in_child(look) != 0


# --- resctrl, whose files are plain ones here: no machine of the tests has it


def test_a_group_of_resctrl_is_made_filled_and_removed(tmp_path: Path) -> None:
    assert resctrl.make_group(str(tmp_path), "box")
    assert not resctrl.make_group(str(tmp_path), "box")
    for name in ("schemata", "tasks"):
        (tmp_path / "box" / name).touch()
    resctrl.set_schemata(str(tmp_path), "box", ("L3:0=f",))
    resctrl.add_task(str(tmp_path), "box", 5)
    assert (tmp_path / "box/schemata").read_text() == "L3:0=f\n"
    assert (tmp_path / "box/tasks").read_text() == "5"
    with pytest.raises(OSError) as caught:
        resctrl.add_task(str(tmp_path), "none", 5)
    assert caught.value.filename == f"{tmp_path}/none/tasks"
    assert resctrl.last_status(str(tmp_path)) == ""
    for name in ("schemata", "tasks"):
        (tmp_path / "box" / name).unlink()
    resctrl.remove_group(str(tmp_path), "box")
    resctrl.remove_group(str(tmp_path), "box")
    assert not (tmp_path / "box").exists()
