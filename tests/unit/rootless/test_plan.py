"""The plan of a fake root: for every choice of flags complete, in order, and for the processes that there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import UsageError
from jubako.ids.base_ids import DIRECTLY, SINGLE, WITH_HELPERS, BaseIds
from jubako.ids.idmap import IdMap
from jubako.net.link import NetworkOptions
from jubako.plan.step import INIT, RUNTIME
from jubako.record import replace
from jubako.rootless.options import PROPAGATIONS, RootlessOptions, check_options
from jubako.rootless.plan import Place, plan_rootless

PLACE = Place("/state", False, 1000, 1000)


def ids(writer: str = WITH_HELPERS) -> BaseIds:
    uids = IdMap.of((0, 1000, 1), (1, 100000, 65536))
    return BaseIds(uids, uids, writer, 1000, 1000)


def options(driver: str = "host", **more: object) -> RootlessOptions:
    return replace(RootlessOptions(("true",), NetworkOptions(driver)), **more)


def names(asked: RootlessOptions, writer: str = WITH_HELPERS) -> list[str]:
    return [type(step).__name__ for step in plan_rootless(asked, ids(writer), PLACE).steps]


def test_the_smallest_plan() -> None:
    assert names(options()) == [
        "CloneKeeper", "BeginStageMaps", "PrepareState", "OpenUserNamespace", "CloneChild", "EnterChildUserNamespace",
        "UnshareNamespaces", "JoinStageMaps", "BeginKeeping", "TakeRootIds", "EndWithParent", "SetPropagation",
        "JoinKeeping", "WriteChildPid", "HoldSignals", "BecomeProgram",
    ]  # fmt: skip


@given(
    st.sampled_from(["host", "none", "pasta"]), st.sampled_from([WITH_HELPERS, DIRECTLY, SINGLE]),
    st.sampled_from(sorted(PROPAGATIONS)), st.sampled_from(["", "below"]),
    st.sampled_from([(), ("/etc",), ("/etc", "/run/")]), st.sampled_from(["tmpfs+symlink", "overlay"]),
    *[st.booleans()] * 6,
)  # fmt: skip
def test_every_plan_is_complete_and_can_be_explained(
    driver: str, writer: str, propagation: str, evacuate: str, copied: tuple[str, ...], mode: str,
    pid: bool, cgroup: bool, uts: bool, ipc: bool, reaper: bool, detached: bool,
) -> None:  # fmt: skip
    asked = options(
        driver, propagation=propagation, evacuate=evacuate, copy_up=copied, copy_up_mode=mode, pid=pid, cgroup=cgroup,
        uts=uts, ipc=ipc, reaper=reaper, detach_network=detached,
    )  # fmt: skip
    try:
        check_options(asked)
    except UsageError:
        return
    plan = plan_rootless(asked, ids(writer), PLACE)
    kinds = [type(step).__name__ for step in plan.steps]
    assert set(plan.actors()) == {RUNTIME, INIT, *(("stage",) if pid else ())}
    assert kinds[-1] == "BecomeProgram"
    assert kinds.index("JoinKeeping") < kinds.index("HoldSignals") < len(kinds) - 1
    assert kinds.count("CopyUp") + kinds.count("CopyUpOverlay") == len(copied)
    assert all(step.call() and step.purpose() and step.operation() for step in plan.steps)


def test_files_are_bound_only_where_names_are_asked_of_the_network() -> None:
    assert "BindFile" in names(options("pasta"))
    for asked in (options(), options("none"), options("pasta", detach_network=True)):
        assert "BindFile" not in names(asked)


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        (options("host", detach_network=True), "--detach-netns"),
        (options("host", port_driver="builtin"), "--port-driver"),
        (options("none", port_driver="builtin"), "--port-driver"),
        (options("pasta", port_driver="slirp4netns"), "--port-driver"),
        (options("slirp4netns", port_driver="implicit"), "--port-driver"),
        (options("pasta", port_driver="implicit", publish=("x",)), "--publish"),
        (options("pasta", publish=("x",)), "--publish"),
        (options(reaper=True), "--reaper"),
        (options(evacuate="x", pid=True), "--evacuate-cgroup2"),
        (options(evacuate="a/b", pid=True, cgroup=True), "--evacuate-cgroup2"),
        (options(evacuate="..", pid=True, cgroup=True), "--evacuate-cgroup2"),
        (options(copy_up=("/tmp",)), "--copy-up"),
        (options(copy_up=("//tmp/.",)), "--copy-up"),
        (options(copy_up=("etc",)), "--copy-up"),
        (options(copy_up=("/etc",), propagation="rshared"), "--copy-up"),
    ],
)
def test_what_cannot_be_together_is_refused(asked: RootlessOptions, word: str) -> None:
    with pytest.raises(UsageError) as refusal:
        check_options(asked)
    assert refusal.value.subject.startswith(word)
