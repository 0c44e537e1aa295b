"""The base's maps for ordinary users, root, and whoever is in a user namespace already."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jubako.errors import JubakoError
from jubako.ids.base import (
    PRIVATE_SIZE,
    PRIVATE_STARTS,
    Caller,
    compute_root_base,
    compute_user_base,
    find_base,
    find_caller,
    find_private_range,
    single_base,
)
from jubako.ids.base_ids import DIRECTLY, SINGLE, WITH_HELPERS, BaseIds, Loss, read_base
from jubako.ids.idmap import IdMap
from jubako.ids.subordinate import SubordinateRange
from jubako.record import replace

WHOLE = IdMap.of((0, 0, 4294967295))
ANN = Caller(1000, 1000, "ann", WHOLE, WHOLE)
ROOT = Caller(0, 0, "root", WHOLE, WHOLE, may_write=True)


def ranges(*spans: tuple[int, int], owner: str = "ann") -> tuple[SubordinateRange, ...]:
    return tuple(SubordinateRange(owner, start, size) for start, size in spans)


def test_a_user_has_their_own_id_and_then_the_ranges_in_order() -> None:
    base = compute_user_base(ANN, ranges((100000, 65536), (300000, 10)), ranges((100000, 65536)))
    assert base.uids.text() == "0 1000 1\n1 100000 65536\n65537 300000 10\n"
    assert base.gids.text() == "0 1000 1\n1 100000 65536\n"
    assert base.writer == WITH_HELPERS
    assert not base.setgroups_deny
    assert base.lost == ()


def test_ids_that_are_given_twice_are_mapped_once() -> None:
    base = compute_user_base(ANN, ranges((999, 3), (100000, 10), (100005, 10)), ranges((100000, 10)))
    assert base.uids.text() == "0 1000 1\n1 999 1\n2 1001 1\n3 100000 10\n13 100010 5\n"


def test_without_ranges_there_is_one_id_and_a_record_of_what_is_lost() -> None:
    base = compute_user_base(ANN, (), ())
    assert (base.uids.text(), base.gids.text()) == ("0 1000 1\n", "0 1000 1\n")
    assert base.writer == SINGLE
    assert base.setgroups_deny
    (loss,) = base.lost
    assert "no subordinate ids for ann in /etc/subuid and /etc/subgid" in str(loss)
    assert "usermod --add-subuids" in loss.remedy


def test_ranges_of_one_kind_only_still_give_that_kind() -> None:
    base = compute_user_base(ANN, ranges((100000, 65536)), ())
    assert base.uids.size == 65537
    assert base.gids.text() == "0 1000 1\n"
    assert base.writer == WITH_HELPERS
    assert base.setgroups_deny, "newgidmap denies setgroups where no range allows it"
    assert "/etc/subgid" in base.lost[0].cause


def test_ranges_that_the_surrounding_namespace_lacks_are_left_out_and_told() -> None:
    around = IdMap.of((0, 5000, 1000), (1000, 7000, 1000))
    caller = Caller(1500, 1500, "ann", around, around)
    base = compute_user_base(caller, ranges((900, 200), (100000, 65536)), ranges((0, 10)))
    assert base.uids.text() == "0 1500 1\n1 900 100\n101 1000 100\n"
    assert base.gids.text() == "0 1500 1\n1 0 10\n"
    assert len(base.lost) == 1
    assert "100000-165535" in base.lost[0].cause


def test_a_caller_whose_id_is_not_mapped_is_told_so() -> None:
    with pytest.raises(JubakoError, match="uid 65534: it is not mapped"):
        compute_user_base(Caller(65534, 65534, "nobody", IdMap(), IdMap()), (), ())


def test_root_gets_a_private_range_that_is_not_the_hosts() -> None:
    base = compute_root_base(ROOT, ranges((100000, 65536)), ())
    assert base.uids == base.gids == IdMap.of((0, PRIVATE_STARTS[0], PRIVATE_SIZE))
    assert base.writer == DIRECTLY
    assert base.uids.to_inside(0) is None
    assert base.uids.size >= 65536 * 64, "auto needs room"


@pytest.mark.parametrize("owner", ["jubako", "containers"])
def test_roots_range_is_the_one_that_the_administrator_wrote_down(owner: str) -> None:
    uid_ranges = (*ranges((100000, 65536)), *ranges((2147483647, 2147483648), owner=owner))
    base = compute_root_base(ROOT, uid_ranges, ranges((500000, 10), (700000, 5), owner=owner))
    assert base.uids.text() == "0 2147483647 2147483648\n"
    assert base.gids.text() == "0 500000 10\n10 700000 5\n"


def test_jubako_goes_before_containers_and_needs_both_files() -> None:
    both = (*ranges((900000, 10), owner="containers"), *ranges((800000, 10), owner="jubako"))
    assert compute_root_base(ROOT, both, both).uids.text() == "0 800000 10\n"
    assert compute_root_base(ROOT, both, both[:1]).uids.text() == "0 900000 10\n"


def test_a_private_range_never_holds_the_hosts_root() -> None:
    given = ranges((0, 65536), owner="jubako")
    assert compute_root_base(ROOT, given, given).uids.text() == "0 1 65535\n"


def test_the_private_range_moves_out_of_the_way_of_other_users() -> None:
    taken = ((PRIVATE_STARTS[0] + 5, PRIVATE_STARTS[0] + 6),)
    assert find_private_range(taken) == PRIVATE_STARTS[1]
    with pytest.raises(JubakoError, match="give away ids in all of"):
        find_private_range(((0, 0xFFFFFFFF),))


def test_private_ranges_stay_clear_of_what_others_reserve() -> None:
    for start in PRIVATE_STARTS:
        assert start > 0x6FFFFFFF, "systemd-nspawn's containers"
        assert start + PRIVATE_SIZE <= 0x7FFE0000, "systemd's foreign ids"
    assert PRIVATE_STARTS[0] > 2_000_200_000, "sssd's directory users"


def test_root_of_a_user_namespace_gives_the_ids_that_it_has() -> None:
    around = IdMap.of((0, 1000, 1), (1, 100000, 65536))
    base = compute_root_base(replace(ROOT, uid_map=around, gid_map=around), (), ())
    assert base.uids.text() == "0 0 1\n1 1 65536\n"
    assert base.writer == DIRECTLY
    assert base.lost == ()


def test_root_of_a_namespace_with_one_id_is_told_what_is_lost() -> None:
    around = IdMap.of((0, 1000, 1))
    base = compute_root_base(replace(ROOT, uid_map=around, gid_map=around, setgroups_denied=True), (), ())
    assert base.uids.text() == "0 0 1\n"
    assert base.setgroups_deny
    assert "has the uids 0 and the gids 0 only" in base.lost[0].cause


def test_a_living_base_is_read_from_its_process(tmp_path: Path) -> None:
    (tmp_path / "uid_map").write_text("0 1000 1\n1 100000 65536\n")
    (tmp_path / "gid_map").write_text("0 1000 1\n1 100000 65536\n")
    (tmp_path / "setgroups").write_text("allow\n")
    base = read_base(str(tmp_path), 1000, 1000)
    assert base.uids == IdMap.of((0, 1000, 1), (1, 100000, 65536))
    assert not base.setgroups_deny
    assert base.lost == ()


def test_a_living_base_of_one_id_says_what_is_lost(tmp_path: Path) -> None:
    for name in ("uid_map", "gid_map"):
        (tmp_path / name).write_text("0 1000 1\n")
    (tmp_path / "setgroups").write_text("deny\n")
    base = read_base(str(tmp_path), 1000, 1000)
    assert base.setgroups_deny
    assert len(base.lost) == 1


def test_the_facts_about_this_process_are_the_kernels() -> None:
    caller = find_caller()
    assert (caller.uid, caller.gid) == (os.geteuid(), os.getegid())
    assert caller.uid_map == IdMap.parse(Path("/proc/self/uid_map").read_text())


def test_without_newuidmap_the_base_is_the_single_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jubako.ids.base.find_caller", lambda: ANN)
    monkeypatch.setattr("jubako.ids.base.find_program", lambda name: "")
    base = find_base()
    assert base == single_base(ANN, base.lost[0])
    assert "newuidmap is not installed" in base.lost[0].cause
    assert "uidmap" in base.lost[0].remedy


def test_root_without_the_capabilities_never_maps_the_hosts_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jubako.ids.base.find_caller", lambda: replace(ROOT, may_write=False))
    with pytest.raises(JubakoError, match="nobody but itself"):
        find_base()


def test_a_user_without_a_name_is_told_the_line_to_add() -> None:
    (loss,) = compute_user_base(replace(ANN, uid=4321, name=""), (), ()).lost
    assert "add the line 4321:" in loss.remedy


def test_bases_compare_by_value() -> None:
    loss = Loss("cause", "cost", "remedy")
    assert single_base(ANN, loss) == single_base(ANN, loss)
    assert isinstance(single_base(ANN, loss), BaseIds)
