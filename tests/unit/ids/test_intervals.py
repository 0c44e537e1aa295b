"""The interval sets against Python's own sets, on small numbers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from jubako.ids.intervals import Intervals, count, intersect, normalise, pair, show, subtract, take

intervals = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6).map(tuple)


def ids(value: Intervals) -> set[int]:
    return {number for start, end in value for number in range(start, end)}


@given(intervals)
def test_normalising_keeps_the_ids_and_leaves_gaps_between_intervals(value: Intervals) -> None:
    result = normalise(value)
    assert ids(result) == ids(value)
    assert all(start < end for start, end in result)
    assert all(first[1] < second[0] for first, second in pairwise(result))


@given(intervals, intervals)
def test_subtracting_and_intersecting_are_those_of_sets(left: Intervals, right: Intervals) -> None:
    assert ids(subtract(left, right)) == ids(left) - ids(right)
    assert ids(intersect(left, right)) == ids(left) & ids(right)
    assert count(left) == len(ids(left))


@given(intervals, st.integers(0, 60))
def test_taking_gives_the_lowest_ids(value: Intervals, wanted: int) -> None:
    assert sorted(ids(take(value, wanted))) == sorted(ids(value))[:wanted]


@given(intervals, intervals)
def test_pairing_puts_both_sides_next_to_each_other_in_order(left: Intervals, right: Intervals) -> None:
    pairs = [(a + step, b + step) for a, b, size in pair(left, right) for step in range(size)]
    assert pairs == list(zip(sorted(ids(left)), sorted(ids(right)), strict=False))


def test_intervals_are_shown_with_their_last_id() -> None:
    assert show(((1, 3), (7, 8))) == "1-2, 7"
    assert show(()) == "none"
