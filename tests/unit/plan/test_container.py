"""The whole plan: roots of every kind, what is covered when, and who the program is when it starts."""

from __future__ import annotations

import pytest

from jubako.linux import mount as mnt
from jubako.plan.host import STANDARD_DEVICES, RootSource
from jubako.plan.step import INIT, SUPERVISOR
from jubako.record import replace
from jubako.spec.defaults import MASKED_PATHS, READONLY_PATHS
from jubako.spec.types import Capabilities, ConsoleSize, Device, Mount, Rlimit, Root, User
from unit.plan.plans import ALL, FOREIGN, ROOT, STAGE, TREE, USER, in_order, make_plan, make_spec, names, only, steps

SETS = Capabilities(("CAP_CHOWN",), ("CAP_CHOWN",), (), ("CAP_CHOWN",), ())
FILTER = bytes(16)


# --- the root


def test_the_mounts_are_detached_from_the_host_before_the_first_one_is_made() -> None:
    made = make_plan()
    assert in_order(made, "CloneInit", "TakeRootIds", "DetachMounts", "PrepareMasks", "BindRoot", "OpenRoot")
    order = names(made)
    first = min(i for i, name in enumerate(order) if name in ("MountFileSystem", "BindMount", "BindDevice"))
    assert order.index("OpenRoot") < first
    assert only(made, "PrepareMasks").stage == only(made, "OpenRoot").stage == STAGE


@pytest.mark.parametrize("kind", ["directory", "prepared", "assembled", "copy"])
def test_a_tree_that_is_ours_already_is_bound(kind: str) -> None:
    step = only(make_plan(root=RootSource(kind, "/rootfs")), "BindRoot")
    assert (step.source, step.stage) == ("/rootfs", STAGE)


def test_an_overlay_is_mounted_topmost_layer_first() -> None:
    root = RootSource("overlay", "", ("/top", "/below"), "/u", "/w", volatile=True)
    made = make_plan(root=root)
    step = only(made, "MountOverlay")
    assert (step.lower, step.upper, step.work, step.stage, step.target) == (("/top", "/below"), "/u", "/w", STAGE, "")
    assert "lowerdir=/top:/below,upperdir=/u,workdir=/w,userxattr,volatile" in step.call()
    assert "BindRoot" not in names(made)


def test_a_foreign_lower_directory_is_id_mapped_by_the_hosts_root_only() -> None:
    root = RootSource("overlay", "", ("/theirs",), "/u", "/w", foreign_lower=True)
    made = make_plan(host=ROOT, root=root)
    assert only(made, "CloneIdMapped").required
    attached = only(made, "AttachRoot")
    assert (attached.slot, attached.stage) == ("lower", FOREIGN)
    assert only(made, "MountOverlay").lower == (FOREIGN,)
    assert in_order(made, "CloneIdMapped", "AttachRoot", "MountOverlay")
    assert only(make_plan(root=root), "MountOverlay").lower == ("/theirs",)


def test_a_tree_for_the_hosts_root_is_an_id_mapped_copy() -> None:
    made = make_plan(host=ROOT, root=RootSource("tree", "/rootfs"))
    clone = only(made, "CloneIdMapped")
    assert (clone.source, clone.slot, clone.required, clone.actor) == ("/rootfs", "rootfs", True, SUPERVISOR)
    assert only(made, "AttachRoot").needs == ("rootfs",)
    assert in_order(made, "WriteIdMaps", "CloneIdMapped", "DetachMounts", "AttachRoot", "OpenRoot")


def test_the_hosts_own_system_is_bound_into_an_empty_root_and_homes_below_it_are_covered() -> None:
    made = make_plan(root=RootSource("host"))
    step = only(made, "PopulateHostRoot")
    assert (step.binds, step.links, step.fresh, step.existing) == (TREE.binds, TREE.links, TREE.fresh, False)
    assert in_order(made, "MountHostRoot", "OpenRoot", "PopulateHostRoot", "MountFileSystem", "MaskPath")
    assert "/opt/home" in [step.path for step in steps(made, "MaskPath")]
    assert "/opt/home" not in [step.path for step in steps(make_plan(), "MaskPath")]


def test_the_hosts_system_below_a_layer_is_put_together_by_the_supervisor() -> None:
    root = RootSource("assembled", "/c/merged", TREE.binds, "/u", "/w")
    made = make_plan(root=root, fuse="/usr/bin/fuse-overlayfs")
    step = only(made, "StartFuseOverlay")
    assert (step.lower, step.assemble, step.squash, step.links) == (TREE.binds, FOREIGN, True, (("/bin", "usr/bin"),))
    assert "squash_to_root" in step.call()
    assert in_order(made, "CloneSupervisor", "UnshareMounts", "StartFuseOverlay", "CloneInit", "BindRoot")
    populate = only(made, "PopulateHostRoot")
    assert (populate.binds, populate.existing) == ((), True)


def test_fuse_overlays_of_an_image_are_mounted_by_the_supervisor_too() -> None:
    made = make_plan(root=RootSource("prepared", "/c/merged", ("/l",), "/u", "/w"), fuse="/fuse-overlayfs")
    step = only(made, "StartFuseOverlay")
    assert (step.program, step.merged, step.assemble, step.squash) == ("/fuse-overlayfs", "/c/merged", "", False)
    assert in_order(made, "UnshareMounts", "StartFuseOverlay", "CloneInit", "BindRoot")


def test_on_an_initramfs_the_root_is_moved() -> None:
    made = make_plan(root=RootSource("directory", "/r", pivot=False))
    assert "MoveRoot" in names(made)
    assert "PivotRoot" not in names(made)


def test_masks_and_read_only_paths_come_after_all_mounts_and_before_the_pivot() -> None:
    made = make_plan(make_spec(mounts=(*make_spec().mounts, Mount("/proc/sys/x", "bind", "/src"))))
    order = names(made)
    last_mount = max(i for i, name in enumerate(order) if name in ("MountFileSystem", "BindMount", "BindDevice"))
    covers = [i for i, name in enumerate(order) if name in ("MaskPath", "MakeReadOnly")]
    assert last_mount < min(covers)
    assert max(covers) < order.index("PivotRoot")
    assert tuple(step.path for step in steps(made, "MaskPath")) == MASKED_PATHS
    assert tuple(step.path for step in steps(made, "MakeReadOnly")) == READONLY_PATHS


def test_mask_sources_are_verified_before_the_root_is_seen() -> None:
    assert in_order(make_plan(), "PrepareMasks", "BindRoot", "OpenRoot", "MaskPath", "PivotRoot")


def test_the_root_is_made_read_only_last_once_the_working_directory_is_there() -> None:
    made = make_plan(make_spec(root=Root("/r", readonly=True)))
    assert in_order(made, "PivotRoot", "EnterDirectory", "MakeRootReadOnly", "FilterAndExec")
    assert "MakeRootReadOnly" not in names(make_plan())


def test_the_roots_propagation_is_set_after_the_pivot() -> None:
    made = make_plan(make_spec(linux={"rootfs_propagation": "rshared"}))
    assert in_order(made, "PivotRoot", "SetRootPropagation")
    assert only(made, "SetRootPropagation").call() == 'mount(NULL, "/", NULL, MS_REC|MS_SHARED, NULL)'
    assert "SetRootPropagation" not in names(make_plan())


def test_devices_are_the_hosts_that_exist_and_those_asked_for_and_are_known_by_number() -> None:
    spec = make_spec(linux={"devices": (Device("/dev/fuse", "c", 10, 229),)})
    bound = [(step.target, step.major, step.minor) for step in steps(make_plan(spec), "BindDevice")]
    assert bound == [*STANDARD_DEVICES, ("/dev/fuse", 10, 229)]
    few = replace(USER, devices=STANDARD_DEVICES[:1])
    assert len(steps(make_plan(spec, few), "BindDevice")) == 2
    assert "BindDevice" not in names(make_plan(make_spec(mounts=())))


def test_kernel_parameters_are_set_in_the_new_namespaces_through_the_hosts_proc() -> None:
    made = make_plan(make_spec(linux={"sysctl": (("net.ipv4.ip_forward", "1"),)}))
    assert in_order(made, "TakeRootIds", "WriteSysctl", "DetachMounts")
    assert only(made, "WriteSysctl").call() == 'write("/proc/sys/net/ipv4/ip_forward", "1")'


# --- the terminal and the streams


def test_a_terminal_is_born_in_the_containers_devpts_and_handed_out_before_the_pivot() -> None:
    made = make_plan(make_spec(process={"terminal": True, "console_size": ConsoleSize(24, 80)}), streams=())
    step = only(made, "OpenTerminal")
    assert (step.rows, step.columns, step.actor) == (24, 80, INIT)
    order = names(made)
    at = order.index("OpenTerminal")
    assert order[at : at + 3] == ["OpenTerminal", "TakeTerminal", "PivotRoot"]
    assert only(made, "TakeTerminal").actor == SUPERVISOR
    assert in_order(made, "PivotRoot", "UseTerminal", "CloseDescriptors")
    assert "ConnectStreams" not in order


def test_without_a_terminal_the_streams_made_for_it_are_connected() -> None:
    made = make_plan(streams=("stdin", "stdout", "stderr"))
    assert only(made, "ConnectStreams").slots == ("stdin", "stdout", "stderr")
    assert not {"OpenTerminal", "TakeTerminal", "UseTerminal"} & set(names(made))
    assert "ConnectStreams" not in names(make_plan())


# --- the program


def test_the_process_starts_in_a_session_of_its_own_with_its_limits_and_keys() -> None:
    limits = (Rlimit("RLIMIT_NOFILE", 2048, 1024), Rlimit("RLIMIT_CORE", 0, 0))
    made = make_plan(make_spec(process={"rlimits": limits, "oom_score_adj": 0}))
    assert [(step.name, step.soft, step.hard) for step in steps(made, "SetRlimit")] == [
        ("RLIMIT_NOFILE", 1024, 2048), ("RLIMIT_CORE", 0, 0),
    ]  # fmt: skip
    assert in_order(made, "SetOomScore", "BeginSession", "DetachMounts", "NewSessionKeyring", "SetRlimit", "SetUser")
    assert "SetOomScore" not in names(make_plan())


def test_users_and_groups_are_looked_up_inside_after_the_pivot() -> None:
    user = User(username="web:www", additional_gids=(7,))
    made = make_plan(make_spec(process={"user": user}), groups=("audio",))
    step = only(made, "ResolveUser")
    assert (step.user, step.groups) == ("web:www", ("audio", "7"))
    assert in_order(made, "PivotRoot", "ResolveUser", "EnterDirectory", "SetUser")
    assert only(make_plan(make_spec(process={"user": User(5, 6)})), "ResolveUser").user == "5:6"
    assert only(make_plan(make_spec(process={"user": User(0, 6)})), "ResolveUser").user == "0:6"
    assert only(make_plan(), "ResolveUser").user == "0"


def test_every_descriptor_is_closed_before_the_working_directory_is_entered() -> None:
    assert in_order(make_plan(), "PivotRoot", "CloseDescriptors", "EnterDirectory", "FilterAndExec")
    assert only(make_plan(), "CloseDescriptors").keep == 3
    assert only(make_plan(preserve_fds=2), "CloseDescriptors").keep == 5
    made = make_plan(make_spec(process={"cwd": "/src"}))
    assert (only(made, "EnterDirectory").path, only(made, "EnterDirectory").create) == ("/src", True)
    assert only(make_plan(make_spec(process={"cwd": ""})), "EnterDirectory").path == "/"


def test_the_process_hides_once_it_is_set_up_and_at_once_where_others_of_its_pid_namespace_are_awake() -> None:
    assert in_order(make_plan(), "PivotRoot", "EnterDirectory", "HideProcess", "SetUser", "FilterAndExec")
    assert names(make_plan()).count("HideProcess") == 1
    shared = make_plan(make_spec(tuple(kind for kind in ALL if kind != "pid"), ("pid",)))
    assert in_order(shared, "CloneInit", "HideProcess", "PrepareMasks", "OpenRoot")


def test_our_own_init_hides_before_it_stays_and_the_program_goes_on_from_there() -> None:
    made = make_plan(init=True)
    assert in_order(made, "HideProcess", "BecomeInit", "SetUser", "FilterAndExec")
    assert "BecomeInit" not in names(make_plan())


def test_the_bounding_set_goes_before_the_ids_and_the_other_sets_after() -> None:
    made = make_plan(make_spec(process={"capabilities": SETS}), filter=FILTER)
    assert in_order(made, "LimitCapabilities", "SetUser", "SetCapabilities", "SetNoNewPrivileges", "FilterAndExec")
    assert only(made, "LimitCapabilities").bounding == ("CAP_CHOWN",)
    assert only(made, "SetUser").keep_capabilities
    assert not only(made, "SetCapabilities").with_admin


def test_a_filter_without_no_new_privileges_wants_admin_until_the_exec() -> None:
    made = make_plan(make_spec(process={"capabilities": Capabilities(), "no_new_privileges": False}), filter=FILTER)
    step = only(made, "SetCapabilities")
    assert step.with_admin
    assert "effective=0x200000, permitted=0x200000, inheritable=0x0" in step.call()
    assert only(made, "SetUser").keep_capabilities
    assert "SetNoNewPrivileges" not in names(made)
    unfiltered = make_plan(make_spec(process={"capabilities": Capabilities(), "no_new_privileges": False}))
    assert not only(unfiltered, "SetCapabilities").with_admin
    assert not only(unfiltered, "SetUser").keep_capabilities


def test_without_a_word_about_capabilities_they_are_left_alone() -> None:
    made = make_plan()
    assert not {"LimitCapabilities", "SetCapabilities"} & set(names(made))
    assert not only(made, "SetUser").keep_capabilities


def test_the_umask_is_the_documents_or_022() -> None:
    assert only(make_plan(), "SetUser").umask == 0o022
    assert only(make_plan(make_spec(process={"user": User(umask=0)})), "SetUser").umask == 0


def test_the_filter_and_the_program_are_the_last_step_and_nothing_comes_between_them() -> None:
    made = make_plan(make_spec(process={"args": ("sh", "-c", "true"), "env": ("A=1",)}), filter=FILTER, filter_flags=4)
    step = made.steps[-1]
    assert type(step).__name__ == "FilterAndExec"
    assert (step.arguments, step.environment) == (("sh", "-c", "true"), ("A=1",))  # type: ignore[attr-defined]
    assert (step.filter, step.filter_flags, step.guard_interpreter) == (FILTER, 4, False)  # type: ignore[attr-defined]
    assert "seccomp(SECCOMP_SET_MODE_FILTER, 0x4, {2 instructions})" in step.call()
    assert "seccomp" not in make_plan().steps[-1].call()
    assert only(make_plan(host=replace(USER, interpreter_writable=True)), "FilterAndExec").guard_interpreter


def test_a_plan_is_a_value_computed_alike_each_time() -> None:
    assert make_plan().steps == make_plan().steps
    assert hash(make_plan().steps) == hash(make_plan().steps)
    assert make_plan(init=True).steps != make_plan().steps


def test_from_its_clone_on_the_first_process_does_all_but_maps_and_terminal() -> None:
    made = make_plan(make_spec(process={"terminal": True}), cgroup="/cg")
    after = made.steps[names(made).index("CloneInit") + 1 :]
    others = [type(step).__name__ for step in after if step.actor != INIT]
    assert others == ["WriteIdMaps", "TakeTerminal"]


def test_masked_directories_are_covered_by_what_cannot_be_written() -> None:
    flags = mnt.flag_names(mnt.MS_RDONLY | mnt.MS_NOSUID | mnt.MS_NODEV | mnt.MS_NOEXEC)
    assert f'"tmpfs", {flags}, "size=0,mode=555"' in only(make_plan(), "PrepareMasks").call()
