"""`top`: the processes of a container, as it numbers them and as the host does (proc(5), pid_namespaces(7)).

A process is the container's if it is in the container's PID namespace or comes from one that is. Whose namespace a
process is in may be asked only with rights over it, so /proc is read from the base user namespace, which has them over
all containers.
"""

from __future__ import annotations

import os
import subprocess

from jubako import jsontext
from jubako.engine import store
from jubako.engine.launch import container_namespaces, not_running, read_request
from jubako.errors import JubakoError
from jubako.ids.idmap import read_id_map
from jubako.paths import Paths
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STATES = {"R": "running", "S": "sleeping", "D": "waiting", "T": "stopped", "t": "traced", "Z": "zombie", "I": "idle"}


@record
class Process:
    """One process. `uid`, `pid` and `ppid` are the container's numbers (`uid` -1: unknown there), `host_pid` is the
    host's; `elapsed` and `cpu` are seconds."""

    uid: int
    pid: int
    ppid: int
    host_pid: int
    state: str
    elapsed: float
    cpu: float
    command: str


@record
class _Entry:
    """What /proc says of one process before it is known whose it is."""

    pid: int
    ppid: int
    namespace: int
    inside: int


def list_processes(paths: Paths, container: store.Container) -> tuple[Process, ...]:
    """The processes of a running container, in the order of their pids. Raises `JubakoError` if it does not run.

    Where the PID namespace is shared (`--pid host`, `--pid container:NAME`), those that its first process has started.
    """
    if not container.running:
        raise not_running(container.name)
    namespace = 0
    request = read_request(container)
    joined = any(join.type == "pid" for join in request.extras.joins)
    if not joined and any(entry.type == "pid" and not entry.path for entry in request.spec.linux.namespaces):
        namespaces = container_namespaces(paths, container)
        namespace = os.fstat(namespaces["pid"]).st_ino
        for fd in namespaces.values():
            os.close(fd)
    found = _ask_inside(paths, container.state.pid, namespace)
    return tuple(Process(*values) for values in found)


def process_table(paths: Paths, container: store.Container, options: tuple[str, ...]) -> list[str]:
    """The lines of ps(1) for the container's processes, with its own options."""
    pids = {str(process.host_pid) for process in list_processes(paths, container)}
    try:
        done = subprocess.run(("ps", *options), capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise JubakoError("list processes", reason="there is no ps here", hint="install the package procps") from None
    if done.returncode:
        raise JubakoError("list processes", " ".join(("ps", *options)), reason=done.stderr.strip().partition("\n")[0])
    title, *lines = done.stdout.splitlines()
    if "PID" not in title.split():
        raise JubakoError("list processes", " ".join(("ps", *options)), reason="the column PID is needed")
    column = title.split().index("PID")
    return [title, *(line for line in lines if line.split(None, column + 1)[column : column + 1][0] in pids)]


def _ask_inside(paths: Paths, init: int, namespace: int) -> list[list[Any]]:
    """`_read_processes` by a child in the base user namespace; its answer comes back in a memory file."""
    if os.geteuid() == 0:
        return _read_processes(init, namespace)
    from jubako.runtime.base import in_base

    memory = os.memfd_create("jubako-top", os.MFD_CLOEXEC)
    try:
        in_base(paths, lambda: _write_answer(memory, _read_processes(init, namespace)))
        with open(memory, "rb", closefd=False) as file:
            file.seek(0)
            found: list[list[Any]] = jsontext.loads(file.read())
        return found
    finally:
        os.close(memory)


def _write_answer(memory: int, found: list[list[Any]]) -> None:
    with open(memory, "wb", closefd=False) as file:
        file.write(jsontext.dumps(found).encode("utf-8", "surrogateescape"))


def _read_processes(init: int, namespace: int) -> list[list[Any]]:
    """The fields of a `Process` for each one in `namespace` or descended from one in it, or from `init`."""
    entries = {entry.pid: entry for entry in map(_read_entry, _pids()) if entry is not None}
    members = [pid for pid in sorted(entries) if _is_member(entries, pid, init, namespace)]
    try:
        uids = read_id_map(f"/proc/{init}/uid_map")
    except JubakoError:  # it has just ended
        return []
    found: list[list[Any]] = []
    now, ticks = _uptime(), os.sysconf("SC_CLK_TCK")
    for pid in members:
        try:
            fields = _stat_fields(pid)
            uid = uids.to_inside(os.stat(f"/proc/{pid}").st_uid)
            command = _command(pid, fields[0])
        except OSError:
            continue
        entry = entries[pid]
        parent = entries.get(entry.ppid)
        found.append([
            -1 if uid is None else uid,
            entry.inside,
            parent.inside if parent is not None and entry.ppid in members else 0,
            pid,
            _STATES.get(fields[1], fields[1]),
            round(max(0.0, now - int(fields[20]) / ticks), 2),
            (int(fields[12]) + int(fields[13])) / ticks,
            command,
        ])  # fmt: skip
    return found


def _is_member(entries: dict[int, _Entry], pid: int, init: int, namespace: int) -> bool:
    for _generation in range(len(entries)):  # a pid that was used again could close a circle
        entry = entries.get(pid)
        if entry is None:
            return False
        if pid == init or (namespace and entry.namespace == namespace):
            return True
        pid = entry.ppid
    return False


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read_entry(pid: int) -> _Entry | None:
    """What is known of process `pid`; None if it has just ended."""
    try:
        fields = _stat_fields(pid)
        try:
            namespace = os.stat(f"/proc/{pid}/ns/pid").st_ino
        except PermissionError:  # not of ours
            namespace = 0
        return _Entry(pid, int(fields[2]), namespace, _inner_pid(pid))
    except (OSError, ValueError, IndexError):
        return None


def _inner_pid(pid: int) -> int:
    with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
        for line in file.read(1 << 14).splitlines():
            if line.startswith(b"NSpid:"):
                return int(line.split()[-1])
    return pid


def _stat_fields(pid: int) -> list[str]:
    """The name, then the fields of /proc/PID/stat from the state on; the name may hold anything, parentheses too."""
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        text = file.read(1 << 12).decode("utf-8", "surrogateescape")
    name, _, rest = text.partition("(")[2].rpartition(")")
    return [name, *rest.split()]


def _command(pid: int, name: str) -> str:
    """The command line, or the name in brackets for one that has none (a zombie)."""
    with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
        words = file.read(1 << 16).rstrip(b"\0").split(b"\0")
    return b" ".join(words).decode("utf-8", "surrogateescape") or f"[{name}]"


def _uptime() -> float:
    with open("/proc/uptime", "rb", buffering=0) as file:
        return float(file.read(64).split()[0])
