"""The store: on which file system, with how much room, and how layers are stacked there."""

from __future__ import annotations

import errno
import os

from jubako.doctor import storage
from jubako.doctor.trial import Trial

GIB = 1 << 30
EXT4 = Trial(0, f"0xef53 {50 * GIB} 1000000 2000000")
NFS_MOUNT = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n25 20 0:9 / /home rw - nfs4 server:/home rw\n"


def test_a_store_on_a_local_disk_is_well(machine):
    assert storage.store_file_system(machine(attempts={"file_system": EXT4})).status == "ok"


def test_a_store_on_nfs_is_told_without_touching_it(machine):
    host = machine({"/proc/self/mountinfo": NFS_MOUNT}, {"file_system": Trial(errno.ETIMEDOUT)})
    found = storage.store_file_system(host)
    assert found.status == "warning"
    assert "NFS" in found.summary
    assert "server:/home" in found.evidence[0]
    assert "export JUBAKO_ROOT=/var/tmp/jubako-alice" in found.remedy


def test_network_file_systems_are_known_by_their_magic_number_too(machine):
    host = machine(attempts={"file_system": Trial(0, f"0x6969 {GIB} 5 5")})
    assert "NFS" in storage.store_file_system(host).summary


def test_a_file_system_that_does_not_answer_is_a_problem(machine):
    host = machine(attempts={"file_system": Trial(errno.ETIMEDOUT, "no answer within 2 s")})
    assert storage.store_file_system(host).status == "problem"


def test_a_store_in_memory_or_without_exec_is_a_warning(machine):
    tmpfs = machine(attempts={"file_system": Trial(0, f"0x1021994 {GIB} 5 5")})
    assert "in memory" in storage.store_file_system(tmpfs).summary
    noexec = machine({"/proc/self/mountinfo": "20 1 8:1 / / rw,noexec - ext4 /dev/sda1 rw\n"}, {"file_system": EXT4})
    assert "noexec" in storage.store_file_system(noexec).summary


def test_little_room_is_a_warning_and_none_a_problem(machine):
    def status(detail: str) -> str:
        return storage.disk_space(machine(attempts={"file_system": Trial(0, detail)})).status

    assert status(f"0xef53 {5 * GIB} 1000000 2000000") == "ok"
    assert status(f"0xef53 {GIB // 2} 1000000 2000000") == "warning"
    assert status(f"0xef53 {1 << 20} 1000000 2000000") == "problem"
    assert status(f"0xef53 {5 * GIB} 10 2000000") == "problem"
    assert status(f"0x9123683e {5 * GIB} 0 0") == "ok"  # btrfs counts no inodes


def test_a_store_of_somebody_else_is_a_problem(machine, tmp_path):
    host = machine({"/store": "DIRECTORY"}, store="/store", uid=os.getuid() + 4321)
    os.chmod(tmp_path / "store", 0o755)
    assert storage.store_writable(host).status == "problem"


def test_without_overlay_and_without_fuse_overlayfs_the_package_is_named(machine, program):
    program("/usr/bin/apt-get")
    host = machine({"/proc/filesystems": "nodev\toverlay\n"}, {"overlay": Trial(errno.EPERM)})
    found = storage.overlay(host)
    assert found.status == "warning"
    assert found.remedy.splitlines()[0] == "sudo apt-get install -y fuse-overlayfs"


def test_an_overlay_module_that_is_not_loaded_gets_modprobe_first(machine):
    host = machine({"/proc/filesystems": "nodev\tproc\n"}, {"overlay": Trial(errno.ENODEV)})
    assert storage.overlay(host).remedy.splitlines()[0] == "sudo modprobe overlay"


def test_fuse_overlayfs_makes_a_missing_overlay_a_note(machine, program):
    program("/usr/bin/fuse-overlayfs")
    assert storage.overlay(machine(attempts={"overlay": Trial(errno.EPERM)})).status == "note"


def test_a_store_that_cannot_hold_an_upper_layer_is_told(machine):
    found = storage.overlay(machine(attempts={"overlay_on": Trial(errno.EINVAL, "mount: EINVAL")}))
    assert found.status == "warning"
    assert "upper layer" in found.summary


def test_a_store_that_never_answers_stops_no_other_check(machine):
    host = machine(attempts={"nearest": Trial(errno.ETIMEDOUT, "no answer within 2 s")})
    assert storage.store_file_system(host).status == "problem"
    for check in storage.CHECKS[1:]:
        assert check(host).status in ("ok", "note")


def test_no_remedy_ever_changes_the_owner_of_a_directory_above_the_store(machine, tmp_path):
    host = machine({"/var/lib": "DIRECTORY"}, store="/var/lib/jubako", uid=os.getuid() + 4321, user="alice")
    os.chmod(tmp_path / "var/lib", 0o755)
    found = storage.store_writable(host)
    assert found.status == "problem"
    assert "chown" not in found.remedy
    assert "sudo install -d -m 0700 -o alice /var/lib/jubako" in found.remedy
