"""A bundle's mounts really made, in a user and mount namespace of a child: what the container would see afterwards."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import JubakoError, StepError
from jubako.linux import binding, clone, fsopen, procfs
from jubako.linux import mount as mnt
from jubako.linux.clone import CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER
from jubako.linux.libc import error
from jubako.plan.mount_options import read_options
from jubako.plan.oci_mounts import changes_of
from jubako.plan.step import Slots
from jubako.plan.steps import mount_sources, mounts, oci_mounts, targets
from unit.linux.forked import in_child

PRIVATE = CLONE_NEWUSER | CLONE_NEWNS


def options_of(path: object) -> list[str]:
    """The options of the topmost mount at `path`; empty if nothing is mounted there."""
    with open("/proc/self/mountinfo") as file:
        found = [line.split() for line in file if line.split()[4] == str(path)]
    return found[-1][5].split(",") if found else []


def optional_fields(path: object) -> list[str]:
    with open("/proc/self/mountinfo") as file:
        (line,) = [line.split() for line in file if line.split()[4] == str(path)][-1:]
    return [field.partition(":")[0] for field in line[6 : line.index("-")]]


def world(place: Path) -> Slots:
    """A root to mount into, and a source with a mount below it."""
    mnt.mount(None, "/", None, mnt.MS_REC | mnt.MS_PRIVATE)
    for name in ("root", "src"):
        (place / name).mkdir(exist_ok=True)
    mnt.mount("t", str(place / "root"), "tmpfs", 0)
    mnt.mount("t", str(place / "src"), "tmpfs", 0)
    (place / "src/below").mkdir()
    (place / "src/file").write_text("text")
    mnt.mount("t", str(place / "src/below"), "tmpfs", 0)
    return Slots({"root": os.open(place / "root", os.O_PATH)})


@pytest.fixture(params=["new", "5.11", "filtered", "5.1"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With all calls, without mount_setattr(2), with move_mount(2) filtered, without the new mount interface at all."""

    def missing(*_arguments: Any, **_named: Any) -> Any:
        raise error(errno.ENOSYS, "missing")

    if request.param == "filtered":
        monkeypatch.setattr(binding, "move_mount", missing)
    elif request.param != "new":
        monkeypatch.setattr(binding, "mount_setattr", missing)
    if request.param == "5.1":
        monkeypatch.setattr(binding, "open_tree", missing)
        monkeypatch.setattr(fsopen, "_fsopen", missing)
    return str(request.param)


def bind(place: Path, *options: str, target: str = "/dst", source: str = "src") -> Callable[[], list[Any]]:
    def look() -> list[Any]:
        slots = world(place)
        found = read_options(options)
        oci_mounts.BindTree(
            f"{place}/{source}", target, found.recursive or not found.bind, changes_of(found, bind=True)
        ).apply(slots)
        return [options_of(f"{place}/root{target}"), options_of(f"{place}/root{target}/below")]

    return look


def test_read_only_is_the_mount_itself_and_rro_all_below_it(tmp_path: Path, kernel: str) -> None:
    top, below = in_child(bind(tmp_path, "rbind", "ro", "nosuid"), PRIVATE)
    assert {"ro", "nosuid"} <= set(top)
    assert "rw" in below
    top, below = in_child(bind(tmp_path, "rbind", "rro", "rnoexec"), PRIVATE)
    assert {"ro", "noexec"} <= set(top) & set(below)
    top, below = in_child(bind(tmp_path, "rbind", "rro", "rrw"), PRIVATE)
    assert "rw" in top
    assert "rw" in below


def test_a_plain_bind_leaves_the_mounts_below_out(tmp_path: Path, kernel: str) -> None:
    top, below = in_child(bind(tmp_path, "bind", "noatime"), PRIVATE)
    assert "noatime" in top
    assert below == []


def test_a_flag_of_the_source_can_be_cleared(tmp_path: Path, kernel: str) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        mnt.mount(None, str(tmp_path / "src"), None, mnt.MS_REMOUNT | mnt.MS_BIND | mnt.MS_RDONLY | mnt.MS_NOEXEC)
        changes = changes_of(read_options(("bind", "rw")), bind=True)
        oci_mounts.BindTree(f"{tmp_path}/src", "/dst", False, changes).apply(slots)
        return options_of(tmp_path / "root/dst")

    options = in_child(look, PRIVATE)
    assert "rw" in options
    assert "noexec" in options


def test_propagation_is_made_as_asked(tmp_path: Path, kernel: str) -> None:
    def look(*options: str) -> list[Any]:
        slots = world(tmp_path)
        mnt.mount(None, str(tmp_path / "src"), None, mnt.MS_SHARED | mnt.MS_REC)
        found = read_options(options)
        oci_mounts.BindTree(f"{tmp_path}/src", "/dst", True, changes_of(found, bind=True)).apply(slots)
        return [optional_fields(tmp_path / "root/dst"), optional_fields(tmp_path / "root/dst/below")]

    assert in_child(lambda: look("rbind"), PRIVATE) == [[], []]
    assert in_child(lambda: look("rbind", "slave"), PRIVATE) == [["master"], ["shared"]]
    assert in_child(lambda: look("rbind", "rslave", "shared"), PRIVATE) == [["shared", "master"], ["master"]]


def test_a_file_is_bound_to_a_file_that_is_made(tmp_path: Path, kernel: str) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        oci_mounts.BindTree(f"{tmp_path}/src/file", "/etc/new/file", True).apply(slots)
        (tmp_path / "root/dir").mkdir()
        try:
            oci_mounts.BindTree(f"{tmp_path}/src/file", "/dir", True).apply(slots)
        except OSError as failure:
            return [(tmp_path / "root/etc/new/file").read_text(), failure.strerror]
        return []

    assert in_child(look, PRIVATE) == ["text", "a file cannot cover a directory"]


def test_a_source_that_is_not_there_is_told(tmp_path: Path) -> None:
    slots = Slots({"root": os.open(tmp_path, os.O_PATH)})
    with pytest.raises(JubakoError, match="bind to /x the source /no/such: No such file"):
        oci_mounts.BindTree("/no/such", "/x").apply(slots)
    (tmp_path / "file").touch()
    oci_mounts.BindTree("/etc/passwd", "/file/below", optional=True).apply(slots)
    slots.close("root")


def test_a_link_in_the_root_leads_nowhere_outside(tmp_path: Path, kernel: str) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        (tmp_path / "out").mkdir()
        (tmp_path / "root/link").symlink_to(f"{tmp_path}/out")
        oci_mounts.BindTree(f"{tmp_path}/src", "/link", True).apply(slots)
        return [options_of(tmp_path / "out"), bool(options_of(f"{tmp_path}/root{tmp_path}/out"))]

    assert in_child(look, PRIVATE) == [[], True]


def test_a_new_file_system_has_flags_options_and_what_the_directory_held(tmp_path: Path, kernel: str) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        held = tmp_path / "root/in/data/deep/er"
        held.mkdir(parents=True)
        (held / "file").write_text("x" * 100_000)
        (held / "file").chmod(0o4640)
        (held / "link").symlink_to("/etc/passwd")
        os.mkfifo(held / "fifo")
        (tmp_path / "root/in/data/deep").chmod(0o1750)
        os.utime(held / "file", (5, 7))
        flags = mnt.MS_NOSUID | mnt.MS_NODEV
        data = ("size=1m", "mode=711")
        oci_mounts.MountNew("tmpfs", "shm", "/in/data", flags, (), data, (), True, held="mount0").apply(slots)
        (tmp_path / "root/in").rename(tmp_path / "root/moved")  # as whoever shares the root might
        (tmp_path / "root/in/data").mkdir(parents=True)
        oci_mounts.FinishReadOnly("/in/data", "mount0").apply(slots)
        (tmp_path / "root/in/data").rmdir()
        (tmp_path / "root/in").rmdir()
        (tmp_path / "root/moved").rename(tmp_path / "root/in")
        status = (held / "file").stat()
        return [
            options_of(tmp_path / "root/in/data"),
            stat.S_IMODE((tmp_path / "root/in/data").stat().st_mode),
            stat.S_IMODE((tmp_path / "root/in/data/deep").stat().st_mode),
            [len((held / "file").read_text()), stat.S_IMODE(status.st_mode), status.st_mtime],
            os.readlink(held / "link"),
            stat.S_ISFIFO((held / "fifo").stat().st_mode),
        ]

    options, *rest = in_child(look, PRIVATE)
    assert {"ro", "nosuid", "nodev"} <= set(options)
    assert rest == [0o711, 0o1750, [100_000, 0o4640, 7], "/etc/passwd", True]


def test_flags_that_only_the_old_call_takes_are_no_obstacle(tmp_path: Path) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        flags = read_options(("iversion", "acl", "nosuid", "sync"))
        oci_mounts.MountNew("tmpfs", "t", "/a", flags.flags, flags.of_file_system(), ("mode=700",)).apply(slots)
        return ["nosuid" in options_of(tmp_path / "root/a"), stat.S_IMODE((tmp_path / "root/a").stat().st_mode)]

    assert in_child(look, PRIVATE) == [True, 0o700]


def test_a_tmpfs_has_the_mode_of_what_it_covers_unless_told_otherwise(tmp_path: Path, kernel: str) -> None:
    def look() -> list[int]:
        slots = world(tmp_path)
        for name in ("a", "b"):
            (tmp_path / "root" / name).mkdir()
            (tmp_path / "root" / name).chmod(0o1750)
        oci_mounts.MountNew("tmpfs", "t", "/a").apply(slots)
        oci_mounts.MountNew("tmpfs", "t", "/b", data=("mode=700",)).apply(slots)
        oci_mounts.MountNew("tmpfs", "t", "/new").apply(slots)
        return [stat.S_IMODE((tmp_path / "root" / name).stat().st_mode) for name in ("a", "b", "new")]

    assert in_child(look, PRIVATE) == [0o1750, 0o700, 0o1777]


def test_a_wrong_option_is_told_in_the_kernels_words(tmp_path: Path) -> None:
    def look() -> str:
        try:
            oci_mounts.MountNew("tmpfs", "t", "/x", 0, (), ("size=lots",)).apply(world(tmp_path))
        except OSError as failure:
            return str(failure.strerror)
        return ""

    assert "Bad value for 'size'" in in_child(look, PRIVATE)


def test_a_mount_that_is_there_is_changed(tmp_path: Path, kernel: str) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        oci_mounts.MountNew("tmpfs", "t", "/x").apply(slots)
        oci_mounts.ChangeMount("/x", changes_of(read_options(("ro", "noexec")), bind=True)).apply(slots)
        before = options_of(tmp_path / "root/x")
        oci_mounts.ChangeMount("/x", (), 0, ("size=8k",), whole=True).apply(slots)
        return [before, os.statvfs(tmp_path / "root/x").f_blocks * os.statvfs(tmp_path / "root/x").f_bsize]

    options, size = in_child(look, PRIVATE)
    assert {"ro", "noexec"} <= set(options)
    assert size == 8192


@pytest.mark.parametrize("path", ["/proc", "/sys", "/dev"])
def test_where_proc_sys_and_dev_are_mounted_there_may_be_no_link(tmp_path: Path, path: str, kernel: str) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        (tmp_path / "root/elsewhere").mkdir()
        (tmp_path / f"root{path}").symlink_to("elsewhere")
        refused: list[Any] = []
        kind = {"/proc": "proc", "/sys": "sysfs", "/dev": "tmpfs"}[path]
        for step in (oci_mounts.MountNew(kind, kind, path), oci_mounts.BindTree(path, path, True)):
            try:
                step.apply(slots)
            except OSError as failure:
                refused.append(failure.errno)
        return [*refused, options_of(tmp_path / "root/elsewhere")]

    assert in_child(look, PRIVATE) == [errno.ELOOP, errno.ELOOP, []]


def test_a_link_on_the_way_to_a_plain_directory_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "real/fs").mkdir(parents=True)
    (tmp_path / "sys").symlink_to("real")
    slots = Slots({"root": os.open(tmp_path, os.O_PATH)})
    for path in ("/sys/fs", "/sys/new", "/sys"):
        with pytest.raises(OSError, match="symbolic links") as caught:
            targets.directory_for(slots, path, True)
        assert caught.value.errno == errno.ELOOP
    os.close(targets.directory_for(slots, "/real/new", True))
    slots.close("root")


def in_pid_namespace(look: Callable[[], Any]) -> Any:
    """`look` as PID 1 of a new PID namespace."""

    def outer() -> Any:
        clone.unshare(CLONE_NEWPID)
        return in_child(look)

    return in_child(outer, PRIVATE)


def test_nothing_covers_a_part_of_proc_and_only_a_procfs_is_proc(tmp_path: Path) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        oci_mounts.MountNew("proc", "proc", "/proc").apply(slots)
        (tmp_path / "root/link").symlink_to("proc/self")
        refused = []
        for target, source in (
            ("/proc/sys", "src"),
            ("/link/attr", "src"),
            ("/proc", "src"),
            ("/proc/uptime", "src/file"),
        ):
            try:
                oci_mounts.BindTree(f"{tmp_path}/{source}", target, True).apply(slots)
                refused.append("")
            except StepError as failure:
                refused.append(failure.reason)
        return [os.path.exists(tmp_path / "root/proc/1/stat"), *refused]

    inside = "it lies inside the container's /proc"
    assert in_pid_namespace(look) == [True, inside, inside, "only a proc file system may be there", ""]


def test_a_mask_below_proc_is_found_by_the_mounts_descriptor(tmp_path: Path) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        (tmp_path / "root/decoy/sys").mkdir(parents=True)
        (tmp_path / "empty").mkdir()
        slots["mask_directory"] = slots["mask_file"] = os.open(tmp_path / "empty", os.O_PATH)
        oci_mounts.MountNew("proc", "proc", "/proc").apply(slots)
        slots["root"] = os.open(tmp_path / "root/decoy", os.O_PATH)  # paths lead elsewhere now
        mounts.MaskPath("/proc/sys").apply(slots)
        return [options_of(tmp_path / "root/proc/sys") != [], options_of(tmp_path / "root/decoy/sys")]

    assert in_pid_namespace(look) == [True, []]


def test_a_mount_point_that_was_exchanged_meanwhile_is_found_out(tmp_path: Path) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        oci_mounts.MountNew("tmpfs", "t", "/a").apply(slots)
        oci_mounts.MountNew("tmpfs", "t", "/b").apply(slots)
        tree = os.open(tmp_path / "root/b", os.O_PATH)
        targets.check_target(slots, "/b", tree, True)
        (tmp_path / "root/c").symlink_to("b")
        targets.check_target(slots, "/c", tree, False)
        found = []
        for path, plain in (("/a", False), ("/c", True), ("/none", False)):
            try:
                targets.check_target(slots, path, tree, plain)
            except OSError as failure:
                found.append(failure.errno)
        return found

    assert in_child(look, PRIVATE) == [errno.EXDEV] * 3


def race(shared: Path) -> None:
    """What another container does with a volume: a directory, a link that leads out, a directory … for ever."""
    while True:
        for one, other in (("dir", "dst"), ("dst", "dir"), ("link", "dst"), ("dst", "link")):
            try:
                os.rename(shared / one, shared / other)
            except OSError:  # the mount point was made meanwhile
                shutil.rmtree(shared / "dst", ignore_errors=True)


def test_a_mount_point_exchanged_all_the_time_leads_nothing_outside(tmp_path: Path) -> None:
    shared, outside = tmp_path / "shared", tmp_path / "outside"
    for directory in (shared / "dir", outside):
        directory.mkdir(parents=True)
    (shared / "link").symlink_to(outside)
    racer = os.fork()
    if racer == 0:
        race(shared)

    def look() -> list[Any]:
        slots = world(tmp_path)
        mnt.mount(str(shared), str(tmp_path / "root"), None, mnt.MS_BIND)
        slots["root"] = os.open(tmp_path / "root", os.O_PATH)
        done = refused = 0
        until = time.monotonic() + 0.5
        while time.monotonic() < until and done + refused < 3000:
            for step in (
                oci_mounts.BindTree(f"{tmp_path}/src", "/dst", False),
                oci_mounts.MountNew("tmpfs", "t", "/dst"),
                oci_mounts.MountNew("tmpfs", "t", "/dst/sub", copy_up=True),
            ):
                try:
                    step.apply(slots)
                    done += 1
                except (OSError, JubakoError):
                    refused += 1
        with open("/proc/self/mountinfo") as file:
            points = [line.split()[4] for line in file]
        return [done + refused > 50, [point for point in points if point.startswith(str(outside))], os.listdir(outside)]

    try:
        assert in_child(look, PRIVATE) == [True, [], []]
    finally:
        os.kill(racer, 9)
        os.waitpid(racer, 0)


# --- made before


def test_a_user_namespace_with_maps_is_made_and_left_empty() -> None:
    def look() -> list[Any]:
        fd = mount_sources.mapped_namespace("0 0 1\n", "0 0 1\n") if os.geteuid() == 0 else -1
        return [os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]] if fd >= 0 else ["user"]

    assert in_child(look, 0) == ["user"]


def test_a_file_system_made_before_is_attached_with_its_flags(tmp_path: Path) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        made = mount_sources.OpenFileSystem("tmpfs", "t", "mount3", mnt.MOUNT_ATTR_NOEXEC, (), ("mode=700",))
        made.apply(slots)
        oci_mounts.AttachTree("mount3", "t", "/x", ((0, 0, mnt.MS_UNBINDABLE, False),)).apply(slots)
        return [options_of(tmp_path / "root/x"), optional_fields(tmp_path / "root/x"), "mount3" in slots]

    options, fields, left = in_child(look, PRIVATE)
    assert "noexec" in options
    assert fields == ["unbindable"]
    assert not left


def test_a_private_procfs_is_told_from_a_fake(tmp_path: Path) -> None:
    fd = os.open("/proc", os.O_PATH)
    assert procfs.is_procfs_root(fd)
    below = os.open("/proc/self", os.O_PATH)
    assert not procfs.is_procfs_root(below)
    fake = os.open(tmp_path, os.O_PATH)
    assert not procfs.is_procfs_root(fake)
    for one in (fd, below, fake):
        os.close(one)
