"""What only the host's root can mount, really mounted: id-mapped copies, file systems of disks, devices."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from jubako.linux import clone
from jubako.linux import mount as mnt
from jubako.linux.clone import CLONE_NEWNS, CLONE_NEWUSER
from jubako.plan.step import Slots
from jubako.plan.steps import devices, mount_sources, oci_mounts
from unit.linux.forked import in_child

pytestmark = pytest.mark.root


def world(place: Path) -> Slots:
    mnt.mount(None, "/", None, mnt.MS_REC | mnt.MS_PRIVATE)
    mnt.mount("t", str(place), "tmpfs", 0)
    for name in ("root", "src/below"):
        (place / name).mkdir(parents=True)
    mnt.mount("t", str(place / "src/below"), "tmpfs", 0)
    for name in ("src/file", "src/below/file"):
        (place / name).touch()
        os.chown(place / name, 5, 6)
    return Slots({"root": os.open(place / "root", os.O_PATH)})


def owners(place: Path) -> list[list[int]]:
    found = [os.stat(place / name) for name in ("root/dst/file", "root/dst/below/file")]
    return [[status.st_uid, status.st_gid] for status in found]


@pytest.mark.parametrize(("deep", "below"), [(False, [5, 6]), (True, [2005, 3006])])
def test_an_id_mapped_mount_shows_owners_by_its_own_maps(tmp_path: Path, deep: bool, below: list[int]) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        step = mount_sources.CloneMapped(f"{tmp_path}/src", "mount0", "0 2000 100\n", "0 3000 100\n", True, deep)
        step.apply(slots)
        oci_mounts.AttachTree("mount0", "/src", "/dst", ((mnt.MOUNT_ATTR_RDONLY, 0, 0, False),)).apply(slots)
        return [owners(tmp_path), os.listdir("/proc/self/task") == [str(os.getpid())]]

    assert in_child(look, CLONE_NEWNS) == [[[2005, 3006], below], True]


def test_an_id_mapped_mount_shows_owners_by_the_maps_of_a_container(tmp_path: Path) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        slots["ns:user"] = mount_sources.mapped_namespace("0 100000 10\n", "0 200000 10\n")
        mount_sources.CloneMapped(f"{tmp_path}/src", "mount0", "", "", True, True, joined=True).apply(slots)
        oci_mounts.AttachTree("mount0", "/src", "/dst", ()).apply(slots)
        return owners(tmp_path)

    assert in_child(look, CLONE_NEWNS) == [[100005, 200006]] * 2


def test_maps_that_the_kernel_refuses_are_told_and_leave_nothing(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="uid_map 0 0 0") as caught:
        mount_sources.mapped_namespace("0 0 0\n", "0 0 1\n")
    assert caught.value.errno == errno.EINVAL
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="mkfs.ext4 makes the disk")
def test_a_file_system_of_a_disk_is_mounted_also_for_a_user_namespace(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4 << 20))
    subprocess.run(("mkfs.ext4", "-q", "-F", str(disk)), check=True)
    found = subprocess.run(("losetup", "--find", "--show", str(disk)), capture_output=True, text=True)
    if found.returncode:
        pytest.skip("no loop devices here")
    loop = found.stdout.strip()
    place = tmp_path / "place"
    place.mkdir()

    def look() -> list[Any]:
        slots = world(place)
        oci_mounts.MountNew("ext4", loop, "/own", mnt.MS_NOEXEC, (), ("errors=continue",)).apply(slots)
        mount_sources.OpenFileSystem("ext4", loop, "mount0", mnt.MOUNT_ATTR_NOSUID, (), ()).apply(slots)
        clone.unshare(CLONE_NEWUSER | CLONE_NEWNS)
        oci_mounts.AttachTree("mount0", loop, "/nested", ((mnt.MOUNT_ATTR_RDONLY, 0, 0, False),)).apply(
            Slots({"root": os.open(place / "root", os.O_PATH), "mount0": slots["mount0"]})
        )
        with open("/proc/self/mountinfo") as file:
            lines = [line.split() for line in file if " - ext4 " in line]
        flags = {line[4].rpartition("/")[2]: line[5].split(",") for line in lines}
        return ["noexec" in flags["own"], "nosuid" in flags["nested"], "ro" in flags["nested"], "ro" in flags["own"]]

    try:
        assert in_child(look, CLONE_NEWNS) == [True, True, True, False]
    finally:
        subprocess.run(("losetup", "--detach", loop), check=True)


def test_devices_are_made_with_owner_and_rights_whatever_the_umask(tmp_path: Path) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        os.umask(0o077)
        devices.MakeNode("/dev/null", "c", 1, 3).apply(slots)
        devices.MakeNode("/dev/own", "u", 1, 5, 0o640, 7, 8).apply(slots)
        devices.MakeNode("/dev/own", "u", 1, 5, 0o600, 0, 0).apply(slots)
        try:
            devices.MakeNode("/dev/own", "b", 1, 5).apply(slots)
        except OSError as failure:
            wrong = failure.errno
        null, own = os.stat(tmp_path / "root/dev/null"), os.stat(tmp_path / "root/dev/own")
        return [stat.filemode(null.st_mode), stat.filemode(own.st_mode), own.st_uid, own.st_gid, wrong]

    assert in_child(look, CLONE_NEWNS) == ["crw-rw-rw-", "crw-r-----", 7, 8, errno.EEXIST]
    assert os.stat("/dev/null").st_rdev == os.makedev(1, 3)
