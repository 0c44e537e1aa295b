"""--cap-add and --cap-drop as podman reads them, and the five sets that a program starts with."""

from __future__ import annotations

import pytest

from jubako.errors import UsageError
from jubako.linux.caps import NAMES
from jubako.plan.capabilities import DEFAULT, bounding_set, capability_name, process_sets
from jubako.spec.types import Capabilities


def test_the_default_is_podmans_eleven() -> None:
    assert set(bounding_set()) == set(DEFAULT)
    assert len(DEFAULT) == 11
    assert not {"CAP_NET_RAW", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SYS_ADMIN"} & set(DEFAULT)


@pytest.mark.parametrize("spelling", ["NET_RAW", "net_raw", "CAP_NET_RAW", "cap_net_raw", " Net_Raw "])
def test_a_capability_may_be_spelled_in_several_ways(spelling: str) -> None:
    assert capability_name(spelling) == "CAP_NET_RAW"
    assert "CAP_NET_RAW" in bounding_set([spelling])
    assert "CAP_CHOWN" not in bounding_set([], [spelling, "chown"])


def test_sets_are_ordered_by_number_whatever_the_order_of_the_options() -> None:
    assert bounding_set(["SYS_TIME", "NET_RAW"], ["ALL"]) == ("CAP_NET_RAW", "CAP_SYS_TIME")
    assert bounding_set(["NET_RAW,SYS_TIME"], ["all"]) == ("CAP_NET_RAW", "CAP_SYS_TIME")


def test_all_adds_what_the_kernel_has_and_no_more() -> None:
    assert bounding_set(["ALL"]) == NAMES
    assert bounding_set(["all"], last_cap=37) == NAMES[:38]
    assert bounding_set(["CAP_ALL"], ["SYS_ADMIN"]) == tuple(name for name in NAMES if name != "CAP_SYS_ADMIN")


def test_dropping_all_leaves_nothing_but_what_is_added_by_name() -> None:
    assert bounding_set([], ["ALL"]) == ()
    assert bounding_set(["CHOWN"], ["ALL", "KILL"]) == ("CAP_CHOWN",)


@pytest.mark.parametrize(("add", "drop"), [(["KILL"], ["kill"]), (["ALL"], ["ALL"])])
def test_adding_and_dropping_the_same_is_refused(add: list[str], drop: list[str]) -> None:
    with pytest.raises(UsageError, match="stands in --cap-drop too"):
        bounding_set(add, drop)


def test_an_unknown_capability_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="NET_ADMN: there is no such capability") as caught:
        bounding_set(["NET_ADMN"])
    assert caught.value.hint == "did you mean NET_ADMIN?"
    with pytest.raises(UsageError, match="use --cap-drop"):
        bounding_set([], ["xyzzy"])
    with pytest.raises(UsageError):
        bounding_set([""])


def test_a_capability_newer_than_the_kernel_is_refused() -> None:
    with pytest.raises(UsageError, match="this kernel does not have it"):
        bounding_set(["CHECKPOINT_RESTORE"], last_cap=39)


def test_root_gets_the_bounding_set_and_nothing_inheritable() -> None:
    bounding = bounding_set(["NET_RAW"])
    assert process_sets(bounding, ["NET_RAW"], root=True) == Capabilities(bounding, bounding, (), bounding, ())


def test_another_user_gets_nothing_unless_it_was_added_by_name() -> None:
    bounding = bounding_set()
    assert process_sets(bounding, root=False) == Capabilities(bounding=bounding)
    bounding = bounding_set(["net_raw"])
    raw = ("CAP_NET_RAW",)
    assert process_sets(bounding, ["net_raw"], root=False) == Capabilities(bounding, raw, raw, raw, raw)


def test_another_user_for_whom_all_was_added_gets_all_but_what_was_dropped() -> None:
    bounding = bounding_set(["ALL"], ["SYS_ADMIN"])
    assert process_sets(bounding, ["ALL"], root=False).ambient == bounding
