"""The plan of a bundle: which process does what in which order, and what its document asks for and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.linux import clone
from jubako.plan.extras import Extras
from jubako.plan.host import Host, RootSource
from jubako.plan.making import HELPERS, Making
from jubako.plan.oci import plan_bundle
from jubako.plan.oci_exec import plan_exec
from jubako.plan.oci_processes import needs_foreign_proc
from jubako.plan.step import INIT, RUNTIME, Plan
from jubako.plan.steps.hooks import HookState
from jubako.record import replace
from jubako.spec.types import Hook, Hooks, Linux, Process, Rlimit, Root, Spec, TimeOffset, User
from unit.plan.plans import in_order, make_spec, names, only, steps

OF_ROOT = ("pid", "network", "mount", "ipc", "uts", "cgroup")
STATE = HookState("1.3.0", "c1", "/b")
ROOT = Host("/run/c1/stage", privileged=True)
USER = Host("/run/c1/stage")


def make(spec: Spec, host: Host = USER, **making: Any) -> Plan:
    extras = making.pop("extras", Extras(RootSource("directory", "/b/rootfs")))
    if not any(one.type == "uts" for one in spec.linux.namespaces):
        spec = replace(spec, hostname="")
    plan = plan_bundle(spec, host, Making(extras, STATE, **making))
    plan.check_slots()
    return plan


def test_without_anything_to_join_the_runtime_clones_the_first_process_itself() -> None:
    plan = make(make_spec(OF_ROOT), ROOT)
    assert not steps(plan, "CloneSupervisor")
    flags = only(plan, "CloneInit").flags
    assert not flags & clone.CLONE_PARENT
    assert flags & clone.CLONE_NEWPID
    assert flags & clone.CLONE_NEWNS
    assert not flags & clone.CLONE_NEWUSER


def test_a_stage_joins_and_clones_its_sibling() -> None:
    plan = make(make_spec(("pid", "mount", "user"), joined=("network", "ipc")))
    assert names(plan)[0] == "CloneSupervisor"
    assert [step.kind for step in steps(plan, "JoinNamespace")] == ["network", "ipc"]
    assert only(plan, "CloneInit").flags & clone.CLONE_PARENT
    assert in_order(plan, "CloneSupervisor", "JoinNamespace", "CloneInit", "WriteIdMaps", "Record")


@pytest.mark.parametrize(("powerless", "first"), [(False, "network"), (True, "user")])
def test_a_joined_user_namespace_comes_last_for_who_has_rights_outside_of_it(powerless: bool, first: str) -> None:
    plan = make(make_spec(("pid", "mount"), joined=("user", "network")), powerless=powerless)
    assert steps(plan, "JoinNamespace")[0].kind == first
    assert "TakeRootIds" in names(plan)


def test_offsets_of_clocks_do_not_hold_for_the_runtimes_hooks() -> None:
    spec = make_spec(("pid", "mount", "user", "time"), linux={"time_offsets": (TimeOffset("boottime", 5),)})
    assert names(make(spec))[:2] == ["CloneSupervisor", "NewTimeNamespace"]


def test_who_has_no_rights_makes_clocks_inside_of_the_user_namespace() -> None:
    spec = make_spec(("pid", "mount", "user", "time"), linux={"time_offsets": (TimeOffset("boottime", 5),)})
    plan = make(spec, powerless=True)
    assert in_order(plan, "CloneSupervisor", "WriteStageMaps", "NewTimeNamespace", "CloneInit", "Record")
    assert only(plan, "CloneSupervisor").flags == clone.CLONE_NEWUSER
    assert not only(plan, "CloneInit").flags & clone.CLONE_NEWUSER


def test_the_state_is_written_before_anything_can_go_wrong_and_again_before_the_wait() -> None:
    plan = make(make_spec())
    found = names(plan)
    first, second = (position for position, name in enumerate(found) if name == "Record")
    assert all(step.actor != INIT for step in plan.steps[:first])
    assert found[second + 1] == "AwaitCaller"
    assert {step.actor for step in plan.steps[second + 1 :]} == {INIT}


def test_the_program_is_looked_up_before_the_wait_and_run_after_it() -> None:
    assert in_order(make(make_spec()), "PivotRoot", "HideProcess", "LookUpProgram", "AwaitCaller", "FilterAndExec")


def test_what_waits_has_closed_all_but_its_streams_and_what_it_waits_with() -> None:
    step = only(make(make_spec()), "CloseDescriptors")
    assert (step.keep, step.also) == (3, ("listener", "waiting"))
    assert in_order(make(make_spec()), "CloseDescriptors", "EnterDirectory", "AwaitCaller")


def test_hooks_run_where_and_when_the_specification_says() -> None:
    hook = Hook("/h")
    hooks = Hooks(*[(hook,)] * 6)
    plan = make(make_spec(hooks=hooks))
    found = [(s.point, s.actor) for s in plan.steps if type(s).__name__.startswith("RunHooks")]
    assert found == [
        ("prestart", RUNTIME), ("createRuntime", RUNTIME), ("createContainer", INIT), ("startContainer", INIT),
    ]  # fmt: skip
    order = [getattr(s, "point", type(s).__name__) for s in plan.steps]
    for before, after in (
        ("MountNew", "prestart"), ("createRuntime", "createContainer"), ("createContainer", "PivotRoot"),
        ("AwaitCaller", "startContainer"), ("startContainer", "FilterAndExec"),
    ):  # fmt: skip
        assert order.index(before) < order.index(after)


def test_limits_are_set_after_the_start_so_that_they_do_not_hold_for_ourselves() -> None:
    plan = make(make_spec(process={"rlimits": (Rlimit("RLIMIT_AS", 1, 1),)}))
    assert in_order(plan, "AwaitCaller", "SetRlimit", "SetUser", "FilterAndExec")


def test_the_user_is_the_documents_numbers() -> None:
    plan = make(make_spec(process={"user": User(0, 0, additional_gids=(5,))}))
    step = only(plan, "ResolveUser")
    assert (step.user, step.groups) == ("0:0", ("5",))


def test_helpers_write_maps_of_several_ids_for_who_may_not() -> None:
    found = names(make(make_spec(), writer=HELPERS))
    assert found.index("JoinIdMaps") == found.index("BeginIdMaps") + 1
    assert "WriteIdMaps" not in found


def test_a_user_namespace_without_a_root_leaves_the_ids_alone() -> None:
    from jubako.spec.types import IdMapping

    assert "TakeRootIds" not in names(make(make_spec(maps=(IdMapping(1000, 1000, 1),))))


def test_a_terminal_goes_to_the_socket_or_stays_with_the_runtime() -> None:
    spec = make_spec(process={"terminal": True})
    assert in_order(make(spec, console=True), "OpenTerminal", "SendTerminal", "UseTerminal")
    plan = make(spec)
    assert only(plan, "KeepTerminal").actor == RUNTIME


def test_a_group_is_entered_before_the_cgroup_namespace_is_made() -> None:
    plan = make(make_spec(), extras=Extras(RootSource("directory", "/b/rootfs"), cgroup="/sys/fs/cgroup/c1"))
    assert not only(plan, "CloneInit").flags & clone.CLONE_NEWCGROUP
    assert only(plan, "CloneInit").group == "/sys/fs/cgroup/c1"
    assert in_order(plan, "CloneInit", "Record", "UnshareCgroup")
    assert "OpenGroup" not in names(plan)
    extras = Extras(RootSource("directory", "/b"), cgroup="/sys/fs/cgroup/c1")
    joined = make(make_spec(("mount",), joined=("network",)), extras=extras)
    assert in_order(joined, "CloneSupervisor", "OpenGroup", "JoinNamespace", "CloneInit")  # its path leads elsewhere


def test_proc_of_a_joined_pid_namespace_is_mounted_from_outside_in_a_user_namespace_of_ones_own() -> None:
    nested = make_spec(("mount", "user"), joined=("pid",))
    assert needs_foreign_proc(nested)
    plan = make(nested, Host("/s", foreign_proc="/p"))
    assert in_order(plan, "JoinNamespace", "MountForeignProc", "CloneInit")
    assert not needs_foreign_proc(make_spec(("mount",), joined=("pid",)))


@pytest.mark.parametrize(("pivot", "name"), [(True, "PivotRoot"), (False, "MoveRoot")])
def test_no_pivot_moves_the_root(pivot: bool, name: str) -> None:
    plan = make(make_spec(), extras=Extras(RootSource("directory", "/b/rootfs", pivot=pivot)))
    assert name in names(plan)


def test_a_read_only_root_is_made_so_before_the_wait() -> None:
    plan = make(make_spec(root=Root("/b/rootfs", readonly=True)))
    assert in_order(plan, "EnterDirectory", "MakeRootReadOnly", "AwaitCaller")
    assert steps(plan, "EnterDirectory")[0].create
    assert not steps(plan, "EnterDirectory")[1].create


def test_the_keyring_stays_the_callers_when_that_is_asked_for() -> None:
    assert "NewSessionKeyring" in names(make(make_spec()))
    assert "NewSessionKeyring" not in names(make(make_spec(), new_keyring=False))


def test_kept_groups_are_not_changed() -> None:
    plan = make(make_spec(), keep_groups=True)
    assert not only(plan, "SetUser").change_groups
    assert only(plan, "TakeRootIds").keep_groups


def test_exec_hides_before_it_joins_and_clones_a_sibling() -> None:
    making = Making(Extras(RootSource("joined")), STATE)
    plan = plan_exec(Process(cwd="/", args=("sh",)), Linux(), ("network", "user", "mount"), USER, making)
    plan.check_slots()
    assert in_order(plan, "CloneJoiner", "HideJoiner", "JoinNamespace", "CloneJoined", "TellProgram", "TakeRootIds")
    assert only(plan, "CloneJoined").flags & clone.CLONE_PARENT
    assert [step.kind for step in steps(plan, "JoinNamespace")] == ["network", "user", "mount"]
    assert in_order(plan, "TakeRootIds", "HideProcess", "CloseDescriptors", "EnterDirectory", "FilterAndExec")
