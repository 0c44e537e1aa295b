"""What a test could leave behind on the machine, seen before and after it.

Compared are: processes below pytest (all of them, see `reaper`, but for zombies and the base's pause process, which is
meant to stay) with their namespaces, mounts of the host and of the base's mount namespace, cgroups, network devices,
files of jubako's directories and of the temporary ones, descriptors of pytest itself, and System V objects.
Meant to stay, so not compared: the base's record, lock files, the cache, which holds only what content names, the facts
found about storage, the index of image names, which stays when it is empty (images themselves are compared), and the
document of the default network.
"""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from world.account import Account

SETTLE_SECONDS = 3.0
"""Processes end, and their namespaces and mounts with them, a little after what they were started for."""

_STAYING_NAMES = ("base", "lock", "locks", "base.lock", "storage.json", "names.json", "cache", "jubako.json")
_STAYING_ENDINGS = (".lock",)
_FOREIGN = ("pytest-of-", ".pytest_cache", ".cache", ".local")
"""Entries of the temporary and home directories that are the test tools' own, or looked at elsewhere."""
_COLLECTIONS = ("containers", "layers", "images", "volumes", "networks")
"""Directories in which each entry is a thing of its own, whatever is in it."""


@dataclass(frozen=True)
class Directories:
    """Where jubako keeps things for the account of the tests, as its documentation says."""

    data: Path
    run: Path

    @classmethod
    def of(cls, account: Account) -> Directories:
        data, run = os.environ.get("JUBAKO_ROOT"), os.environ.get("JUBAKO_RUN")
        if account.uid != os.getuid():
            data = run = None
        if account.uid == 0:
            return cls(Path(data or "/var/lib/jubako"), Path(run or "/run/jubako"))
        home = os.environ.get("XDG_DATA_HOME") if account.uid == os.getuid() else None
        return cls(
            Path(data or Path(home or Path(account.home, ".local/share")) / "jubako"),
            Path(run or Path(account.runtime_directory) / "jubako"),
        )


@dataclass
class Traces:
    """Everything found, by kind; each thing as one readable line."""

    found: dict[str, set[str]] = field(default_factory=dict)

    def left_since(self, before: Traces) -> list[str]:
        """What is there now and was not before, and the other way round where that matters."""
        lines = []
        for kind, now in self.found.items():
            if kind == "mount in the base" and not before.found[kind]:
                continue  # there was no base
            lines += [f"{kind} left behind: {thing}" for thing in sorted(now - before.found[kind])]
            if kind.startswith("mount") or kind in ("network device", "descriptor"):
                lines += [f"{kind} gone: {thing}" for thing in sorted(before.found[kind] - now)]
        return lines


class Machine:
    """Looks at the machine for the accounts whose commands the tests run."""

    def __init__(self, accounts: tuple[Account, ...]) -> None:
        self.accounts = accounts
        self.top = int(os.environ.get("JUBAKO_TEST_REAPER", os.getpid()))

    def before(self) -> Traces:
        """A look ahead of a test. What there is by then is put aside, so that no later look has to go through all of it
        for lost objects that hold descriptors."""
        found = self.look()
        gc.freeze()
        return found

    def look(self) -> Traces:
        gc.collect()
        processes = {pid: entry for pid, entry in _processes() if entry.state not in "ZX"}
        family = _descendants(processes, self.top) - _ancestors(processes, os.getpid())
        pauses = {pid for account in self.accounts for pid in base_pauses(Directories.of(account).run)}
        mine = family - pauses
        return Traces(
            {
                "process": {f"{pid} {_command(pid)} (started at {processes[pid].started})" for pid in mine},
                "namespace": {line for pid in mine for line in _namespaces(pid)} - set(_namespaces(os.getpid())),
                "mount": set(_mounts("self")),
                "mount in the base": {line for pid in pauses for line in _mounts(pid)},
                "cgroup": set(_cgroups(self.accounts)),
                "network device": {name for _, name in socket.if_nameindex()},
                "file": {line for account in self.accounts for line in _files(account)},
                "descriptor": set(_descriptors()),
                "System V object": set(_system_v(self.accounts)),
            }
        )

    def left_since(self, before: Traces) -> list[str]:
        """What is still left after a short time to settle."""
        until = time.monotonic() + SETTLE_SECONDS
        while True:
            left = self.look().left_since(before)
            if not left or time.monotonic() > until:
                return left
            time.sleep(0.05)


# --- processes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Process:
    parent: int
    state: str
    started: int


def _processes() -> Iterator[tuple[int, _Process]]:
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                fields = file.read(4096).rpartition(b") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield int(name), _Process(int(fields[1]), fields[0].decode(), int(fields[19]))


def _command(pid: int) -> str:
    """The process's words, or its name where it has none."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return words[:120] or Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return "(it has ended)"


def _descendants(processes: dict[int, _Process], top: int) -> set[int]:
    family = {top}
    grew = True
    while grew:
        more = {pid for pid, process in processes.items() if process.parent in family} - family
        family |= more
        grew = bool(more)
    return family


def _ancestors(processes: dict[int, _Process], pid: int) -> set[int]:
    """`pid` itself and all above it."""
    line: set[int] = set()
    while pid in processes and pid not in line:
        line.add(pid)
        pid = processes[pid].parent
    return line


def base_pauses(run: Path) -> set[int]:
    """The pause process that the record of the base (`run/base`: pid, start time, boot id) names, if it is there."""
    try:
        pid, started, *_ = (run / "base").read_text().split()
        fields = Path("/proc", pid, "stat").read_text(errors="replace").rpartition(") ")[2].split()
    except (OSError, ValueError):
        return set()
    return {int(pid)} if fields[19] == started else set()


def _namespaces(pid: int) -> Iterator[str]:
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"):
        try:
            yield os.readlink(f"/proc/{pid}/ns/{kind}")
        except OSError:
            continue


# --- what the kernel keeps besides ------------------------------------------------------------------------------------


def _mounts(pid: int | str) -> Iterator[str]:
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        left, _, right = line.partition(" - ")
        point, (kind, source) = left.split()[4], right.split()[:2]
        yield f"{point} ({kind} {source})"


def _cgroups(accounts: tuple[Account, ...]) -> Iterator[str]:
    """Control groups that belong to an unprivileged account of ours, or to root and are named for us."""
    uids = {account.uid for account in accounts}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup" not in line:
            continue
        for directory, _, _ in os.walk(line.split()[4]):
            try:
                owner = os.stat(directory).st_uid
                if owner in uids and (owner or "jubako" in directory):
                    yield directory
            except FileNotFoundError:
                continue


def _system_v(accounts: tuple[Account, ...]) -> Iterator[str]:
    for kind, owner in (("shm", 7), ("msg", 7), ("sem", 4)):
        for line in Path("/proc/sysvipc", kind).read_text().splitlines()[1:]:
            fields = line.split()
            if any(account.owns(int(fields[owner])) for account in accounts if account.uid):
                yield f"{kind} {fields[1]}"


def _descriptors() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        try:
            yield f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}"
        except FileNotFoundError:  # the listing's own
            continue


# --- files ------------------------------------------------------------------------------------------------------------


def _files(account: Account) -> Iterator[str]:
    places = Directories.of(account)
    yield from _tree(places.run, 6)
    yield from _tree(places.data, 3)
    for directory in ("/tmp", "/var/tmp", "/dev/shm", account.home, account.runtime_directory):
        for entry in _entries(directory):
            if entry.name.startswith(_FOREIGN) or Path(entry.path) == places.run:
                continue
            try:
                owner = entry.stat(follow_symlinks=False).st_uid
            except OSError:
                continue
            if account.owns(owner) if account.uid else (owner == 0 and "jubako" in entry.name):
                yield entry.path


def _tree(top: Path, depth: int) -> Iterator[str]:
    """The files below `top`, and the directories that stand for something, but for what is meant to stay."""
    for entry in _entries(top):
        if entry.name in _STAYING_NAMES or entry.name.endswith(_STAYING_ENDINGS):
            continue
        if not entry.is_dir(follow_symlinks=False):
            yield entry.path
        elif depth == 1 or top.name in _COLLECTIONS:
            yield entry.path + "/"
        else:
            yield from _tree(Path(entry.path), depth - 1)


def _entries(directory: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
