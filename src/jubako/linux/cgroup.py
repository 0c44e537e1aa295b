"""The unified control group hierarchy: cgroups(7), "Control Group v2" of the kernel's documentation."""

from __future__ import annotations

import os


def own_group(pid: int | str = "self") -> str | None:
    """The v2 group of a process as `/proc/PID/cgroup` names it ("/user.slice/…"); None without a v2 hierarchy."""
    with open(f"/proc/{pid}/cgroup", "rb", buffering=0) as file:
        for line in file.read(1 << 16).splitlines():
            if line.startswith(b"0::"):
                return os.fsdecode(line[3:])
    return None


def mount_point() -> tuple[str, str] | None:
    """(where cgroup2 is mounted, which group is that mount's root), the first one in mountinfo; None if nowhere."""
    with open("/proc/self/mountinfo", "rb", buffering=0) as file:
        text = b"".join(iter(lambda: file.read(1 << 16), b""))
    for line in text.splitlines():
        left, _, right = line.partition(b" - ")
        if right.startswith(b"cgroup2 "):
            fields = left.split()
            return os.fsdecode(fields[4]), os.fsdecode(fields[3])
    return None


def write(group: str, name: str, value: str) -> None:
    """Write one interface file of the group directory `group`."""
    fd = os.open(os.path.join(group, name), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read(group: str, name: str) -> str:
    """The text of one interface file of the group directory `group`."""
    with open(os.path.join(group, name), "rb", buffering=0) as file:
        return file.read(1 << 16).decode()


def add_process(group: str, pid: int) -> None:
    """Move the process (all its threads) into the group; 0 is the caller."""
    write(group, "cgroup.procs", str(pid))


def freeze(group: str, frozen: bool) -> None:
    """Stop (or go on with) every process of the group and of those below it."""
    write(group, "cgroup.freeze", "1" if frozen else "0")


def events(group: str) -> dict[str, int]:
    """`cgroup.events`: populated, frozen."""
    return {key: int(value) for key, value in (line.split() for line in read(group, "cgroup.events").splitlines())}


def processes(group: str) -> tuple[int, ...]:
    """The pids in the group, as the caller's PID namespace counts them."""
    return tuple(int(pid) for pid in read(group, "cgroup.procs").split())


def kill(group: str) -> None:
    """SIGKILL to everything in the group and below (Linux 5.14; before that: freeze, kill each, thaw)."""
    try:
        write(group, "cgroup.kill", "1")
    except FileNotFoundError:
        _kill_each(group)


def _kill_each(group: str) -> None:
    freeze(group, True)
    try:
        for directory, _names, _files in os.walk(group):
            for pid in processes(directory):
                try:
                    if pid:  # 0 is one that this PID namespace does not see, and to kill(2) the caller's own group
                        os.kill(pid, 9)
                except ProcessLookupError:
                    continue
    finally:
        freeze(group, False)


def remove(group: str) -> None:
    """Remove the group and those below it, deepest first; all must be empty of processes."""
    for directory, names, _files in os.walk(group, topdown=False):
        for name in names:
            os.rmdir(os.path.join(directory, name))
    os.rmdir(group)
