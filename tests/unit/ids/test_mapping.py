"""`--userns`, `--uidmap` and `--gidmap`; the expected maps are podman's own output for the same flags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import JubakoError, UsageError
from jubako.ids.base_ids import DIRECTLY, SINGLE, WITH_HELPERS, BaseIds
from jubako.ids.idmap import IdMap, IdRange
from jubako.ids.mapping import ContainerIds, container_ids
from jubako.ids.modes import Userns, parse_userns

MAP = IdMap.of((0, 1001, 1), (1, 100000, 65536))
BASE = BaseIds(MAP, MAP, WITH_HELPERS, 1001, 1001)
ONE = BaseIds(IdMap.of((0, 1001, 1)), IdMap.of((0, 1001, 1)), SINGLE, 1001, 1001, setgroups_deny=True)
PRIVATE = IdMap.of((0, 0x78000000, 0x4000000))
ROOT = BaseIds(PRIVATE, PRIVATE, DIRECTLY, 0, 0)


def ids(mode: str = "", uid: tuple[str, ...] = (), gid: tuple[str, ...] = (), base: BaseIds = BASE) -> ContainerIds:
    return container_ids(parse_userns(mode), base, uid, gid)


@pytest.mark.parametrize("mode", ["", "private", "default"])
def test_by_default_the_container_has_the_whole_base(mode: str) -> None:
    result = ids(mode)
    assert result.uids.text() == result.gids.text() == "0 0 1\n1 1 65536\n"
    assert result.nested
    assert result.user == (0, 0)


def test_host_means_no_namespace_of_its_own() -> None:
    assert not ids("host").nested


def test_keep_id_maps_the_caller_to_the_same_number() -> None:
    result = ids("keep-id")
    assert result.uids.text() == "0 1 1001\n1001 0 1\n1002 1002 64535\n"
    assert result.user == (1001, 1001)


def test_keep_id_can_be_told_which_ids_to_keep() -> None:
    result = ids("keep-id:uid=11,gid=12")
    assert result.uids.text() == "0 1 11\n11 0 1\n12 12 65525\n"
    assert result.gids.text() == "0 1 12\n12 0 1\n13 13 65524\n"
    assert result.user == (11, 12)


def test_keep_id_of_root_and_of_an_id_beyond_the_ranges() -> None:
    assert ids("keep-id:uid=0,gid=0").uids.text() == "0 0 1\n1 1 65536\n"
    assert ids("keep-id:uid=70000").uids.text() == "0 1 65536\n70000 0 1\n"


def test_keep_id_with_a_size_takes_no_more_ids_than_that() -> None:
    assert ids("keep-id:uid=5,size=10").uids.size == 10


def test_keep_id_needs_no_subordinate_ids() -> None:
    assert ids("keep-id", base=ONE).uids.text() == "1001 0 1\n"


def test_keep_id_as_root_leaves_the_private_range_as_it_is() -> None:
    assert ids("keep-id:uid=5", base=ROOT) == ContainerIds(PRIVATE.identity(), PRIVATE.identity(), user=(5, 0))


def test_nomap_leaves_the_caller_out() -> None:
    result = ids("nomap")
    assert result.uids.text() == "0 1 65536\n"
    assert result.uids.compose(MAP).to_inside(1001) is None


def test_nomap_without_subordinate_ids_or_as_root_is_refused() -> None:
    with pytest.raises(UsageError, match="no subordinate uid"):
        ids("nomap", base=ONE)
    with pytest.raises(UsageError, match="not mapped for containers"):
        ids("nomap", base=ROOT)


def test_auto_gives_1024_ids_without_the_callers_own() -> None:
    result = ids("auto")
    assert result.uids.text() == result.gids.text() == "0 1 1024\n"


def test_auto_reads_a_mapping_as_podman_does_without_root() -> None:
    result = ids("auto:uidmapping=0:1001:1")
    assert result.uids.text() == "0 1001 1\n1 1 1000\n1001 1002 23\n"
    assert result.gids.text() == "0 1 1024\n"
    assert ids("auto:uidmapping=0:1001:1,size=4096").uids.text() == "0 1001 1\n1 1 1000\n1001 1002 3095\n"


def test_auto_can_map_the_caller_by_the_hosts_number() -> None:
    result = ids("auto:uidmapping=0:@1001:1,gidmapping=0:@1001:1,size=2000")
    assert result.uids.text() == result.gids.text() == "0 0 1\n1 1 1999\n"
    assert result.uids.compose(MAP).to_outside(0) == 1001


def test_two_auto_containers_share_no_id() -> None:
    first = ids("auto")
    second = container_ids(parse_userns("auto:size=2000"), BASE, in_use=(first,))
    assert second.uids.text() == "0 1025 2000\n"
    third = container_ids(parse_userns("auto"), BASE, in_use=(first, second), auto_size=5000)
    assert third.uids.text() == "0 3025 5000\n"


def test_auto_where_there_is_nothing_to_give_is_refused() -> None:
    with pytest.raises(JubakoError, match="0 are free"):
        ids("auto", base=ONE)


def test_auto_refuses_overlapping_mappings_and_flags() -> None:
    with pytest.raises(UsageError, match="overlap"):
        ids("auto:uidmapping=0:5:10,uidmapping=9:50:1")
    with pytest.raises(UsageError, match=r"container uid '\+0' is not a number"):
        ids("auto:uidmapping=+0:5")


def test_uidmap_names_positions_in_the_users_ranges() -> None:
    result = ids(uid=("0:0:1", "1:5:10"))
    assert result.uids.text() == result.gids.text() == "0 0 1\n1 5 10\n"


def test_each_kind_can_have_its_own_map() -> None:
    result = ids(uid=("0:1:10",), gid=("0:0:2",))
    assert result.uids.text() == "0 1 10\n"
    assert result.gids.text() == "0 0 1\n1 1 1\n", "cut where the base's own id ends"


def test_gidmap_alone_counts_for_user_ids_too() -> None:
    assert ids(gid=("0:0:3",)).uids.text() == "0 0 1\n1 1 2\n"


def test_an_amount_that_is_left_out_is_one() -> None:
    assert ids(uid=("0:7",)).uids.text() == "0 7 1\n"


def test_one_flag_may_carry_several_triples() -> None:
    assert ids(uid=("0:0:1:1:5:10",)).uids.text() == "0 0 1\n1 5 10\n"


def test_an_at_sign_means_the_hosts_id() -> None:
    assert ids(uid=("0:@1001", "1:@100004:10")).uids.text() == "0 0 1\n1 5 10\n"


def test_a_host_range_across_two_ranges_of_the_user_is_looked_up_piece_by_piece() -> None:
    crossed = IdMap.of((0, 1001, 1), (1, 105, 5), (6, 100, 5))
    base = BaseIds(crossed, crossed, WITH_HELPERS, 1001, 1001)
    assert ids(uid=("0:@100:10",), base=base).uids.text() == "0 6 5\n5 1 5\n"


def test_a_plus_extends_the_default_and_gives_way_to_nothing() -> None:
    assert ids(uid=("+5:@1001:1",)).uids.text() == "0 1 5\n5 0 1\n6 6 65531\n"


def test_a_plus_breaks_the_ranges_before_it() -> None:
    assert ids(uid=("0:0:65000", "+100000:1:1")).uids.text() == "0 0 1\n2 2 64998\n100000 1 1\n"
    assert ids(uid=("0:10:10", "+5:50:1")).uids.text() == "0 10 5\n5 50 1\n6 16 4\n"


def test_the_flags_u_and_g_restrict_a_triple_to_one_kind() -> None:
    result = ids(uid=("+u5:0",))
    assert result.uids.text() == "0 1 5\n5 0 1\n6 6 65531\n"
    assert result.gids.text() == "0 0 1\n1 1 65536\n"
    both = ids(uid=("u0:0", "g0:5", "ug1:6"))
    assert both.uids.text() == "0 0 1\n1 6 1\n"
    assert both.gids.text() == "0 5 2\n"


@pytest.mark.parametrize(
    ("specs", "named", "reason"),
    [
        (("0:0:0",), "0:0:0", "size is 0"),
        (("0:0:10", "5:20:1"), "5:20:1", "container ids overlap those of 0:0:10"),
        (("0:0:10", "20:5:1"), "20:5:1", "host ids overlap those of 0:0:10"),
        (("0:60000:10000",), "0:60000:10000", "65537-69999 is beyond your 65537 uids"),
        (("0:@5000:1",), "0:@5000:1", "the host's uid 5000 is not yours"),
        (("0:@165530:10",), "0:@165530:10", "165536-165539 is not yours"),
        (("0:4294967295:1",), "0:4294967295:1", "is not a number from 0"),
        (("4294967290:0:10",), "4294967290:0:10", "go beyond 4294967294"),
        (("0",), "'0'", "must be [+ug]CONTAINER"),
        (("0:1:2:3",), "'0:1:2:3'", "must be [+ug]CONTAINER"),
        (("x0:1:2",), "x0:1:2", "the container uid 'x0' is not a number"),
        (("0:-1:2",), "0:-1:2", "'-1' is not a number"),
        (("+:1:2",), "'+:1:2'", "must be [+ug]CONTAINER"),
        (("0:@:2",), "'0:@:2'", "must be [+ug]CONTAINER"),
        (("",), "''", "must be [+ug]CONTAINER"),
    ],
)
def test_a_bad_map_is_a_usage_error_that_names_the_range(specs: tuple[str, ...], named: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        ids(uid=specs)
    assert caught.value.subject == named
    assert reason in caught.value.reason
    assert "uid" in str(caught.value)


def test_a_mode_and_a_map_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="keep-id"):
        ids("keep-id", uid=("0:0:1",))


def test_a_joined_namespace_has_no_map_to_compute() -> None:
    with pytest.raises(UsageError, match="container:web"):
        ids("container:web")


@pytest.mark.parametrize("value", ["keep", "auto:", "keep-id:", "host:x", "container:", "ns:", "nomap:size=1", "AUTO"])
def test_an_unknown_mode_is_refused_with_the_known_ones(value: str) -> None:
    with pytest.raises(UsageError, match="no such mode") as caught:
        parse_userns(value)
    assert "keep-id" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("keep-id:uid=x", "'x' is not a number"),
        ("keep-id:gid=-1", "'-1' is not a number"),
        ("keep-id:uid", "must be KEY=VALUE"),
        ("keep-id:uidmapping=0:0:1", "unknown option 'uidmapping'"),
        ("auto:size=0", "from 1 to"),
        ("auto:uid=5", "unknown option 'uid'"),
        ("auto:size=1,,", "must be KEY=VALUE"),
    ],
)
def test_a_bad_option_of_a_mode_is_named(value: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_userns(value)
    assert reason in str(caught.value)
    assert "--userns" in str(caught.value)


def test_modes_that_join_keep_their_target() -> None:
    assert parse_userns("container:web") == Userns("container", target="web")
    assert parse_userns("ns:/proc/5/ns/user") == Userns("ns", target="/proc/5/ns/user")


@given(
    st.sampled_from(["", "keep-id", "keep-id:uid=3", "nomap", "auto:size=7"]),
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
)
def test_every_mode_gives_a_map_that_the_kernel_takes(mode: str, sizes: list[int]) -> None:
    entries, inside = [IdRange(0, 1001, 1)], 1
    for index, size in enumerate([*sizes, 10]):
        entries.append(IdRange(inside, 100000 + index * 1000, size))
        inside += size
    id_map = IdMap(tuple(entries))
    result = ids(mode, base=BaseIds(id_map, id_map, WITH_HELPERS, 1001, 1001))
    for nested in (result.uids, result.gids):
        assert nested.validate().split_along(id_map) == nested
        assert nested.compose(id_map).size == nested.size
