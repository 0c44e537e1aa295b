"""Which owners a file may have here: the ids that the process's user namespace maps.

An archive's ids are the container's. Inside the base user namespace they can be given to files as they are, if they
are mapped (user_namespaces(7)); an id beyond the map cannot exist and is refused rather than replaced.
"""

from __future__ import annotations


class Ownership:
    """The mapped uids and gids. With a map of one id everything belongs to 0, which is said once, as a warning."""

    def __init__(self, uids: list[tuple[int, int]], gids: list[tuple[int, int]], squash: bool = False) -> None:
        self._uids = uids
        self._gids = gids
        single = sum(size for _first, size in uids) == 1 or sum(size for _first, size in gids) == 1
        self._squash = squash or single
        self._single = single
        self._squashed = 0

    @classmethod
    def of_this_process(cls, squash: bool = False) -> Ownership:
        return cls(_read_map("/proc/self/uid_map"), _read_map("/proc/self/gid_map"), squash)

    def fault(self, uid: int, gid: int) -> tuple[str, str] | None:
        """Reason and hint why nothing here can belong to these ids, or None."""
        if self._squash:
            return None
        for kind, number, ranges in (("uid", uid, self._uids), ("gid", gid, self._gids)):
            if not _holds(ranges, number):
                file = "/etc/subuid" if kind == "uid" else "/etc/subgid"
                last = max(first + size - 1 for first, size in ranges)
                return (
                    f"it belongs to {kind} {number}, which is beyond your map (0 to {last})",
                    f"ask for a larger range in {file}, or pass --squash-ids to give such files to root",
                )
        return None

    def map(self, uid: int, gid: int) -> tuple[int, int]:
        """The owner that the file gets."""
        if not self._squash:
            return uid, gid
        if self._single:
            mapped = (0, 0)
        else:
            mapped = (uid if _holds(self._uids, uid) else 0, gid if _holds(self._gids, gid) else 0)
        self._squashed += mapped != (uid, gid)
        return mapped

    def warnings(self) -> list[str]:
        """What was lost, for the user to read."""
        if not self._squashed:
            return []
        cause = " (no subordinate ids: see `jubako doctor`)" if self._single else ""
        return [f"{self._squashed} files of other owners were given to root{cause}"]


def _holds(ranges: list[tuple[int, int]], number: int) -> bool:
    return any(first <= number < first + size for first, size in ranges)


def _read_map(path: str) -> list[tuple[int, int]]:
    with open(path, encoding="ascii") as file:
        return [(int(first), int(size)) for first, _outside, size in (line.split() for line in file)]
