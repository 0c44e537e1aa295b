"""What is done to a container's control group once it is there: freeze, signal, count, place, remove (cgroup-v2).

Each takes the group's directory as the container's state has it; an empty one says that the container has none.
"""

from __future__ import annotations

import errno
import os

from jubako.errors import JubakoError
from jubako.linux import cgroup
from jubako.oci.cgroups import OWN_PARENT

NO_GROUP = "the container has no control group of its own"
NO_GROUP_HINT = "start it where a group is delegated: systemd-run --user --scope -p Delegate=yes COMMAND"

_PATIENCE = 10.0
"""Seconds that the kernel gets for what it does in a millisecond when the machine is idle."""


def freeze_group(group: str, seconds: float = _PATIENCE) -> None:
    """Stop every process of the group and below; returns when all of them stand still. A failure lets all go on."""
    _write_freeze(group, True)
    if not cgroup.wait_until(group, "frozen", 1, seconds):
        _write_freeze(group, False)
        raise JubakoError("freeze", group, reason=f"its processes did not stop in {seconds:g} s")


def thaw_group(group: str, seconds: float = _PATIENCE) -> None:
    """Let them go on; returns when they do."""
    _write_freeze(group, False)
    if not cgroup.wait_until(group, "frozen", 0, seconds):
        raise JubakoError("thaw", group, reason="a group above it is frozen")


def is_group(group: str) -> bool:
    """Whether the directory is a control group, and not the root of the hierarchy, in which the whole machine is."""
    return os.path.isabs(group) and os.path.isfile(f"{group}/cgroup.events")


def signal_group(group: str, number: int) -> None:
    """Send a signal to every process of the group and below; SIGKILL also to those that stand still."""
    try:
        if number == 9:
            cgroup.kill(group)
        else:
            cgroup.signal(group, number)
    except FileNotFoundError:  # the group is gone, and all in it
        return
    except OSError as failure:
        raise JubakoError.from_os_error(f"send signal {number} to", group, failure) from failure


def processes(group: str, recursive: bool = True) -> tuple[int, ...]:
    """The pids in the group, and in those below it, as the caller sees them; none of a group that is gone."""
    try:
        return cgroup.processes_below(group) if recursive else tuple(pid for pid in cgroup.processes(group) if pid)
    except FileNotFoundError:
        return ()


def group_to_join(group: str, init: int) -> str:
    """Into which group a process is born that joins the container (`exec`): `group`, or where the container's first
    process is, if the container has handed controllers to groups of its own; then `group` takes no process any more."""
    try:
        if not cgroup.read(group, "cgroup.subtree_control").strip():
            return group
        there = cgroup.directory_of(init)
    except OSError:  # one of the two is gone: whoever uses the group will say so
        return group
    return there if f"{there}/".startswith(f"{group}/") else group


def remove_group(group: str, unit: str = "", seconds: float = _PATIENCE) -> None:
    """End what is still in the group and remove it with all that the container made below; one that is gone is fine.

    The kernel takes the last processes away a moment after they have ended; until then the directories are busy. A
    `unit` of systemd is stopped.
    """
    if group and os.path.isdir(group):
        _empty_group(group, seconds)
    if unit:
        from jubako.oci.cgroups import is_rootless
        from jubako.oci.systemd import stop_unit

        stop_unit(unit, is_rootless())


def _empty_group(group: str, seconds: float) -> None:
    import time

    end = time.monotonic() + seconds
    wait = 0.001
    while True:
        try:
            if cgroup.events(group).get("populated"):
                cgroup.kill(group)
                cgroup.wait_until(group, "populated", 0, end - time.monotonic())
            cgroup.remove(group)
            break
        except FileNotFoundError:
            if not os.path.isdir(group):
                break
            if time.monotonic() > end:
                raise JubakoError("remove cgroup", group, reason="it is no control group") from None
        except OSError as failure:
            if failure.errno != errno.EBUSY or time.monotonic() > end:
                left = ", ".join(map(str, processes(group))) or "none that is seen from here"
                hint = f"processes in it: {left}"
                raise JubakoError.from_os_error("remove cgroup", group, failure, hint) from failure
        time.sleep(wait)
        wait = min(2 * wait, 0.1)
    parent = os.path.dirname(group)
    if os.path.basename(parent) == OWN_PARENT:
        try:
            os.rmdir(parent)
        except OSError:  # it has others
            pass


def _write_freeze(group: str, frozen: bool) -> None:
    try:
        cgroup.freeze(group, frozen)
    except OSError as failure:
        word = "freeze" if frozen else "thaw"
        hint = "this kernel cannot freeze groups (Linux 5.2 can)" if failure.errno == errno.ENOENT else ""
        raise JubakoError.from_os_error(word, group, failure, hint) from failure
