"""A bundle's mounts as steps: exactly what the document says, or a refusal that says why."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.errors import UsageError
from jubako.linux import mount as mnt
from jubako.plan.host import Host
from jubako.plan.namespaces import NamespaceSet
from jubako.plan.oci_mounts import (
    Bundle,
    bind_sources,
    plan_mount_sources,
    plan_mounts,
    plan_mounts_end,
    plan_shared_sources,
    slot_of,
    target_of,
)
from jubako.record import replace
from jubako.spec.types import IdMapping, Mount, Spec
from unit.plan.plans import ALL, FOREIGN, ROOT, USER, make_spec

OWN = NamespaceSet(ALL, ())
FLAT = NamespaceSet(tuple(kind for kind in ALL if kind != "user"), ())
BUNDLE = Bundle("/bundle")
MAP = (IdMapping(0, 1000, 5),)
PRIVATE = (0, 0, mnt.MS_PRIVATE, True)
RDONLY = mnt.MOUNT_ATTR_RDONLY


def document(*mounts: Mount) -> Spec:
    return replace(make_spec(), mounts=mounts)


def plan(mount: Mount, spaces: NamespaceSet = OWN, host: Host = USER, bundle: Bundle = BUNDLE) -> list[Any]:
    return list(plan_mounts(document(mount), spaces, host, bundle))


def one(mount: Mount, spaces: NamespaceSet = OWN, host: Host = USER, bundle: Bundle = BUNDLE) -> Any:
    (step,) = plan(mount, spaces, host, bundle)
    return step


def bind(*options: str, **how: Any) -> Any:
    return one(Mount("/dst", "bind", "/src", options), **how)


def without(*kinds: str, joined: tuple[str, ...] = ()) -> NamespaceSet:
    return NamespaceSet(tuple(kind for kind in ALL if kind not in kinds), joined)


def kind(step: Any) -> str:
    return type(step).__name__


# --- binds


def test_a_bind_is_private_and_otherwise_as_its_source() -> None:
    step = bind("rbind")
    assert (kind(step), step.source, step.target, step.recursive) == ("BindTree", "/src", "/dst", True)
    assert step.changes == (PRIVATE,)
    assert not bind("bind").recursive
    assert bind().recursive


def test_read_only_holds_for_the_mount_itself_and_rro_for_all_below_it() -> None:
    assert bind("rbind", "ro").changes == ((RDONLY, 0, 0, False), PRIVATE)
    assert bind("rbind", "rro").changes == ((RDONLY, 0, 0, True), PRIVATE)
    assert bind("rbind", "rw", "rsuid").changes == (
        (0, RDONLY, 0, False),
        (0, mnt.MOUNT_ATTR_NOSUID, 0, True),
        PRIVATE,
    )
    assert "read-only" in bind("ro").purpose()
    assert "writable" in bind("rw").purpose()


def test_every_propagation_is_made_in_its_order() -> None:
    assert bind("rbind", "slave", "rshared").changes == ((0, 0, mnt.MS_SLAVE, False), (0, 0, mnt.MS_SHARED, True))


def test_the_options_make_a_bind_whatever_the_type_says() -> None:
    for type_ in ("", "none", "bind", "ext4"):
        assert kind(one(Mount("/a", type_, "/b", ("bind",)))) == "BindTree"


def test_a_relative_source_counts_from_the_bundle() -> None:
    mounts = (Mount("/a", "bind", "x/y"), Mount("/b", "", "/z", ("rbind",)), Mount("/c", "tmpfs", "w"))
    assert one(mounts[0]).source == "/bundle/x/y"
    assert bind_sources(document(*mounts), BUNDLE) == ("/bundle/x/y", "/z")


def test_a_bind_refuses_what_it_does_not_know_and_what_has_no_source() -> None:
    with pytest.raises(UsageError, match="unknown mount option 'size=5'"):
        bind("bind", "size=5")
    with pytest.raises(UsageError, match="has no source"):
        one(Mount("/a", "bind"))


def test_the_root_itself_is_not_mounted_over_and_paths_are_clean() -> None:
    for destination in ("/", "//", "/..", "/a/.."):
        with pytest.raises(UsageError, match="cover the container's root"):
            one(Mount(destination, "tmpfs", "t"))
    assert target_of(Mount("//a/../b/")) == "/b"


def test_only_the_hosts_root_can_share_mounts_with_the_host() -> None:
    spec = document(Mount("/a", "bind", "/s", ("rbind", "rshared")), Mount("/b", "bind", "/t", ("bind", "slave")))
    (step,) = plan_shared_sources(spec, FLAT, ROOT, BUNDLE)
    assert (kind(step), step.source, step.slot) == ("CloneShared", "/s", slot_of(0))
    first, second = plan_mounts(spec, FLAT, ROOT, BUNDLE)
    assert (kind(first), first.slot) == ("AttachTree", slot_of(0))
    assert first.changes == ((0, 0, mnt.MS_SHARED, True),)
    assert kind(second) == "BindTree"
    assert not list(plan_shared_sources(spec, OWN, USER, BUNDLE))
    assert kind(next(plan_mounts(spec, OWN, USER, BUNDLE))) == "BindTree"


# --- id-mapped mounts


def test_an_id_mapped_bind_has_the_mounts_own_maps_or_the_containers() -> None:
    own = Mount("/a", "bind", "/s", ("rbind", "idmap"), MAP, MAP)
    (step,) = plan_mount_sources(document(own), OWN, ROOT, BUNDLE)
    assert (kind(step), step.source, step.slot, step.uid_map) == ("CloneMapped", "/s", "mount0", "0 1000 5\n")
    assert (step.recursive, step.deep, step.needs) == (True, False, ())
    attached = one(own, host=ROOT)
    assert (kind(attached), attached.slot) == ("AttachTree", "mount0")
    (step,) = plan_mount_sources(document(Mount("/a", "bind", "/s", ("bind", "ridmap"))), OWN, ROOT, BUNDLE)
    assert (step.uid_map, step.recursive, step.deep, step.needs) == ("", False, True, ("init_pid",))
    joined = without("user", joined=("user",))
    (step,) = plan_mount_sources(document(Mount("/a", "bind", "/s", ("idmap",))), joined, ROOT, BUNDLE)
    assert step.needs == ("ns:user",)
    (step,) = plan_mount_sources(document(replace(own, options=("rbind",))), OWN, ROOT, BUNDLE)
    assert step.deep


def test_an_ordinary_user_cannot_have_id_mapped_mounts() -> None:
    with pytest.raises(UsageError, match="only the host's root may make one"):
        list(plan_mount_sources(document(Mount("/a", "bind", "/s", ("idmap",))), OWN, USER, BUNDLE))


# --- new file systems


def test_a_tmpfs_becomes_read_only_only_when_nothing_is_made_in_it_any_more() -> None:
    mount = Mount("/t", "tmpfs", "tmpfs", ("nosuid", "ro", "size=5m", "mode=700", "tmpcopyup"))
    step = one(mount)
    assert (kind(step), step.flags, step.words) == ("MountNew", mnt.MS_NOSUID, ())
    assert step.data == ("size=5m", "mode=700")
    assert step.copy_up
    (end,) = plan_mounts_end(document(mount, Mount("/u", "tmpfs")))
    assert (kind(end), end.target) == ("FinishReadOnly", "/t")
    assert one(Mount("/t", "tmpfs", "t", ("rro",))).changes == ()


def test_copying_up_is_for_a_new_tmpfs_only() -> None:
    for mount in (Mount("/a", "ramfs", "r", ("tmpcopyup",)), Mount("/a", "tmpfs", "/b", ("bind", "tmpcopyup"))):
        with pytest.raises(UsageError, match="tmpcopyup"):
            one(mount)


def test_any_file_system_is_mounted_by_the_hosts_root_and_none_by_others() -> None:
    mount = Mount("/x", "ext4", "/dev/sda", ("ro", "noexec", "data=ordered", "sync"))
    step = one(mount, FLAT, ROOT)
    assert (kind(step), step.kind, step.source) == ("MountNew", "ext4", "/dev/sda")
    assert step.flags & mnt.MS_RDONLY
    assert set(step.words) == {"ro", "sync"}
    assert step.data == ("data=ordered",)
    assert not list(plan_mount_sources(document(mount), FLAT, ROOT, BUNDLE))
    (made,) = plan_mount_sources(document(mount), OWN, ROOT, BUNDLE)
    assert (kind(made), made.slot) == ("OpenFileSystem", "mount0")
    assert made.attributes == RDONLY | mnt.MOUNT_ATTR_NOEXEC
    assert kind(one(mount, OWN, ROOT)) == "AttachTree"
    with pytest.raises(UsageError, match="ext4: not one that a user namespace can mount"):
        list(plan_mount_sources(document(mount), OWN, USER, BUNDLE))


def test_proc_is_new_with_a_pid_namespace_or_for_the_hosts_root_else_the_hosts() -> None:
    mount = Mount("/proc", "proc", "proc", ("nosuid", "ro"))
    step = one(mount)
    assert (kind(step), step.kind, step.words) == ("MountNew", "proc", ("ro",))
    assert step.flags == mnt.MS_NOSUID | mnt.MS_RDONLY
    assert kind(one(mount, NamespaceSet(("mount",), ()), ROOT)) == "MountNew"
    step = one(mount, without("pid"))
    assert (kind(step), step.source) == ("BindTree", "/proc")
    assert step.changes[0][0] & RDONLY
    assert one(mount, without("pid", joined=("pid",))).source == FOREIGN


def test_sysfs_is_new_with_a_network_namespace_or_for_the_hosts_root_else_the_hosts_read_only() -> None:
    mount = Mount("/sys", "sysfs", "sysfs", ("nosuid",))
    assert kind(one(mount)) == "MountNew"
    assert kind(one(mount, NamespaceSet(("mount",), ()), ROOT)) == "MountNew"
    step = one(mount, without("network"))
    assert (kind(step), step.source) == ("BindTree", "/sys")
    assert step.changes[0] == (
        RDONLY | mnt.MOUNT_ATTR_NOSUID | mnt.MOUNT_ATTR_NODEV | mnt.MOUNT_ATTR_NOEXEC,
        0,
        0,
        True,
    )


@pytest.mark.parametrize("options", [(), ("rw",), ("rrw",), ("ro",)])
def test_control_groups_of_the_host_are_read_only_for_all_but_its_root(options: tuple[str, ...]) -> None:
    mount = Mount("/sys/fs/cgroup", "cgroup", "cgroup", options)
    assert one(mount).kind == "cgroup2"
    for spaces, host in ((without("cgroup"), USER), (without("cgroup"), ROOT), (OWN, replace(USER, cgroup2=False))):
        step = one(mount, spaces, host)
        assert (kind(step), step.source) == ("BindTree", "/sys/fs/cgroup")
        assert step.changes[-1] == (RDONLY, 0, 0, True)
    step = one(mount, NamespaceSet(("mount",), ()), ROOT)
    assert any(set_ & RDONLY for set_, *_rest in step.changes) == (options == ("ro",))


def test_a_bind_of_sys_brings_no_writable_control_groups_along() -> None:
    forced = (RDONLY, 0, 0, True)
    for options in (("rbind", "ro"), ("rbind",), ("rbind", "rw")):
        mount = Mount("/sys", "none", "/sys/", options)
        assert one(mount).changes[-1] == forced
        assert forced not in one(mount, NamespaceSet(("mount",), ()), ROOT).changes
    for mount in (
        Mount("/sys", "none", "/sys", ("bind",)),
        Mount("/sys", "none", "/sys", ("rbind", "rrw")),
        Mount("/sys/fs/cgroup", "none", "/sys/fs/cgroup", ("rbind", "rw")),
    ):
        assert forced not in one(mount).changes


def test_message_queues_are_those_of_the_ipc_namespace() -> None:
    mount = Mount("/dev/mqueue", "mqueue", "mqueue", ())
    assert one(mount).kind == "mqueue"
    assert one(mount, without("ipc")).source == "/dev/mqueue"
    assert plan(mount, without("ipc", joined=("ipc",))) == []
    assert one(mount, NamespaceSet(("mount",), ()), ROOT).kind == "mqueue"


def test_a_label_is_given_to_new_file_systems_that_take_one() -> None:
    bundle = Bundle("/b", "u:r:t:c1,c2", "rootcontext")
    assert one(Mount("/t", "tmpfs", "t"), bundle=bundle).data == ("rootcontext=u:r:t:c1,c2",)
    assert one(Mount("/t", "tmpfs", "t", ("context=x",)), bundle=bundle).data == ("context=x",)
    assert one(Mount("/proc", "proc"), bundle=bundle).data == ()


# --- remounting


def test_a_remount_changes_what_is_there() -> None:
    step = one(Mount("/x", "bind", "", ("remount", "bind", "ro")))
    assert (kind(step), step.target, step.whole) == ("ChangeMount", "/x", False)
    assert step.changes == ((RDONLY, 0, 0, False),)
    step = one(Mount("/x", "tmpfs", "", ("remount", "ro", "size=5", "slave")))
    assert (step.whole, step.flags, step.data) == (True, mnt.MS_RDONLY, ("size=5",))
    assert step.changes[-1] == (0, 0, mnt.MS_SLAVE, False)
