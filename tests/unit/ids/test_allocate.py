"""Ranges for `--userns auto`: distinct, from the base only, as large as podman makes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import JubakoError, UsageError
from jubako.ids.allocate import Pool, allocate, pool_of, size_for
from jubako.ids.idmap import IdMap
from jubako.ids.intervals import count, intersect

BASE = IdMap.of((0, 1000, 1), (1, 100000, 65536))


def test_the_callers_own_id_is_never_given_away() -> None:
    assert pool_of(BASE, 1000, ()).ids == ((1, 65537),)


def test_all_of_roots_private_range_can_be_given_away() -> None:
    assert pool_of(IdMap.of((0, 0x78000000, 100)), 0, ()).ids == ((0, 100),)


def test_the_first_free_ids_are_taken() -> None:
    first = allocate(pool_of(BASE, 1000, ()), 1024)
    second = allocate(pool_of(BASE, 1000, (first,)), 1024)
    assert first.text() == "0 1 1024\n"
    assert second.text() == "0 1025 1024\n"


def test_gaps_are_filled_with_several_ranges() -> None:
    pool = Pool(((1, 100),), ((11, 20), (25, 30)))
    assert allocate(pool, 20).text() == "0 1 10\n10 20 5\n15 30 5\n"


def test_fixed_ranges_keep_both_their_sides() -> None:
    mapped = allocate(pool_of(BASE, 1000, ()), 1024, IdMap.of((0, 1001, 1)))
    assert mapped.text() == "0 1001 1\n1 1 1000\n1001 1002 23\n"


def test_a_fixed_range_beyond_the_size_is_added_to_it() -> None:
    assert allocate(Pool(((1, 100),)), 10, IdMap.of((500, 3, 2))).text() == "0 1 2\n2 5 8\n500 3 2\n"


def test_too_few_free_ids_are_an_error_with_the_numbers() -> None:
    with pytest.raises(JubakoError) as caught:
        allocate(Pool(((1, 2001),), ((1, 1025),)), 1024, kind="gid")
    assert str(caught.value).startswith("allocate 1024 gids for --userns auto: of the 2000 subordinate gids, 976 are")
    assert "1025-2000" in str(caught.value)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=8))
def test_no_two_containers_share_an_id(sizes: list[int]) -> None:
    maps: list[IdMap] = []
    for size in sizes:
        mapped = allocate(pool_of(BASE, 1000, tuple(maps)), size)
        assert mapped.inside == ((0, size),)
        assert count(intersect(mapped.outside, ((0, 1),))) == 0
        assert all(not intersect(mapped.outside, other.outside) for other in maps)
        maps.append(mapped)


def test_a_container_gets_at_least_1024_ids() -> None:
    assert size_for("", "") == 1024
    assert size_for("root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n") == 1024


def test_the_size_follows_the_highest_id_but_not_nobody() -> None:
    passwd = "root:x:0:0::/:\nann:x:2000:3000::/:\nnobody:x:65534:65534::/:\nold:x:10:65534::/:\nbroken:x:y:z::/:\n"
    assert size_for(passwd, "root:x:0:\nnogroup:x:65534:\nbig:x:4000:ann\n\nshort\n") == 4001


def test_the_size_follows_the_files_owners_and_the_user_to_run_as() -> None:
    assert size_for("", "", highest_owner=5000) == 5001
    assert size_for("", "", needed=6000) == 6001


def test_an_image_that_needs_more_than_65536_must_be_given_them_explicitly() -> None:
    with pytest.raises(UsageError, match="id 70000") as caught:
        size_for("ann:x:70000:1::/:\n", "")
    assert "auto:size=70001" in caught.value.hint
