"""Which ids the administrator gave to a user: subuid(5), subgid(5), and getsubids(1) where they live elsewhere.

A line is `OWNER:START:COUNT`; the owner is a login name or a number. Like newuidmap, this looks for both, takes
ranges in the file's order, and takes no notice of other users' lines, broken ones included.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError
from jubako.ids.idmap import END_OF_IDS
from jubako.ids.intervals import Interval
from jubako.record import record

SUBUID = "/etc/subuid"
SUBGID = "/etc/subgid"
NSSWITCH = "/etc/nsswitch.conf"
GETSUBIDS_PACKAGES = "Debian and Ubuntu: uidmap, Fedora: shadow-utils-subid, Arch: shadow, Alpine: shadow-subids"


@record
class SubordinateRange:
    """One line: `owner` may use the ids `start` … `start` + `count` - 1. `line` is 0 when no file says so."""

    owner: str
    start: int
    count: int
    path: str = ""
    line: int = 0

    @property
    def interval(self) -> Interval:
        return (self.start, self.start + self.count)

    def __str__(self) -> str:
        return f"{self.owner}:{self.start}:{self.count}"


def read_subordinate_uids(name: str, uid: int) -> tuple[SubordinateRange, ...]:
    """The user's subordinate user ids, wherever the host keeps them; `name` may be empty where there is none."""
    return _read(name, uid, SUBUID, "")


def read_subordinate_gids(name: str, uid: int) -> tuple[SubordinateRange, ...]:
    """The user's subordinate group ids (they belong to the *user*: `uid` is the user's number here too)."""
    return _read(name, uid, SUBGID, "-g")


def read_ranges_of(path: str, name: str, uid: int | None = None) -> tuple[SubordinateRange, ...]:
    """The ranges in the file `path` that belong to the user `name` or `uid`; a missing file has none.

    A broken line of this user is a `JubakoError` that names file and line.
    """
    owners = {name, "" if uid is None else str(uid)} - {""}
    found = []
    for number, line in _lines(path):
        if line.split(":", 1)[0].strip() in owners:
            entry = _parse(path, number, line)
            if entry.count:
                found.append(entry)
    return tuple(found)


def read_all_ranges(path: str) -> tuple[tuple[SubordinateRange, ...], tuple[JubakoError, ...]]:
    """Everybody's ranges in the file `path`, and what is wrong with the lines that could not be read."""
    found: list[SubordinateRange] = []
    broken: list[JubakoError] = []
    for number, line in _lines(path):
        try:
            found.append(_parse(path, number, line))
        except JubakoError as failure:
            broken.append(failure)
    return tuple(found), tuple(broken)


def find_overlaps(
    ranges: tuple[SubordinateRange, ...], owners: tuple[str, ...] = ()
) -> tuple[tuple[SubordinateRange, SubordinateRange], ...]:
    """Pairs of ranges of different owners that share ids: each owner could act as the other's containers.

    With `owners` (a user's name and number, say, which count as one) only the pairs that concern them.
    """
    found = []
    for position, first in enumerate(ranges):
        for second in ranges[position + 1 :]:
            first_ours, second_ours = first.owner in owners, second.owner in owners
            if first.owner == second.owner or (first_ours and second_ours):
                continue
            if owners and not (first_ours or second_ours):
                continue
            if max(first.start, second.start) < min(first.start + first.count, second.start + second.count):
                found.append((first, second))
    return tuple(found)


def suggest_range(ranges: tuple[SubordinateRange, ...], count: int = 65536) -> tuple[int, int]:
    """A `(start, count)` that nobody has yet, as useradd(8) would choose it (SUB_UID_MIN 100000)."""
    start = max((entry.start + entry.count for entry in ranges if entry.start < 600_100_000), default=100_000)
    return max(100_000, start), count


def asks_a_service(path: str = NSSWITCH) -> str:
    """The service other than `files` that nsswitch.conf(5) names for subordinate ids (`sss`, say), or an empty
    string."""
    for _number, line in _lines(path):
        database, colon, services = line.partition(":")
        if colon and database.strip() == "subid":
            names = services.split("#", 1)[0].split()
            return names[0] if names and names[0] != "files" else ""
    return ""


def ask_getsubids(program: str, user: str, *options: str) -> tuple[SubordinateRange, ...]:
    """What `getsubids [-g] USER` lists (`0: USER START COUNT` a line); it fails where the user has none."""
    read_end, write_end = os.pipe()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, write_end, 1), (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)]
        pid = os.posix_spawn(program, [program, *options, user], {"LC_ALL": "C"}, file_actions=actions)
    except OSError as failure:
        os.close(read_end)
        raise JubakoError.from_os_error("run", program, failure) from failure
    finally:
        os.close(write_end)
    with open(read_end, encoding="utf-8", errors="replace") as pipe:
        output = pipe.read()
    os.waitpid(pid, 0)
    found = []
    for line in output.splitlines():
        _index, colon, rest = line.partition(": ")
        fields = rest.split()
        if not colon or len(fields) != 3 or not (fields[1].isdigit() and fields[2].isdigit()):
            raise JubakoError("read subordinate ids", user, reason=f"getsubids printed {line!r}")
        found.append(SubordinateRange(fields[0], int(fields[1]), int(fields[2]), program))
    return tuple(entry for entry in found if entry.count)


def _read(name: str, uid: int, path: str, option: str) -> tuple[SubordinateRange, ...]:
    service = asks_a_service()
    if not service:
        return read_ranges_of(path, name, uid)
    # Not before it is needed: an ordinary host has its ranges in files.
    from jubako.ids.newidmap import find_program

    program = find_program("getsubids")
    if not program:
        raise JubakoError(
            "read subordinate ids",
            name or str(uid),
            reason=f"{NSSWITCH} keeps them in {service!r}, and the program getsubids that asks it is not here",
            hint=f"install getsubids ({GETSUBIDS_PACKAGES})",
        )
    return ask_getsubids(program, name or str(uid), *([option] if option else []))


def _lines(path: str) -> list[tuple[int, str]]:
    """The numbered lines of a configuration file that say something."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except FileNotFoundError:
        return []
    except OSError as failure:
        raise JubakoError.from_os_error("read", path, failure) from failure
    stripped = ((number, line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    return [(number, line) for number, line in stripped if line and not line.startswith("#")]


def _parse(path: str, number: int, line: str) -> SubordinateRange:
    fields = [field.strip() for field in line.split(":")]
    problem = ""
    if len(fields) != 3 or not fields[0]:
        problem = "it must be OWNER:START:COUNT"
    else:
        for what, value in zip(("start", "count"), fields[1:], strict=True):
            if not (value.isascii() and value.isdigit()):
                problem = f"its {what} {value!r} is not a number"
                break
        else:
            if int(fields[1]) + int(fields[2]) > END_OF_IDS:
                problem = f"its ids go beyond {END_OF_IDS - 1}"
    if problem:
        raise JubakoError(
            "read subordinate ids",
            f"{path} line {number} ({line!r})",
            reason=problem,
            hint=f"correct the line, as root; an example: {fields[0] or 'USER'}:100000:65536",
        )
    return SubordinateRange(fields[0], int(fields[1]), int(fields[2]), path, number)
