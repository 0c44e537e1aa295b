"""Devices and terminals where the root file system has something else: links, files, other devices.

CVE-2025-31133, 2025-52565, 2026-41579, 2026-47766, 2026-88264, 2026-88265.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from attacks.conftest import every_kernel
from world.bundle import Bundle
from world.console import ConsoleSocket
from world.hostile import Victim, swapping
from world.runtime import Container, Runtime

ROUNDS = 3


@pytest.fixture
def own_dev(bundle: Bundle) -> Bundle:
    """A bundle whose /dev is the root file system's own: nothing is mounted there before devices are made."""
    bundle.unmount("/dev")
    bundle.config["root"]["readonly"] = False
    return bundle


def mounted(box: Container) -> set[str]:
    """The mount points of a container."""
    return {line.split()[4] for line in box.proc("mountinfo").splitlines()}


@every_kernel
@pytest.mark.parametrize("with_tmpfs", [True, False], ids=["mounted", "bare"])
def test_cve_2026_41579_and_47766_dev_is_no_link(
    with_tmpfs: bool, runtime: Runtime, bundle: Bundle, victim: Victim
) -> None:
    if not with_tmpfs:
        bundle.unmount("/dev")
    (bundle.rootfs / "dev").rmdir()
    for target in ("/proc/self/fd", "/tmp", victim.links()["upwards"], victim.links()["magic"]):
        (bundle.rootfs / "dev").unlink(missing_ok=True)
        (bundle.rootfs / "dev").symlink_to(target)
        told = runtime.refuses(bundle)
        assert "/dev" in told, told
        assert not os.listdir(bundle.rootfs / "tmp")


@every_kernel
@pytest.mark.parametrize("name", ["null", "tty"])
def test_cve_2025_31133_and_2026_88265_a_device_that_is_a_link_is_not_used(
    name: str, runtime: Runtime, own_dev: Bundle, victim: Victim
) -> None:
    for target in (victim.path / "file", "../proc/sys/kernel/core_pattern", "null2"):
        (own_dev.rootfs / "dev" / name).unlink(missing_ok=True)
        (own_dev.rootfs / "dev" / name).symlink_to(target)
        told = runtime.refuses(own_dev)
        assert f"/dev/{name}" in told, told
        assert not (own_dev.rootfs / "dev/null2").exists()


@every_kernel
def test_cve_2025_31133_masks_are_the_null_device_of_the_host(runtime: Runtime, bundle: Bundle, victim: Victim) -> None:
    """/dev is a volume whose null leads into /proc; and what is to be masked is a link out of the root."""
    evil = bundle.path / "evil"
    evil.mkdir()
    for name in ("null", "zero", "full", "random", "urandom", "tty", "console"):
        (evil / name).symlink_to("/proc/sys/kernel/core_pattern")
    bundle.unmount("/dev")
    bundle.mount("/dev", "bind", evil, ["rbind"])
    (bundle.rootfs / "secret").symlink_to(victim.path / "file")
    (bundle.rootfs / "plain").write_text("of the image")
    bundle.linux["maskedPaths"] += ["/plain", "/secret"]
    bundle.sh("echo ready; exec sleep 100")
    box = runtime.start_new(bundle)
    box.read_until("ready")
    found = Path(f"/proc/{box.pid}/root/plain").stat()
    assert stat.S_ISCHR(found.st_mode)
    assert found.st_rdev == os.makedev(1, 3)
    points = mounted(box)
    assert "/plain" in points
    assert not [point for point in points if "core_pattern" in point]
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    told = box.exec("sh", "-c", "echo '|/tmp/evil' > /proc/sys/kernel/core_pattern || echo refused", check=False)
    assert "refused" in told.stdout
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


@every_kernel
@pytest.mark.parametrize("name", ["console", "ptmx", "pts"])
def test_cve_2025_52565_and_2026_88264_a_terminal_is_not_led_elsewhere(
    name: str, runtime: Runtime, own_dev: Bundle, victim: Victim
) -> None:
    own_dev.process["terminal"] = True
    own_dev.sh("tty; echo ready; exec sleep 100")
    own_dev.config["mounts"] = [
        entry for entry in own_dev.mounts if entry["destination"] not in ("/dev/shm", "/dev/mqueue")
    ]
    if name != "pts":
        own_dev.mount("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"])
    targets = (victim.path if name == "pts" else victim.path / "file", "../proc/sysrq-trigger")
    with ConsoleSocket(own_dev.path) as socket:
        for target in targets:
            place = own_dev.rootfs / "dev" / name
            place.unlink(missing_ok=True)
            place.symlink_to(target)
            box = runtime.create(own_dev, "--console-socket", str(socket.path), check=False)
            if box.created.exit_code == 0:
                assert name == "ptmx", "the link of the root was followed"
                assert os.readlink(place) == "pts/ptmx"
                box.delete("--force")
            else:
                assert "/dev" in box.created.stderr, box.created
            assert victim.changes == []


@every_kernel
def test_cve_2025_52565_nor_is_it_when_the_console_is_swapped_meanwhile(
    runtime: Runtime, own_dev: Bundle, victim: Victim
) -> None:
    own_dev.process["terminal"] = True
    own_dev.sh("exec sleep 100")
    own_dev.mount("/dev/pts", "devpts", "devpts", ["newinstance", "ptmxmode=0666", "mode=0620"])
    (own_dev.rootfs / "dev/console").write_text("")
    (own_dev.rootfs / "dev/trap").symlink_to("/proc/sysrq-trigger")
    total = 0
    with ConsoleSocket(own_dev.path) as socket:
        for _ in range(ROUNDS):
            with swapping(own_dev.rootfs / "dev/console", own_dev.rootfs / "dev/trap") as swaps:
                box = runtime.create(own_dev, "--console-socket", str(socket.path), check=False)
            total += swaps.count
            if box.created.exit_code:
                assert "/dev" in box.created.stderr, box.created
                continue
            rows = [line.split() for line in box.proc("mountinfo").splitlines()]
            covered = [row for row in rows if row[4] == "/proc/sysrq-trigger"]
            assert all(" - proc " in " ".join(row) for row in covered), covered
            box.delete("--force")
    assert total > 1000


@every_kernel
def test_the_multiplexer_of_exec_is_the_devpts_one(runtime: Runtime, own_dev: Bundle) -> None:
    """A container that exchanges /dev/pts gets nothing opened that it could not open itself."""
    own_dev.unmount("/dev/pts")
    os.mkfifo(own_dev.rootfs / "fifo")
    (own_dev.rootfs / "dev/pts").mkdir(exist_ok=True)
    own_dev.sh("echo ready; exec sleep 100")
    box = runtime.start_new(own_dev)
    box.read_until("ready")
    for target in ("../../fifo", "/proc/1/root/etc/passwd", "/proc/sysrq-trigger"):
        (own_dev.rootfs / "dev/pts/ptmx").unlink(missing_ok=True)
        (own_dev.rootfs / "dev/pts/ptmx").symlink_to(target)
        with ConsoleSocket(own_dev.path) as socket:
            told = box.exec("true", flags=("--tty", "--console-socket", str(socket.path)), check=False)
        assert told.exit_code == 255, told
        assert "/dev/pts" in told.stderr, told
