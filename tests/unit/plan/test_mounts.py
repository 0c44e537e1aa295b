"""config.json's mounts as steps: flags, attributes, propagation, and what a namespace of one's own decides."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.errors import UsageError
from jubako.linux import mount as mnt
from jubako.plan.mounts import is_bind, parse_options, plan_mount
from jubako.plan.namespaces import NamespaceSet
from jubako.plan.step import Step
from jubako.record import replace
from jubako.spec.types import Mount
from unit.plan.plans import ALL, FOREIGN, ROOT, STAGE, USER, make_plan, make_spec, names, steps

OWN = NamespaceSet(ALL, ())


def plan(mount: Mount, spaces: NamespaceSet = OWN, id_mapped: str = "", cgroup2: bool = True) -> list[Any]:
    return list(plan_mount(mount, spaces, replace(USER, cgroup2=cgroup2), id_mapped))


def bind(*options: str, id_mapped: str = "") -> Any:
    (step,) = plan(Mount("/dst", "bind", "/src", options), id_mapped=id_mapped)
    return step


def without(*kinds: str, joined: tuple[str, ...] = ()) -> NamespaceSet:
    return NamespaceSet(tuple(kind for kind in ALL if kind not in kinds), joined)


def kind(step: Step) -> str:
    return type(step).__name__


# --- binds


def test_a_bind_is_recursive_private_and_writable_unless_asked_otherwise() -> None:
    step = bind("rbind")
    assert (kind(step), step.source, step.target) == ("BindMount", "/src", "/dst")
    assert (step.set, step.clear, step.propagation) == (0, 0, mnt.MS_PRIVATE)
    assert step.recursive
    assert not step.optional
    assert bind().recursive


def test_a_plain_bind_leaves_submounts_out() -> None:
    assert not bind("bind").recursive
    assert "AT_RECURSIVE)" not in bind("bind").call().partition(";")[0]
    assert bind("bind", "rbind").recursive


@pytest.mark.parametrize(
    ("option", "attribute"),
    [
        ("ro", mnt.MOUNT_ATTR_RDONLY), ("rro", mnt.MOUNT_ATTR_RDONLY), ("nosuid", mnt.MOUNT_ATTR_NOSUID),
        ("rnosuid", mnt.MOUNT_ATTR_NOSUID), ("nodev", mnt.MOUNT_ATTR_NODEV), ("rnodev", mnt.MOUNT_ATTR_NODEV),
        ("noexec", mnt.MOUNT_ATTR_NOEXEC), ("rnoexec", mnt.MOUNT_ATTR_NOEXEC),
        ("nodiratime", mnt.MOUNT_ATTR_NODIRATIME), ("nosymfollow", mnt.MOUNT_ATTR_NOSYMFOLLOW),
    ],
)  # fmt: skip
def test_a_flag_of_a_bind_is_an_attribute_that_reaches_its_submounts(option: str, attribute: int) -> None:
    step = bind("rbind", option)
    assert step.set == attribute
    assert step.clear == 0
    assert step.recursive_attributes


def test_a_read_only_bind_says_so() -> None:
    assert "read-only" in bind("ro").purpose()
    assert "writable" in bind().purpose()
    assert "attr_set=MOUNT_ATTR_RDONLY" in bind("ro").call()


def test_of_two_contrary_flags_the_last_one_holds() -> None:
    assert bind("ro", "rw").set == 0
    assert bind("rw", "ro").set == mnt.MOUNT_ATTR_RDONLY
    assert bind("noexec", "exec", "nosuid").set == mnt.MOUNT_ATTR_NOSUID
    assert parse_options(("ro", "rw")).cleared == mnt.MS_RDONLY
    assert parse_options(("rw", "ro")).cleared == 0


@pytest.mark.parametrize(
    ("option", "attribute"),
    [("noatime", mnt.MOUNT_ATTR_NOATIME), ("strictatime", mnt.MOUNT_ATTR_STRICTATIME), ("relatime", 0)],
)
def test_the_times_are_one_number_so_all_of_it_is_cleared_first(option: str, attribute: int) -> None:
    for step in (bind("ro", option), bind("ro", option, id_mapped="mount3")):
        assert step.set == mnt.MOUNT_ATTR_RDONLY | attribute
        assert step.clear == mnt.MOUNT_ATTR__ATIME
        assert "attr_clr=MOUNT_ATTR__ATIME" in step.call()


@pytest.mark.parametrize("name", ["private", "slave", "shared", "unbindable"])
def test_propagation_reaches_the_bind(name: str) -> None:
    for option in (name, "r" + name):
        assert bind(option).propagation == getattr(mnt, "MS_" + name.upper())
        assert bind(option, id_mapped="mount0").propagation == getattr(mnt, "MS_" + name.upper())


def test_a_bind_that_may_fail_is_left_out_where_its_target_cannot_be_made() -> None:
    assert bind("nofail").optional
    assert bind("nofail", id_mapped="mount0").optional
    assert "left out" in bind("nofail").purpose()


def test_an_id_mapped_copy_is_attached_from_its_slot() -> None:
    step = bind("ro", id_mapped="mount4")
    assert (kind(step), step.slot, step.source, step.target) == ("AttachMount", "mount4", "/src", "/dst")
    assert step.set == mnt.MOUNT_ATTR_RDONLY
    assert step.needs == ("root", "mount4")


@pytest.mark.parametrize("option", ["uid=5", "gid=5", "rrw", "size=5", "", "Z"])
def test_an_option_that_a_bind_does_not_know_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match="unknown mount option"):
        bind("ro", option or "=")


def test_the_options_decide_what_a_bind_is_as_well_as_the_type() -> None:
    assert is_bind(Mount("/a", "bind"))
    assert is_bind(Mount("/a", "none", "/b", ("rbind",)))
    assert is_bind(Mount("/a", "", "/b", ("bind",)))
    assert not is_bind(Mount("/a", "tmpfs"))


def test_the_hosts_root_id_maps_every_bind_and_nothing_else() -> None:
    spec = make_spec()
    spec = replace(spec, mounts=(*spec.mounts, Mount("/a", "bind", "/b"), Mount("/c", "none", "/d", ("bind",))))
    made = make_plan(spec, ROOT)
    clones, attached = steps(made, "CloneIdMapped"), steps(made, "AttachMount")
    assert [(step.source, step.recursive) for step in clones if step.slot != "rootfs"] == [("/b", True), ("/d", False)]
    assert [(step.slot, step.target) for step in attached] == [("mount7", "/a"), ("mount8", "/c")]
    assert not any(kind(step) == "CloneIdMapped" for step in make_plan(spec).steps)
    assert not any(step.required for step in clones if step.slot != "rootfs")


# --- new file systems


def test_a_tmpfs_gets_flags_and_what_is_no_flag_as_its_own_options() -> None:
    (step,) = plan(Mount("/t", "tmpfs", "tmpfs", ("nosuid", "noexec", "size=5m", "mode=700", "nr_inodes=3")))
    assert (kind(step), step.kind, step.target) == ("MountFileSystem", "tmpfs", "/t")
    assert step.flags == mnt.MS_NOSUID | mnt.MS_NOEXEC
    assert step.data == "size=5m,mode=700,nr_inodes=3"


@pytest.mark.parametrize("type_", ["tmpfs", "proc", "sysfs", "mqueue", "devpts", "ramfs", "cgroup"])
def test_a_recursive_flag_holds_for_what_is_new_too(type_: str) -> None:
    (step,) = plan(Mount("/t", type_, type_, ("rro",)))
    assert step.flags & mnt.MS_RDONLY


def test_proc_is_new_with_a_pid_namespace_else_the_hosts_or_the_joined_ones() -> None:
    mount = Mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev", "ro"))
    (step,) = plan(mount)
    assert (kind(step), step.kind) == ("MountFileSystem", "proc")
    assert step.flags == mnt.MS_NOSUID | mnt.MS_NOEXEC | mnt.MS_NODEV | mnt.MS_RDONLY
    (step,) = plan(mount, without("pid"))
    assert (kind(step), step.source) == ("BindMount", "/proc")
    assert step.set & mnt.MOUNT_ATTR_RDONLY
    (step,) = plan(mount, without("pid", joined=("pid",)))
    assert (kind(step), step.source) == ("BindMount", FOREIGN)
    assert step.set & mnt.MOUNT_ATTR_RDONLY


def test_sysfs_is_new_with_a_network_namespace_else_the_hosts_read_only() -> None:
    mount = Mount("/sys", "sysfs", "sysfs", ("nosuid",))
    (step,) = plan(mount)
    assert (kind(step), step.kind) == ("MountFileSystem", "sysfs")
    for spaces in (without("network"), without("network", joined=("network",))):
        (step,) = plan(mount, spaces)
        assert (kind(step), step.source, step.target) == ("BindMount", "/sys", "/sys")
        assert step.set == (
            mnt.MOUNT_ATTR_RDONLY | mnt.MOUNT_ATTR_NOSUID | mnt.MOUNT_ATTR_NODEV | mnt.MOUNT_ATTR_NOEXEC
        )


@pytest.mark.parametrize("type_", ["cgroup", "cgroup2"])
def test_cgroup_is_new_with_its_namespace_else_covered_else_the_hosts_shows(type_: str) -> None:
    mount = Mount("/sys/fs/cgroup", type_, type_, ("ro", "nosuid"))
    (step,) = plan(mount)
    assert (step.kind, step.flags) == ("cgroup2", mnt.MS_RDONLY | mnt.MS_NOSUID)
    for spaces, cgroup2 in ((without("cgroup"), True), (OWN, False)):
        (step,) = plan(mount, spaces, cgroup2=cgroup2)
        assert (step.kind, step.data) == ("tmpfs", "size=0,mode=555")
        assert step.flags & mnt.MS_RDONLY
    assert plan(mount, without("cgroup", "network")) == []


def test_message_queues_are_new_with_an_ipc_namespace_the_hosts_without_and_none_in_a_joined_one() -> None:
    mount = Mount("/dev/mqueue", "mqueue", "mqueue", ("nosuid",))
    (step,) = plan(mount)
    assert (kind(step), step.kind) == ("MountFileSystem", "mqueue")
    (step,) = plan(mount, without("ipc"))
    assert (kind(step), step.source, step.set) == ("BindMount", "/dev/mqueue", mnt.MOUNT_ATTR_NOSUID)
    assert plan(mount, without("ipc", joined=("ipc",))) == []


def test_shared_memory_is_the_hosts_exactly_where_the_ipc_namespace_is() -> None:
    mount = Mount("/dev/shm", "tmpfs", "shm", ("noexec", "size=1m"))
    (step,) = plan(mount)
    assert (kind(step), step.kind, step.data) == ("MountFileSystem", "tmpfs", "size=1m")
    (step,) = plan(mount, without("ipc"))
    assert (kind(step), step.source, step.set) == ("BindMount", "/dev/shm", mnt.MOUNT_ATTR_NOEXEC)
    (step,) = plan(mount, without("ipc", joined=("ipc",)))
    assert kind(step) == "MountFileSystem"


def test_what_a_user_namespace_cannot_mount_is_refused() -> None:
    with pytest.raises(UsageError, match="ext4: not one that a user namespace can mount"):
        plan(Mount("/x", "ext4", "/dev/sda"))


# --- a volume under a throw-away layer


def test_an_overlay_is_mounted_below_the_root_with_the_flags_asked_for() -> None:
    data = ("lowerdir=/a:/b", "upperdir=/u", "workdir=/w")
    (step,) = plan(Mount("/x", "overlay", "overlay", (*data, "noexec", "rro")))
    assert kind(step) == "MountOverlay"
    assert (step.lower, step.upper, step.work, step.stage, step.target) == (("/a", "/b"), "/u", "/w", STAGE, "/x")
    assert step.flags == mnt.MS_NOEXEC | mnt.MS_RDONLY
    assert "MS_RDONLY|MS_NOEXEC" in step.call()


@pytest.mark.parametrize("options", [(), ("lowerdir=/a",), ("lowerdir=/a", "upperdir=/u", "workdir=/w", "metacopy=on")])
def test_an_overlay_that_says_too_little_or_too_much_is_refused(options: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="mount overlay on /x"):
        plan(Mount("/x", "overlay", "overlay", options))


# --- order


def test_mounts_are_made_in_the_documents_order_and_devices_right_after_dev() -> None:
    made = make_plan()
    order = names(made)
    targets = [getattr(step, "target", "") for step in made.steps]
    wanted = [mount.destination for mount in make_spec().mounts]
    assert [target for target in targets if target in wanted] == wanted
    assert order[targets.index("/dev") + 1] == "BindDevice"
    assert order.index("MakeLinks") < targets.index("/dev/pts")
