"""Sets of ids as half-open intervals: what is left of a range when others are taken out of it.

An interval is `(start, end)`, `end` not included; a set is a tuple of intervals, ascending and apart from each other.
All functions are pure and cost the number of intervals, never the number of ids (a range may hold two thousand
million).
"""

from __future__ import annotations

Interval = tuple[int, int]
Intervals = tuple[Interval, ...]


def normalise(intervals: Intervals) -> Intervals:
    """The same ids, ascending, without empty intervals, neighbours joined."""
    result: list[Interval] = []
    for start, end in sorted(intervals):
        if end <= start:
            continue
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return tuple(result)


def subtract(intervals: Intervals, taken: Intervals) -> Intervals:
    """The ids of `intervals` that are not in `taken`."""
    result: list[Interval] = []
    holes = normalise(taken)
    for start, end in normalise(intervals):
        for hole_start, hole_end in holes:
            if hole_end <= start:
                continue
            if hole_start >= end:
                break
            if hole_start > start:
                result.append((start, hole_start))
            start = max(start, hole_end)
            if start >= end:
                break
        if start < end:
            result.append((start, end))
    return tuple(result)


def intersect(intervals: Intervals, others: Intervals) -> Intervals:
    """The ids that are in both."""
    return subtract(intervals, subtract(intervals, others))


def count(intervals: Intervals) -> int:
    """How many ids there are."""
    return sum(end - start for start, end in normalise(intervals))


def take(intervals: Intervals, wanted: int) -> Intervals:
    """The first `wanted` ids, or all where there are fewer."""
    result: list[Interval] = []
    for start, end in normalise(intervals):
        if wanted <= 0:
            break
        end = min(end, start + wanted)
        result.append((start, end))
        wanted -= end - start
    return tuple(result)


def pair(left: Intervals, right: Intervals) -> tuple[tuple[int, int, int], ...]:
    """The ids of both sets side by side in ascending order, as `(left, right, size)`; the longer set's rest is left
    out."""
    result: list[tuple[int, int, int]] = []
    lefts, rights = list(normalise(left)), list(normalise(right))
    while lefts and rights:
        left_start, left_end = lefts[0]
        right_start, right_end = rights[0]
        size = min(left_end - left_start, right_end - right_start)
        result.append((left_start, right_start, size))
        lefts[0], rights[0] = (left_start + size, left_end), (right_start + size, right_end)
        if lefts[0][0] == left_end:
            del lefts[0]
        if rights[0][0] == right_end:
            del rights[0]
    return tuple(result)


def show(intervals: Intervals) -> str:
    """For messages: `1-65536, 70000`."""
    parts = (str(start) if end - start == 1 else f"{start}-{end - 1}" for start, end in normalise(intervals))
    return ", ".join(parts) or "none"
