"""Id maps and their algebra: what may stand in /proc/PID/uid_map, and how one map lies inside another.

A map says which ids of a user namespace (*inside*) are which ids of its parent (*outside*). The rules are those of
user_namespaces(7), "Defining user and group ID mappings"; the kernel answers a violation with a bare EINVAL or
EPERM, so they are checked here, where the offending range can be named.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError, UsageError
from jubako.ids.intervals import Intervals, intersect, normalise, show, subtract
from jubako.record import record

MAX_ENTRIES = 340  # Linux 4.15; before that 5
END_OF_IDS = 0xFFFFFFFF  # (uid_t) -1 means "no id" and cannot be mapped


@record
class IdRange:
    """`size` ids: `inside`, `inside` + 1 … of the namespace are `outside`, `outside` + 1 … of its parent."""

    inside: int
    outside: int
    size: int

    def __str__(self) -> str:
        return f"{self.inside}:{self.outside}:{self.size}"


@record
class IdMap:
    """The whole map of a user namespace, for user ids or for group ids."""

    entries: tuple[IdRange, ...] = ()

    @classmethod
    def parse(cls, text: str) -> IdMap:
        """Read what /proc/PID/uid_map and gid_map show: three numbers a line."""
        entries: list[IdRange] = []
        for line in text.splitlines():
            fields = line.split()
            if not fields:
                continue
            if len(fields) != 3 or not all(field.isascii() and field.isdigit() for field in fields):
                raise JubakoError("read id map", repr(line), reason="a line must be three numbers: inside outside size")
            entries.append(IdRange(int(fields[0]), int(fields[1]), int(fields[2])))
        return cls(tuple(entries))

    @classmethod
    def of(cls, *triples: tuple[int, int, int]) -> IdMap:
        """The map of these `(inside, outside, size)` triples, as they are."""
        return cls(tuple(IdRange(*triple) for triple in triples))

    def text(self) -> str:
        """What is written to /proc/PID/uid_map, in one write(2)."""
        return "".join(f"{entry.inside} {entry.outside} {entry.size}\n" for entry in self.entries)

    def __str__(self) -> str:
        return ", ".join(str(entry) for entry in self.entries) or "(empty)"

    @property
    def size(self) -> int:
        """How many ids are mapped."""
        return sum(entry.size for entry in self.entries)

    @property
    def inside(self) -> Intervals:
        """The ids that the namespace has, as intervals."""
        return normalise(tuple((entry.inside, entry.inside + entry.size) for entry in self.entries))

    @property
    def outside(self) -> Intervals:
        """The ids of the parent that the namespace has, as intervals."""
        return normalise(tuple((entry.outside, entry.outside + entry.size) for entry in self.entries))

    def to_outside(self, number: int) -> int | None:
        """The parent's id for an id of the namespace; None where it is not mapped (the kernel shows "nobody")."""
        for entry in self.entries:
            if entry.inside <= number < entry.inside + entry.size:
                return number - entry.inside + entry.outside
        return None

    def to_inside(self, number: int) -> int | None:
        """The namespace's id for an id of its parent; None where it is not mapped."""
        for entry in self.entries:
            if entry.outside <= number < entry.outside + entry.size:
                return number - entry.outside + entry.inside
        return None

    def validate(self, kind: str = "id") -> IdMap:
        """This map, or `UsageError` naming the first range that the kernel would refuse; `kind` is `uid` or `gid`."""
        if not self.entries:
            raise UsageError(f"use {kind} map", reason="it is empty: at least one id must be mapped")
        for entry in self.entries:
            if entry.size <= 0:
                raise _refusal(kind, entry, f"its size is {entry.size}, it must be at least 1")
            for side, start in (("container", entry.inside), ("host", entry.outside)):
                if start < 0 or start + entry.size > END_OF_IDS:
                    raise _refusal(
                        kind, entry, f"its {side} ids {start}-{start + entry.size - 1} go beyond 0-{END_OF_IDS - 1}"
                    )
        _refuse_overlap(kind, sorted(self.entries, key=lambda entry: entry.inside), "container")
        _refuse_overlap(kind, sorted(self.entries, key=lambda entry: entry.outside), "host")
        if len(self.entries) > MAX_ENTRIES:
            raise _refusal(
                kind, self.entries[MAX_ENTRIES], f"it is range {MAX_ENTRIES + 1}, the kernel takes {MAX_ENTRIES}"
            )
        # The write itself must be shorter than a page, which long numbers reach before 340 lines.
        if len(self.text()) >= (page := os.sysconf("SC_PAGESIZE")):
            raise UsageError(
                f"use {kind} map",
                f"of {len(self.entries)} ranges",
                reason=f"its text of {len(self.text())} bytes does not fit the {page - 1} bytes that the kernel takes",
            )
        return self

    def merged(self) -> IdMap:
        """The same mapping in as few ranges as can be, ascending: neighbours on both sides become one."""
        result: list[IdRange] = []
        for entry in sorted(self.entries, key=lambda entry: entry.inside):
            last = result[-1] if result else None
            if (
                last is not None
                and last.inside + last.size == entry.inside
                and last.outside + last.size == entry.outside
            ):
                result[-1] = IdRange(last.inside, last.outside, last.size + entry.size)
            else:
                result.append(entry)
        return IdMap(tuple(result))

    def split_along(self, parent: IdMap, kind: str = "id") -> IdMap:
        """The same mapping, cut so that no range straddles two ranges of `parent`, the map of the namespace in which
        this one is written: the kernel answers EPERM to a range that does (`map_id_range_down`).

        `UsageError` names a range whose outside ids `parent` does not have.
        """
        result: list[IdRange] = []
        for entry in self.entries:
            wanted = ((entry.outside, entry.outside + entry.size),)
            missing = subtract(wanted, parent.inside)
            if missing:
                raise _refusal(
                    kind, entry, f"{kind} {show(missing)} is not there to be mapped: there are {show(parent.inside)}"
                )
            for above in sorted(parent.entries, key=lambda above: above.inside):
                for start, end in intersect(wanted, ((above.inside, above.inside + above.size),)):
                    result.append(IdRange(entry.inside + start - entry.outside, start, end - start))
        return IdMap(tuple(result))

    def compose(self, outer: IdMap, kind: str = "id") -> IdMap:
        """This map seen from further out: `outer` maps what is *outside* here on to its own outside."""
        result = []
        for entry in self.split_along(outer, kind).entries:
            outside = outer.to_outside(entry.outside)
            assert outside is not None  # split_along has refused what is not mapped
            result.append(IdRange(entry.inside, outside, entry.size))
        return IdMap(tuple(result)).merged()

    def identity(self) -> IdMap:
        """The map of a namespace below this one that has all of its ids under the same numbers; it need not be
        split, since it follows this map's ranges."""
        return IdMap(tuple(IdRange(entry.inside, entry.inside, entry.size) for entry in self.entries))


def read_id_map(path: str) -> IdMap:
    """The map in a file such as /proc/self/uid_map."""
    try:
        with open(path, "rb", buffering=0) as file:
            return IdMap.parse(file.readall().decode())
    except OSError as failure:
        raise JubakoError.from_os_error("read id map", path, failure) from failure


def _refuse_overlap(kind: str, ascending: list[IdRange], side: str) -> None:
    from itertools import pairwise

    for first, second in pairwise(ascending):
        start = second.inside if side == "container" else second.outside
        last = (first.inside if side == "container" else first.outside) + first.size - 1
        if start <= last:
            last = min(last, start + second.size - 1)
            ids = str(start) if start == last else f"{start}-{last}"
            raise _refusal(kind, second, f"its {side} ids overlap those of {first} ({ids})")


def _refusal(kind: str, entry: IdRange, reason: str) -> UsageError:
    return UsageError(f"use {kind} map", str(entry), reason=reason)
