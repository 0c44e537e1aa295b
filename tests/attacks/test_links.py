"""Links where a container's mount points, devices and directories would be: made before, or swapped in meanwhile.

CVE-2019-16884, 2019-19921, 2021-30465, 2023-27561, 2023-28642, 2024-45310, 2025-24965, 2025-52881.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from attacks.conftest import every_kernel
from world.bundle import Bundle
from world.hostile import Victim, swapping
from world.runtime import Runtime

ROUNDS = 3


def become_link(path: Path, target: str | Path) -> None:
    """Put a link where a directory or a file was."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.fixture
def shared(place: Path, bundle: Bundle) -> Path:
    """A volume at /vol that another container has as well."""
    made = place / "shared"
    made.mkdir()
    os.chown(made, os.stat(place).st_uid, os.stat(place).st_gid)
    (bundle.rootfs / "vol").mkdir()
    bundle.mount("/vol", "bind", made, ["rbind", "rw"])
    return made


# --- /proc and /sys themselves ----------------------------------------------------------------------------------------


@every_kernel
@pytest.mark.parametrize("name", ["proc", "sys"])
def test_cve_2019_19921_and_2023_27561_proc_and_sys_are_no_links(
    name: str, runtime: Runtime, bundle: Bundle, victim: Victim
) -> None:
    bundle.config["linux"]["sysctl"] = {"kernel.msgmax": "4242"}
    (bundle.rootfs / "fake").mkdir()
    for target in ("fake", victim.links()["upwards"], victim.links()["magic"]):
        become_link(bundle.rootfs / name, target)
        told = runtime.refuses(bundle)
        assert f"/{name}" in told, told
        assert "symbolic link" in told, told
    assert not os.listdir(bundle.rootfs / "fake")


@every_kernel
def test_cve_2023_28642_nor_do_they_lie_behind_one(runtime: Runtime, bundle: Bundle, victim: Victim) -> None:
    """A volume's own name is what leads to /proc: a mount below it would cover a part of the real one."""
    (bundle.rootfs / "door").symlink_to("/proc")
    (bundle.path / "evil").mkdir()
    (bundle.path / "evil/exec").write_text("")
    for destination in ("/door/self/attr", "/door/self/attr/exec", "/door"):
        kept = list(bundle.mounts)
        source = bundle.path / ("evil/exec" if destination.endswith("exec") else "evil")
        bundle.mount(destination, "bind", source, ["bind"])
        told = runtime.refuses(bundle)
        assert destination in told, told
        bundle.config["mounts"] = kept


@every_kernel
@pytest.mark.parametrize("destination", ["/proc", "/proc/self/attr", "/proc/1/attr/exec", "/proc/sys/kernel/msgmax"])
def test_cve_2019_16884_a_volume_cannot_cover_proc(destination: str, runtime: Runtime, bundle: Bundle) -> None:
    fake = bundle.path / "fake"
    for name in ("self/attr", "1/attr", "sys/kernel"):
        (fake / name).mkdir(parents=True)
    (fake / "file").write_text("")
    is_file = destination.endswith(("exec", "msgmax"))
    bundle.mount(destination, "bind", fake / "file" if is_file else fake, ["rbind"])
    told = runtime.refuses(bundle)
    assert "proc" in told, told


@every_kernel
def test_cve_2025_52881_parameters_reach_the_real_proc(runtime: Runtime, bundle: Bundle, victim: Victim) -> None:
    for name in ("kernel/msgmax", "kernel/shmmax", "net/ipv4/ip_forward"):
        trap = bundle.rootfs / "proc/sys" / name
        trap.parent.mkdir(parents=True, exist_ok=True)
        trap.symlink_to(victim.path / "file")
    before = Path("/proc/sys/kernel/msgmax").read_text()
    bundle.linux["sysctl"] = {"kernel.msgmax": "4242", "net.ipv4.ip_forward": "1"}
    assert before != "4242\n"
    said = runtime.says(bundle, "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward")
    assert said.split() == ["4242", "1"]
    assert Path("/proc/sys/kernel/msgmax").read_text() == before


# --- mount points -----------------------------------------------------------------------------------------------------


def shown_from_outside(mountinfo: str, victim: Victim) -> list[str]:
    """Mounts of a container that show something that it must not have."""
    return [line for line in mountinfo.splitlines() if str(victim.path) in line.split()[3]]


@every_kernel
@pytest.mark.parametrize("way", ["absolute", "upwards", "magic"])
def test_cve_2021_30465_and_2024_45310_a_link_in_a_volume_leads_no_mount_outside(
    way: str, runtime: Runtime, bundle: Bundle, shared: Path, victim: Victim
) -> None:
    source = bundle.path / "source"
    source.mkdir()
    (source / "mark").write_text("")
    (shared / "link").symlink_to(victim.links()[way])
    bundle.mount("/vol/link/new/directory", "bind", source, ["bind"])
    bundle.mount("/vol/link/new-file", "bind", source / "mark", ["bind"])
    bundle.mount("/vol/link/memory", "tmpfs")
    bundle.process["cwd"] = "/vol/link/work"
    bundle.sh("pwd; ls -a /vol/link/ /vol/link/new/directory; echo ready; exec sleep 30")
    box = runtime.create(bundle, check=False)
    if box.created.exit_code == 0:
        assert "/new/directory" in box.proc("mountinfo")
        assert shown_from_outside(box.proc("mountinfo"), victim) == []
        box.start()
        words = box.read_until("ready").split()
        assert {"mark", "new", "new-file", "memory", "work"} <= set(words)
        assert not {"exec", "file"}.intersection(words)
    else:
        assert way == "magic", str(box.created)


@every_kernel
@pytest.mark.parametrize("kind", ["victim", "mount of the host"])
def test_cve_2021_30465_a_directory_that_is_swapped_for_a_link_wins_nothing(
    kind: str, runtime: Runtime, bundle: Bundle, shared: Path, victim: Victim
) -> None:
    source = bundle.path / "source"
    source.mkdir()
    (source / "mark").write_text("")
    for name in ("in", "in/empty"):
        (shared / name).mkdir()
    (shared / "out").symlink_to("../" * 20 + (str(victim.path)[1:] if kind == "victim" else ""))
    if kind == "mount of the host":  # where a path that is looked up on the host leads to a mount that is there
        bundle.mount("/vol/in/dev", "bind", source, ["bind", "ro"])
    bundle.mount("/vol/in/new/directory", "bind", source, ["bind", "ro"])
    bundle.mount("/vol/in/new-file", "bind", source / "mark", ["bind", "ro"])
    bundle.mount("/vol/in/empty", "tmpfs", "tmpfs", ["ro"])
    bundle.process["cwd"] = "/vol/in/work"
    bundle.sh("exec sleep 30")
    total = 0
    for _ in range(ROUNDS):
        with swapping(shared / "in", shared / "out") as swaps:
            box = runtime.create(bundle, check=False)
        total += swaps.count
        if box.created.exit_code:
            assert re.search("exchanged|mount|bind|directory", box.created.stderr), box.created
            continue
        mounted = [line.split() for line in box.proc("mountinfo").splitlines()]
        ours = [line for line in mounted if line[3].endswith(("/source", "/mark")) or line[4].endswith("/empty")]
        assert len(ours) == len(bundle.mounts) - 7, mounted
        assert all("ro" in line[5].split(",") for line in ours), ours
        assert shown_from_outside(box.proc("mountinfo"), victim) == []
        box.delete("--force")
    assert total > 1000
    assert victim.changes == []


@every_kernel
@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_a_root_that_another_container_has_as_well_is_swapped_in_vain(
    name: str, runtime: Runtime, bundle: Bundle, victim: Victim
) -> None:
    """What is masked is masked in the real /proc, and devices lie in the real /dev, wherever their directory is now."""
    (bundle.rootfs / "trap").mkdir()
    (bundle.rootfs / "trap/null").symlink_to(victim.path / "file")
    bundle.sh("sleep 30")
    probe = {"proc": "/sys", "sys": "/firmware", "dev": "/null" if runtime.account.uid else "/pts"}[name]
    total = 0
    for _ in range(ROUNDS):
        with swapping(bundle.rootfs / name, bundle.rootfs / "trap") as swaps:
            box = runtime.create(bundle, check=False)
        total += swaps.count
        if box.created.exit_code:
            assert f"/{name}" in box.created.stderr, box.created
            continue
        points = {line.split()[4] for line in box.proc("mountinfo").splitlines()}
        where = [point for point in points if point in (f"/{name}", "/trap")]
        assert len(where) == 1, points
        if os.path.exists(f"/{name}{probe}"):
            assert where[0] + probe in points, points
        box.delete("--force")
    assert total > 1000


# --- files of ours ----------------------------------------------------------------------------------------------------


@every_kernel
def test_cve_2025_24965_nothing_is_written_into_the_root(
    runtime: Runtime, bundle: Bundle, victim: Victim, runtime_account: object
) -> None:
    names = ("krun_config.json", ".krun_config.json", "run/.containerenv", ".dockerenv", "etc/hosts", "etc/hostname",
             "etc/resolv.conf", "etc/mtab", "state.json", "config.json", "dev/console", "dev/ptmx")  # fmt: skip
    for name in names:
        (bundle.rootfs / name).symlink_to(victim.path / "file")

    def listing() -> list[str]:
        return sorted(os.path.join(top, name) for top, _, files in os.walk(bundle.rootfs) for name in files)

    before = listing()
    box = runtime.start_new(bundle)
    assert box.exec("true", check=False).exit_code in (0, 255)
    assert listing() == before


@every_kernel
def test_what_tmpcopyup_copies_are_links_and_not_what_they_name(
    runtime: Runtime, bundle: Bundle, victim: Victim, bundles: Callable[..., Bundle]
) -> None:
    (bundle.rootfs / "data").mkdir()
    (bundle.rootfs / "data/link").symlink_to(victim.path / "file")
    (bundle.rootfs / "data/up").symlink_to(f"{'../' * 20}{str(victim.path)[1:]}")
    os.mkfifo(bundle.rootfs / "data/fifo")
    bundle.mount("/data", "tmpfs", "tmpfs", ["tmpcopyup"])
    script = "cd /data; readlink link; readlink up; cat link up/file 2>&1; test -p fifo && echo fifo"
    said = runtime.says(bundle, script)
    assert "untouched" not in said
    assert said.splitlines()[0] == str(victim.path / "file")
    assert said.splitlines()[-1] == "fifo"
