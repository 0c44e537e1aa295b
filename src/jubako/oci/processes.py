"""`ps`: which processes are the container's, as the caller sees them (runc's `ps`, which engines read as JSON).

A container with a control group has all that are in it. Without one the kernel tells by the PID namespace, or, where
that is shared, by whose children they are: who left its family there is not found any more.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError, UsageError
from jubako.linux.clone import namespace_path, parent_namespace
from jubako.oci.groups import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def container_pids(group: str, init: int) -> tuple[int, ...]:
    """The container's processes, its first one included as long as it lives; in ascending order."""
    if group:
        return tuple(sorted(processes(group)))
    own, its = _namespace("self"), _namespace(init)
    if not its:
        return ()
    if its == own:
        return _family(init)
    return tuple(pid for pid in _all_pids() if its in _namespaces_around(pid, own))


def show_processes(pids: Collection[int], arguments: Sequence[str] = ()) -> str:
    """What ps(1) shows of `pids`: its header and their lines. `arguments` are ps's own, `-ef` if there are none."""
    import subprocess

    words = ("ps", *(arguments or ("-ef",)))
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True, errors="replace")
    except OSError as failure:
        raise JubakoError.from_os_error("run", "ps", failure, "install procps, or ask for --format json") from failure
    if done.returncode:
        raise UsageError("run", " ".join(words), reason=done.stderr.strip() or f"it exited with {done.returncode}")
    header, *lines = done.stdout.splitlines() or [""]
    if "PID" not in header.split():
        raise UsageError("run", " ".join(words), reason="its output has no column PID")
    column = header.split().index("PID")
    wanted = {str(pid) for pid in pids}
    shown = [line for line in lines if wanted.intersection(line.split()[column : column + 1])]
    return "".join(f"{line}\n" for line in (header, *shown))


def _all_pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def _namespace(pid: int | str) -> tuple[int, ...]:
    """Which PID namespace a process is in (device and inode of its file); empty of one that is gone or hidden."""
    try:
        found = os.stat(f"/proc/{pid}/ns/pid")
    except OSError:
        return ()
    return found.st_dev, found.st_ino


def _namespaces_around(pid: int, own: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The PID namespaces that hold a process, from its own outwards, up to the caller's."""
    found: list[tuple[int, ...]] = []
    try:
        fd = os.open(namespace_path(pid, "pid"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return found
    try:
        while True:
            status = os.fstat(fd)
            found.append((status.st_dev, status.st_ino))
            if found[-1] == own:
                return found
            outer = parent_namespace(fd)
            os.close(fd)
            fd = outer
    except OSError:  # further out is nothing of the caller's
        return found
    finally:
        os.close(fd)


def _family(init: int) -> tuple[int, ...]:
    """A process and its descendants, by who is whose parent now."""
    children: dict[int, list[int]] = {}
    for pid in _all_pids():
        try:
            with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
                parent = int(file.read(4096).rpartition(b")")[2].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(pid)
    found, left = [], [init]
    while left:
        pid = left.pop()
        found.append(pid)
        left += children.get(pid, [])
    return tuple(sorted(found))
