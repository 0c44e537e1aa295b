"""Which process makes, joins or leaves out which namespace, in which order, and who is mapped to whom."""

from __future__ import annotations

import pytest

from jubako.errors import UsageError
from jubako.linux import clone
from jubako.plan.namespaces import namespaces_of
from jubako.record import replace
from jubako.spec.types import IdMapping, TimeOffset
from unit.plan.plans import ALL, FOREIGN, ROOT, STAGE, USER, in_order, make_plan, make_spec, names, only, steps


def without(*kinds: str) -> tuple[str, ...]:
    return tuple(kind for kind in ALL if kind not in kinds)


def test_an_ordinary_user_enters_the_base_before_anything_is_made() -> None:
    plan = make_plan()
    assert names(plan)[:4] == ["JoinBase", "CloneSupervisor", "CloneInit", "WriteIdMaps"]
    assert plan.actors() == ("runtime", "supervisor", "init")
    assert "base" in plan.given


def test_the_hosts_root_stays_outside_of_the_base() -> None:
    plan = make_plan(host=ROOT)
    assert names(plan)[:3] == ["CloneSupervisor", "CloneInit", "WriteIdMaps"]
    assert "JoinBase" not in names(plan)


def test_a_plan_without_a_supervisor_begins_where_that_one_would() -> None:
    plan = make_plan(supervised=False)
    assert names(plan)[0] == "CloneInit"
    assert plan.actors() == ("supervisor", "init")


def test_all_new_namespaces_are_made_by_one_clone_so_that_the_user_namespace_owns_them() -> None:
    flags = only(make_plan(), "CloneInit").flags
    assert flags == (
        clone.CLONE_NEWUSER | clone.CLONE_NEWPID | clone.CLONE_NEWNS | clone.CLONE_NEWNET | clone.CLONE_NEWIPC
        | clone.CLONE_NEWUTS | clone.CLONE_NEWCGROUP
    )  # fmt: skip


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind != "mount"])
def test_a_namespace_that_was_left_out_is_not_made(kind: str) -> None:
    assert not only(make_plan(make_spec(without(kind))), "CloneInit").flags & clone.FLAGS[kind]


def test_the_supervisor_is_pid_1_of_an_outer_pid_namespace() -> None:
    assert only(make_plan(), "CloneSupervisor").flags == clone.CLONE_NEWPID


def test_a_joined_pid_namespace_wants_no_outer_one_since_only_an_ancestor_may_join() -> None:
    plan = make_plan(make_spec(without("pid"), ("pid",)))
    assert only(plan, "CloneSupervisor").flags == 0
    assert only(plan, "MountForeignProc").stage == FOREIGN
    assert in_order(plan, "CloneSupervisor", "UnshareMounts", "JoinNamespace", "MountForeignProc", "CloneInit")


def test_what_is_joined_is_joined_before_the_clone_and_the_user_namespace_last() -> None:
    plan = make_plan(make_spec(("mount", "uts"), ("user", "network", "ipc", "pid", "time")))
    joins = [step.kind for step in steps(plan, "JoinNamespace")]
    assert joins == ["network", "ipc", "pid", "time", "user"]
    assert [step.slot for step in steps(plan, "JoinNamespace")] == [f"ns:{kind}" for kind in joins]
    assert in_order(plan, "CloneSupervisor", "JoinNamespace", "CloneInit")
    assert names(plan).index("CloneInit") > max(i for i, name in enumerate(names(plan)) if name == "JoinNamespace")
    assert {f"ns:{kind}" for kind in joins} <= set(plan.given)
    assert only(plan, "CloneInit").flags == clone.CLONE_NEWNS | clone.CLONE_NEWUTS


def test_time_offsets_are_written_before_the_first_process_is_born() -> None:
    offsets = (TimeOffset("monotonic", 86400), TimeOffset("boottime", -7, 5))
    plan = make_plan(make_spec((*ALL, "time"), linux={"time_offsets": offsets}))
    step = only(plan, "NewTimeNamespace")
    assert step.offsets == (("monotonic", 86400, 0), ("boottime", -7, 5))
    assert '"monotonic 86400 0\\nboottime -7 5\\n"' in step.call()
    assert in_order(plan, "NewTimeNamespace", "CloneInit", "WriteIdMaps")
    assert not only(plan, "CloneInit").flags & clone.CLONE_NEWTIME


def test_a_time_namespace_without_offsets_is_made_with_the_others() -> None:
    step = only(make_plan(make_spec((*ALL, "time"))), "CloneInit")
    assert step.flags & clone.CLONE_NEWTIME
    assert step.call().startswith("clone3(")
    assert step.call().count("CLONE_NEWTIME") == 1


def test_the_id_maps_are_the_documents_lines() -> None:
    maps = (IdMapping(0, 1, 10), IdMapping(10, 100, 5))
    step = only(make_plan(make_spec(maps=maps)), "WriteIdMaps")
    assert step.uid_map == step.gid_map == "0 1 10\n10 100 5\n"
    assert not step.deny_setgroups
    assert step.subject() == "0 1 10, 10 100 5"


def test_in_a_single_id_base_setgroups_is_denied_and_groups_are_left_alone() -> None:
    plan = make_plan(make_spec(maps=(IdMapping(0, 0, 1),)), replace(USER, setgroups_denied=True))
    assert only(plan, "WriteIdMaps").deny_setgroups
    assert '"/proc/PID/setgroups", "deny"' in only(plan, "WriteIdMaps").call()
    assert only(plan, "TakeRootIds").keep_groups
    assert not only(plan, "SetUser").change_groups
    plan = make_plan()
    assert not only(plan, "TakeRootIds").keep_groups
    assert only(plan, "SetUser").change_groups


def test_without_a_user_namespace_of_its_own_no_maps_are_written_and_no_ids_are_taken() -> None:
    for host in (USER, ROOT):
        plan = make_plan(make_spec(without("user")), host)
        assert not {"WriteIdMaps", "TakeRootIds", "OpenPaths"} & set(names(plan))
        assert not only(plan, "CloneInit").flags & clone.CLONE_NEWUSER


def test_paths_are_opened_first_where_the_containers_root_is_not_the_caller() -> None:
    maps = (IdMapping(0, 1, 1000),)
    plan = make_plan(make_spec(maps=maps))
    assert only(plan, "OpenPaths").paths == ("/run/jubako", "/rootfs")
    assert in_order(plan, "CloneInit", "OpenPaths", "TakeRootIds", "PrepareMasks")
    assert STAGE.startswith(only(plan, "OpenPaths").paths[0])


def test_paths_are_opened_first_for_the_hosts_root_too_whose_containers_have_other_ids() -> None:
    plan = make_plan(make_spec(maps=(IdMapping(0, 500000, 1000),)), ROOT)
    assert in_order(plan, "CloneInit", "OpenPaths", "TakeRootIds", "PrepareMasks")


def test_no_paths_are_opened_first_where_the_caller_is_mapped() -> None:
    maps = (IdMapping(0, 1, 10), IdMapping(10, 0, 1))
    assert "OpenPaths" not in names(make_plan(make_spec(maps=maps), USER))


def test_the_names_of_the_host_are_set_in_a_namespace_of_its_own_only() -> None:
    plan = make_plan(make_spec(hostname="box", domainname="example.org"))
    assert only(plan, "SetHostName").name == "box"
    assert only(plan, "SetDomainName").name == "example.org"
    assert in_order(plan, "TakeRootIds", "SetHostName", "SetDomainName", "PrepareMasks")
    plan = make_plan(make_spec(without("uts"), hostname="box", domainname="example.org"))
    assert not {"SetHostName", "SetDomainName"} & set(names(plan))
    assert "SetDomainName" not in names(make_plan())


def test_loopback_comes_up_in_a_network_namespace_of_its_own_only() -> None:
    assert in_order(make_plan(), "TakeRootIds", "BringUpLoopback")
    assert "BringUpLoopback" not in names(make_plan(make_spec(without("network"))))
    assert "BringUpLoopback" not in names(make_plan(make_spec(without("network"), ("network",))))


def test_the_cgroup_is_joined_before_its_namespace_is_made() -> None:
    plan = make_plan(cgroup="/sys/fs/cgroup/x")
    assert not only(plan, "CloneInit").flags & clone.CLONE_NEWCGROUP
    assert only(plan, "CloneInit").group == "/sys/fs/cgroup/x"
    assert in_order(plan, "CloneInit", "WriteIdMaps", "UnshareCgroup", "PrepareMasks")
    plan = make_plan(make_spec(without("cgroup")), cgroup="/sys/fs/cgroup/x")
    assert "UnshareCgroup" not in names(plan)


@pytest.mark.parametrize(
    ("new", "joined", "said"),
    [
        (("mount", "net"), (), "unknown"),
        (("mount", "pid", "pid"), (), "named twice"),
        (("mount", "pid"), ("pid",), "named twice"),
        (("pid",), (), "mount namespace of its own"),
        (("pid",), ("mount",), "mount namespace of its own"),
    ],
)
def test_namespaces_that_cannot_be_are_refused(new: tuple[str, ...], joined: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        namespaces_of(make_spec(new, joined))


def test_a_set_of_namespaces_knows_what_is_its_own() -> None:
    spaces = namespaces_of(make_spec(("mount", "pid"), ("user",)))
    assert spaces.is_own("pid")
    assert not spaces.is_own("user")
    assert not spaces.is_own("network")
    assert not spaces.nested
    assert namespaces_of(make_spec()).nested
