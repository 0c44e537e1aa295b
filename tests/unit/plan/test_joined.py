"""The plan of exec: who enters what, in which order, and that it cannot be watched while it does."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.plan.extras import Extras
from jubako.plan.host import RootSource
from jubako.plan.joined import PARENT, plan_joined
from jubako.plan.step import Plan
from jubako.record import replace
from jubako.spec.types import Process
from unit.plan.plans import USER, in_order, names, only, steps

KINDS = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup", "time")
PROGRAM = Process(args=("sh",), cwd="/", no_new_privileges=True)


def plan(kinds: tuple[str, ...] = KINDS, program: Process = PROGRAM, host: Any = USER, **extras: Any) -> Plan:
    detached = extras.pop("detached", False)
    made = plan_joined(program, kinds, host, Extras(RootSource("joined"), **extras), detached=detached)
    made.check_slots()
    return made


def entered(made: Plan) -> list[str]:
    return [step.slot.removeprefix("ns:") for step in steps(made, "JoinNamespace")]


def test_namespaces_are_entered_in_the_order_given() -> None:
    assert entered(plan()) == list(KINDS)
    assert entered(plan(KINDS[::-1])) == list(KINDS[::-1])


def test_a_container_of_another_base_is_entered_through_that_base() -> None:
    made = plan((PARENT, *KINDS))
    assert entered(made) == [PARENT, *KINDS]
    assert [step.kind for step in steps(made, "JoinNamespace")] == ["user", *KINDS]


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_container_shares_with_the_caller_is_not_entered(kind: str) -> None:
    made = plan(tuple(other for other in KINDS if other != kind))
    assert kind not in entered(made)
    assert f"ns:{kind}" not in made.given
    assert ("TakeRootIds" in names(made)) == (kind != "user")


def test_whoever_enters_is_hidden_before_and_counted_before() -> None:
    made = plan(cgroup="/cg")
    assert in_order(made, "CloneJoiner", "EnterCgroup", "HideJoiner", "JoinNamespace", "CloneJoined", "TakeRootIds")
    assert "EnterCgroup" not in names(plan())


def test_the_program_hides_before_it_touches_anything_of_the_container() -> None:
    made = plan()
    assert in_order(made, "CloneJoined", "TakeRootIds", "BeginSession", "HideProcess", "ResolveUser", "EnterDirectory")
    assert names(made).count("HideProcess") == 1


def test_nothing_is_made_in_a_container_that_is_joined() -> None:
    made = plan()
    assert not only(made, "EnterDirectory").create
    assert not {"PivotRoot", "OpenRoot", "MakeRootReadOnly", "BecomeInit"} & set(names(made))


def test_a_terminal_is_opened_inside_and_handed_out() -> None:
    made = plan(program=replace(PROGRAM, terminal=True))
    order = names(made)
    at = order.index("OpenJoinedTerminal")
    assert order[at : at + 3] == ["OpenJoinedTerminal", "TakeTerminal", "UseTerminal"]
    assert "OpenTerminal" not in order


def test_the_program_ends_with_the_caller_unless_detached_and_after_its_last_change_of_ids() -> None:
    assert in_order(plan(), "SetUser", "SetNoNewPrivileges", "DieWithParent", "FilterAndExec")
    assert "DieWithParent" not in names(plan(detached=True))


def test_groups_are_kept_where_the_kernel_keeps_them() -> None:
    made = plan(host=replace(USER, setgroups_denied=True))
    assert only(made, "TakeRootIds").keep_groups
    assert not only(made, "SetUser").change_groups


def test_streams_are_given_by_name() -> None:
    made = plan(streams=("stdin", "stdout", "stderr"))
    assert {"stdin", "stdout", "stderr"} <= set(made.given)
    assert only(made, "ConnectStreams").slots == ("stdin", "stdout", "stderr")
