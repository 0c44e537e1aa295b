"""`top`: which of the host's processes are a container's, by the PID namespace that they are in.

Namespaces are compared by inode, of processes whose owners are subordinate ids and which may be hidden: so the look is
taken from inside the base user namespace. Namespaces below the container's count (ioctl_ns(2), `NS_GET_PARENT`).
"""

from __future__ import annotations

import fcntl
import os
import subprocess

from jubako.engine import store
from jubako.engine.launch import container_namespaces
from jubako.errors import JubakoError
from jubako.paths import Paths
from jubako.runtime.base import in_base

NS_GET_PARENT = 0xB702
_DEFAULT = ("-ef",)


def container_processes(paths: Paths, container: store.Container) -> list[int]:
    """The pids of the container's processes as the host counts them."""
    namespaces = container_namespaces(paths, container)
    try:
        own = os.fstat(namespaces["pid"]).st_ino
    finally:
        for fd in namespaces.values():
            os.close(fd)
    if own == os.stat("/proc/self/ns/pid").st_ino:
        return _family(container.state.pid)
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def look() -> None:
        os.write(writer, ",".join(map(str, _members(own))).encode()[: 1 << 16])

    with open(reader, "rb") as found:
        try:
            if os.geteuid() == 0:
                look()
            else:
                in_base(paths, look)
        finally:
            os.close(writer)
        members = [int(pid) for pid in found.read().split(b",") if pid]
    return [pid for pid in members if pid != container.state.monitor]


def process_table(paths: Paths, container: store.Container, options: tuple[str, ...]) -> list[str]:
    """The lines of ps(1) for the container's processes, with its own options."""
    pids = {str(pid) for pid in container_processes(paths, container)}
    try:
        done = subprocess.run(
            ("ps", *(options or _DEFAULT)), capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError:
        raise JubakoError("list processes", reason="there is no ps here", hint="install the package procps") from None
    if done.returncode:
        raise JubakoError("list processes", " ".join(("ps", *options)), reason=done.stderr.strip().partition("\n")[0])
    title, *lines = done.stdout.splitlines()
    if "PID" not in title.split():
        raise JubakoError("list processes", " ".join(("ps", *options)), reason="the column PID is needed")
    column = title.split().index("PID")
    return [title, *(line for line in lines if line.split(None, column + 1)[column : column + 1][0] in pids)]


def _members(own: int) -> list[int]:
    """The processes in the PID namespace `own` and in those below it."""
    known = {own: True}
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            number = os.stat(f"/proc/{name}/ns/pid").st_ino
            if number not in known:
                known[number] = _is_below(f"/proc/{name}/ns/pid", own)
        except OSError:  # it has ended, or is none of ours
            continue
        if known[number]:
            found.append(int(name))
    return sorted(found)


def _is_below(path: str, own: int) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            if os.fstat(fd).st_ino == own:
                return True
            try:
                parent = fcntl.ioctl(fd, NS_GET_PARENT)
            except OSError:  # EPERM: the parent is not below ours
                return False
            os.close(fd)
            fd = parent
    finally:
        os.close(fd)


def _family(pid: int) -> list[int]:
    """The process and its descendants: all there is to go by where the PID namespace is shared with the host."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sorted(family & set(parents))
