"""Distinct id ranges for `--userns auto`: which of the base's ids a new container gets, and how many.

The rules are podman's (containers/storage, userns.go): the first free ids, not necessarily in one piece, for the
container's ids from 0 up; the size follows the image's passwd and group files, never below 1024. Pure functions: who
calls them holds the lock.
"""

from __future__ import annotations

from jubako.errors import JubakoError, UsageError
from jubako.ids.idmap import IdMap, IdRange
from jubako.ids.intervals import Intervals, count, pair, show, subtract, take
from jubako.record import record

LEAST_SIZE = 1024
GREATEST_SIZE = 65536
_NOBODY = 65534
_NOTHING = IdMap()


@record
class Pool:
    """The base's ids that may be given away, and those that other containers have of them."""

    ids: Intervals
    in_use: Intervals = ()


def pool_of(base: IdMap, caller: int, in_use: tuple[IdMap, ...]) -> Pool:
    """All ids of the base but the caller's own (its files are the user's), less what the maps `in_use` (of other
    containers, relative to the base) take."""
    own = base.to_inside(caller)
    ids = base.inside if own is None else subtract(base.inside, ((own, own + 1),))
    return Pool(ids, tuple(interval for id_map in in_use for interval in id_map.outside))


def allocate(pool: Pool, size: int, fixed: IdMap = _NOTHING, kind: str = "uid") -> IdMap:
    """A map for the container's ids 0 … `size` - 1 from free ids of the pool, beside the `fixed` ranges, which keep
    both their sides to themselves. The caller splits it along the base's map."""
    wanted = subtract(((0, size),), fixed.inside)
    free = subtract(subtract(pool.ids, pool.in_use), fixed.outside)
    if count(free) < count(wanted):
        raise JubakoError(
            f"allocate {count(wanted)} {kind}s",
            "for --userns auto",
            reason=f"of the {count(pool.ids)} subordinate {kind}s, {count(free)} are free ({show(free)})",
            hint="remove containers that use --userns auto, ask for less with auto:size=N, or add to /etc/subuid "
            "and /etc/subgid",
        )
    ranges = [IdRange(*triple) for triple in pair(wanted, take(free, count(wanted)))]
    return IdMap((*ranges, *fixed.entries)).merged()


def size_for(passwd: str, group: str, highest_owner: int = 0, needed: int = 0) -> int:
    """How many ids a container of an image needs: one more than the highest in its passwd and group files (nobody
    and nogroup aside, they would make it 65536 nearly always), than `highest_owner` among its files, and than
    `needed`, the id that it is to run as."""
    highest = max(highest_owner, needed, LEAST_SIZE - 1, _highest(passwd, (2, 3)), _highest(group, (2,)))
    if highest + 1 > GREATEST_SIZE:
        raise UsageError(
            "choose a size for --userns auto",
            reason=f"the image needs id {highest}, beyond the {GREATEST_SIZE} ids that auto gives by itself",
            hint=f"ask for it: --userns auto:size={highest + 1}",
        )
    return highest + 1


def _highest(text: str, columns: tuple[int, ...]) -> int:
    highest = 0
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) <= max(columns) or fields[0] in ("nobody", "nogroup"):
            continue
        for column in columns:
            value = fields[column]
            if value.isascii() and value.isdigit() and int(value) != _NOBODY:
                highest = max(highest, int(value))
    return highest
