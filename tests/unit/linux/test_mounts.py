"""Namespaces and mounts in a user namespace of a child: the calls, their names, and what older kernels get instead."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jubako.linux import binding, clone, mount, uts
from jubako.linux.clone import CLONE_NEWIPC, CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWUTS
from jubako.linux.libc import check, error, syscall
from jubako.linux.netlink import set_link_up
from unit.linux.forked import in_child

PRIVATE = CLONE_NEWUSER | CLONE_NEWNS


# --- errors and names


def test_an_error_names_the_call_its_subject_and_the_errno() -> None:
    failure = error(errno.EPERM, "mount", b"/x")
    assert isinstance(failure, PermissionError)
    assert (failure.errno, failure.filename, failure.call) == (1, "/x", "mount")  # type: ignore[attr-defined]
    assert check(5, "mount") == 5
    ctypes.set_errno(errno.ENOENT)
    with pytest.raises(FileNotFoundError):
        check(-1, "mount", "/x")
    with pytest.raises(OSError, match="Bad file") as caught:
        syscall("pidfd_send_signal", -1, 0, 0, 0, subject="pidfd -1")
    assert caught.value.filename == "pidfd -1"


def test_flags_are_shown_by_the_kernels_names() -> None:
    assert mount.flag_names(mount.MS_BIND | mount.MS_REC) == "MS_BIND|MS_REC"
    assert mount.flag_names(0) == mount.attr_names(0) == clone.flag_names(0) == "0"
    assert mount.attr_names(mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOATIME) == (
        "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOATIME"
    )
    assert mount.attr_names(mount.MOUNT_ATTR__ATIME) == "MOUNT_ATTR__ATIME"
    assert mount.attr_names(mount.MOUNT_ATTR__ATIME | mount.MOUNT_ATTR_NOEXEC) == (
        "MOUNT_ATTR_NOEXEC|MOUNT_ATTR__ATIME"
    )
    assert set(clone.flag_names(PRIVATE).split("|")) == {"CLONE_NEWUSER", "CLONE_NEWNS"}
    assert clone.namespace_names(PRIVATE) == "user, mount"


def test_every_namespace_has_its_file() -> None:
    assert clone.namespace_path("self", "mount") == "/proc/self/ns/mnt"
    assert clone.namespace_path(5, "network") == "/proc/5/ns/net"
    for kind in clone.FLAGS:
        fd = clone.open_namespace("self", kind)
        assert not os.get_inheritable(fd)
        os.close(fd)


# --- namespaces


def test_a_clone_is_a_child_with_a_descriptor() -> None:
    pid, pidfd = clone.clone(0)
    if pid == 0:
        os._exit(9)
    assert not os.get_inheritable(pidfd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    os.close(pidfd)


def test_a_clone_is_in_its_namespaces_from_the_start() -> None:
    reader, writer = os.pipe()
    here = os.stat("/proc/self/ns/uts").st_ino
    pid, pidfd = clone.clone(CLONE_NEWUSER | CLONE_NEWUTS)
    if pid == 0:
        os.write(writer, str(os.stat("/proc/self/ns/uts").st_ino != here).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 10) == b"True"
    for fd in (reader, writer, pidfd):
        os.close(fd)


def test_parent_and_owner_of_a_namespace_are_asked_of_the_kernel() -> None:
    def look() -> list[bool]:
        outer = os.stat("/proc/self/ns/user").st_ino
        clone.unshare(CLONE_NEWUSER | CLONE_NEWIPC)
        inner = os.stat("/proc/self/ns/user").st_ino
        parent = clone.parent_namespace(os.open("/proc/self/ns/user", os.O_RDONLY))
        owner = clone.owner_namespace(os.open("/proc/self/ns/ipc", os.O_RDONLY))
        return [os.fstat(parent).st_ino == outer, os.fstat(owner).st_ino == inner, inner != outer]

    # Seen from the child's own child namespace the parent lies outside: the kernel refuses to show it.
    with pytest.raises(AssertionError, match="Operation not permitted"):
        in_child(look, CLONE_NEWUSER)


def test_the_owner_of_a_new_namespace_is_the_user_namespace_it_was_made_in() -> None:
    def look() -> bool:
        owner = clone.owner_namespace(os.open("/proc/self/ns/ipc", os.O_RDONLY))
        return os.fstat(owner).st_ino == os.stat("/proc/self/ns/user").st_ino

    assert in_child(look, CLONE_NEWUSER | CLONE_NEWIPC)


def test_what_the_kernel_refuses_is_told_with_the_namespaces() -> None:
    def look() -> list[object]:
        try:
            clone.setns(os.open("/dev/null", os.O_RDONLY), clone.CLONE_NEWNET)
        except OSError as failure:
            return [failure.errno, failure.filename]
        return []

    assert in_child(look) == [errno.EINVAL, "network"]


def test_a_device_that_is_not_there_cannot_come_up() -> None:
    with pytest.raises(OSError, match="No such device"):
        set_link_up("nonesuch0")


def test_a_name_that_is_too_long_is_refused() -> None:
    def look() -> int:
        try:
            uts.set_host_name("x" * 65)
        except OSError as failure:
            return failure.errno or 0
        return 0

    assert in_child(look, CLONE_NEWUSER | CLONE_NEWUTS) == errno.EINVAL


# --- binds


def options_of(path: str) -> list[str]:
    """The options of the topmost mount at `path`; empty if nothing is mounted there."""
    with open("/proc/self/mountinfo") as file:
        found = [line.split() for line in file if line.split()[4] == path]
    return sorted(found[-1][5].split(",")) if found else []


def world(place: Path) -> None:
    """A source with a mount below it, and a target."""
    mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
    for name in ("src", "dst"):
        (place / name).mkdir()
    mount.mount("t", str(place / "src"), "tmpfs", 0)
    (place / "src/below").mkdir()
    mount.mount("t", str(place / "src/below"), "tmpfs", 0)


@pytest.fixture(params=["new", "5.11", "5.1"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With mount_setattr(2), a kernel that has none yet, and one without open_tree(2) as well."""
    if request.param != "new":

        def missing(*_arguments: Any, **_named: Any) -> None:
            raise error(errno.ENOSYS, "mount_setattr")

        monkeypatch.setattr(binding, "mount_setattr", missing)
        if request.param == "5.1":
            monkeypatch.setattr(binding, "open_tree", missing)
    return str(request.param)


def bound(place: Path, **how: Any) -> Callable[[], list[list[str]]]:
    def look() -> list[list[str]]:
        world(place)
        target = os.open(place / "dst", os.O_PATH)
        before = os.listdir("/proc/self/fd")
        binding.bind(str(place / "src"), target, **how)
        assert os.listdir("/proc/self/fd") == before
        return [options_of(f"{place}/dst"), options_of(f"{place}/dst/below")]

    return look


def test_a_bind_has_its_attributes_and_so_have_its_submounts(tmp_path: Path, kernel: str) -> None:
    wanted = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC
    top, below = in_child(bound(tmp_path, set_=wanted, propagation=mount.MS_PRIVATE), PRIVATE)
    for options in (top, below):
        assert {"ro", "nosuid", "noexec"} <= set(options)
        assert "nodev" not in options


def test_a_bind_without_attributes_is_as_its_source(tmp_path: Path, kernel: str) -> None:
    top, below = in_child(bound(tmp_path), PRIVATE)
    assert "rw" in top
    assert "rw" in below


def test_a_bind_that_is_not_recursive_leaves_submounts_out(tmp_path: Path, kernel: str) -> None:
    top, below = in_child(bound(tmp_path, recursive=False, set_=mount.MOUNT_ATTR_RDONLY), PRIVATE)
    assert "ro" in top
    assert below == []


def test_times_are_set_as_asked(tmp_path: Path, kernel: str) -> None:
    how = {"set_": mount.MOUNT_ATTR_NOATIME, "clear": mount.MOUNT_ATTR__ATIME}
    top, below = in_child(bound(tmp_path, **how), PRIVATE)
    assert "noatime" in top
    assert "noatime" in below


def test_times_of_the_source_can_be_taken_back(tmp_path: Path, kernel: str) -> None:
    def look() -> list[str]:
        world(tmp_path)
        mount.mount("t", str(tmp_path / "src"), "tmpfs", mount.MS_NOATIME)
        binding.bind(str(tmp_path / "src"), os.open(tmp_path / "dst", os.O_PATH), clear=mount.MOUNT_ATTR__ATIME)
        return options_of(f"{tmp_path}/dst")

    options = in_child(look, PRIVATE)
    assert "relatime" in options
    assert "noatime" not in options


def test_attributes_of_a_mount_that_is_there_are_changed(tmp_path: Path, kernel: str) -> None:
    def look(recursive: bool) -> list[list[str]]:
        world(tmp_path)
        fd = os.open(tmp_path / "src", os.O_PATH)
        binding.set_attributes(fd, set_=mount.MOUNT_ATTR_RDONLY, recursive=recursive)
        return [options_of(f"{tmp_path}/src"), options_of(f"{tmp_path}/src/below")]

    top, below = in_child(lambda: look(False), PRIVATE)
    assert "ro" in top
    assert "ro" not in below


def test_names_in_mountinfo_are_read_as_they_are(tmp_path: Path) -> None:
    def look() -> bool:
        odd = tmp_path / "a b\tc\\d\ne"
        odd.mkdir()
        mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
        mount.mount("t", str(odd), "tmpfs", 0)
        return mount.mount_table()[-1][2] == str(odd)

    assert in_child(look, PRIVATE)


def test_a_source_that_is_not_there_is_told(tmp_path: Path) -> None:
    def look() -> list[object]:
        try:
            binding.clone_tree(f"{tmp_path}/none", -1, recursive=True)
        except OSError as failure:
            return [failure.errno, failure.filename]
        return []

    assert in_child(look, PRIVATE) == [errno.ENOENT, f"{tmp_path}/none"]
