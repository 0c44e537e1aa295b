"""The unified control group hierarchy: cgroups(7), "Control Group v2" of the kernel's documentation."""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


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


def directory_of(pid: int | str = "self") -> str:
    """The directory of a process's v2 group; empty where that is not mounted, or lies outside of what is."""
    mounted, own = mount_point(), own_group(pid)
    if mounted is None or own is None:
        return ""
    point, root = mounted[0], mounted[1].rstrip("/")
    # A group outside of the caller's cgroup namespace is told as "/../other".
    if "/.." in own or not f"{own}/".startswith(f"{root}/"):
        return ""
    return f"{point}{own[len(root) :]}".rstrip("/")


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
        return file.readall().decode()


def is_frozen(group: str) -> bool:
    """Whether the group was told to stand still; False for one that is gone."""
    try:
        return bool(group) and read(group, "cgroup.freeze").strip() == "1"
    except OSError:
        return False


def controllers(group: str) -> tuple[str, ...]:
    """Which controllers the group has: its limits of these can be set."""
    return tuple(read(group, "cgroup.controllers").split())


def add_process(group: str, pid: int) -> None:
    """Move the process (all its threads) into the group; 0 is the caller."""
    write(group, "cgroup.procs", str(pid))


def open_group(group: str) -> int:
    """A descriptor of the group's directory, for `clone` and for who will not see its path any more."""
    return os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def add_process_at(group: int, pid: int) -> None:
    """`add_process` for a group that is held by a descriptor."""
    fd = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=group)
    try:
        os.write(fd, str(pid).encode())
    finally:
        os.close(fd)


def freeze(group: str, frozen: bool) -> None:
    """Stop (or go on with) every process of the group and of those below it."""
    write(group, "cgroup.freeze", "1" if frozen else "0")


def events(group: str) -> dict[str, int]:
    """`cgroup.events`: populated, frozen."""
    return numbers(read(group, "cgroup.events"))


def numbers(text: str) -> dict[str, int]:
    """A flat-keyed file: a name and a number on each line."""
    return {key: int(value) for key, value in (line.split() for line in text.splitlines())}


def wait_until(group: str, event: str, value: int, seconds: float) -> bool:
    """Wait until `cgroup.events` says that `event` is `value`; False if it does not in time.

    A group that is gone has no process any more. The kernel wakes who polls the file as soon as it changes.
    """
    import select
    import time

    end = time.monotonic() + seconds
    try:
        fd = os.open(os.path.join(group, "cgroup.events"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return event == "populated" and value == 0
    try:
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        while True:
            if numbers(os.pread(fd, 4096, 0).decode()).get(event) == value:
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            poller.poll(min(left, 1) * 1000)
    except OSError:  # ENODEV: the group was removed meanwhile
        return event == "populated" and value == 0
    finally:
        os.close(fd)


def processes(group: str) -> tuple[int, ...]:
    """The pids in the group, as the caller's PID namespace counts them; 0 is one that it does not see."""
    return tuple(int(pid) for pid in read(group, "cgroup.procs").split())


def processes_below(group: str) -> tuple[int, ...]:
    """The pids in the group and in all those below it, without those that the caller's PID namespace does not see."""
    found: list[int] = []

    def look(directory: int) -> None:
        found.extend(pid for pid in _pids(directory) if pid)

    _visit(group, look)
    return tuple(dict.fromkeys(found))  # who moves meanwhile is seen twice


def kill(group: str) -> None:
    """SIGKILL to everything in the group and below (Linux 5.14; before that: freeze, kill each, thaw)."""
    try:
        write(group, "cgroup.kill", "1")
    except FileNotFoundError:
        signal(group, 9)


def signal(group: str, number: int) -> None:
    """A signal to everything in the group and below, which is frozen meanwhile: nothing escapes by forking."""
    frozen = read(group, "cgroup.freeze").strip() == "1"
    freeze(group, True)
    try:
        for pid in processes_below(group):  # never 0, which is to kill(2) the caller's own group
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
    finally:
        if not frozen:
            freeze(group, False)


def remove(group: str) -> None:
    """Remove the group and those below it, deepest first; all must be empty of processes.

    However deep the container nested its groups, neither the stack nor a path grows with them.
    """
    place, _, name = group.rstrip("/").rpartition("/")
    names = [name]
    directory = _open(group)
    try:
        while names:
            below = next(iter(_subgroups(directory)), "")
            if below:
                names.append(below)
                directory = _step(directory, below)
            elif len(names) > 1:
                directory = _step(directory, "..")
                os.rmdir(names.pop(), dir_fd=directory)
            else:
                os.rmdir(f"{place}/{names.pop()}")
    finally:
        os.close(directory)


# --- groups below a group ---------------------------------------------------------------------------------------------


def _visit(group: str, look: Callable[[int], None]) -> None:
    """Call `look` with a descriptor of the group and of each below it; those that go meanwhile are left out."""
    directory = _open(group)
    try:
        look(directory)
        left = [_subgroups(directory)]
        while left:
            if not left[-1]:
                left.pop()
                if left:
                    directory = _step(directory, "..")
                continue
            try:
                directory = _step(directory, left[-1].pop())
            except FileNotFoundError:
                continue
            left.append([])
            try:
                look(directory)
                left[-1] = _subgroups(directory)
            except OSError as failure:
                if failure.errno not in (errno.ENOENT, errno.ENODEV):
                    raise
    finally:
        os.close(directory)


def _open(path: str, directory: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)


def _step(directory: int, name: str) -> int:
    """Go on to `name` of the open directory, which is closed."""
    there = _open(name, directory)
    os.close(directory)
    return there


def _subgroups(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _pids(directory: int) -> tuple[int, ...]:
    for name in ("cgroup.procs", "cgroup.threads"):  # a threaded group does not tell its processes
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
            with open(fd, "rb", buffering=0) as file:
                return tuple(int(pid) for pid in file.readall().split())
        except OSError as failure:
            if failure.errno != errno.EOPNOTSUPP:
                raise
    return ()
