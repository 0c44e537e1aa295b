"""Moving this control group's processes into a group below it (cgroup v2, "No Internal Process Constraint").

Only a group without processes may give controllers to the groups below it. A container engine in the fake root wants
to do that with the group that it finds itself in.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError
from jubako.linux.mount import unescape

_EVACUATE = "evacuate the control group into"


def evacuate(name: str) -> None:
    """Move all processes of this process's group into the group `name` below it, and give on all controllers."""
    mounted, own = _mount_point(), _own_group()
    if not mounted or not own:
        raise JubakoError(_EVACUATE, name, reason="no control group of version 2 is mounted here", hint="leave it out")
    outer = os.path.normpath(f"{mounted}/{own}")
    inner = f"{outer}/{name}"
    try:
        os.makedirs(inner, 0o755, exist_ok=True)
        with open(f"{outer}/cgroup.procs") as file:
            pids = file.read().split()
        for pid in pids:
            if pid != "0":
                _move(inner, pid)
    except OSError as failure:
        hint = "the group has to be yours: start in one that was delegated (systemd-run --user --scope -p Delegate=yes)"
        raise JubakoError.from_os_error(_EVACUATE, inner, failure, hint) from failure
    _give_controllers(outer)


def _move(group: str, pid: str) -> None:
    try:
        _write(f"{group}/cgroup.procs", pid)
    except ProcessLookupError:  # it has ended
        return


def _give_controllers(group: str) -> None:
    """As many as can be: which ones there are is the administrator's choice."""
    try:
        with open(f"{group}/cgroup.controllers") as file:
            controllers = file.read().split()
    except OSError:
        return
    for controller in controllers:
        try:
            _write(f"{group}/cgroup.subtree_control", f"+{controller}")
        except OSError:
            continue


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _mount_point() -> str:
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            fields = line.split()
            if fields[fields.index(b"-") + 1] == b"cgroup2":
                return os.fsdecode(unescape(fields[4]))
    return ""


def _own_group() -> str:
    with open("/proc/self/cgroup") as file:
        for line in file:
            if line.startswith("0::"):
                return line.rstrip("\n")[3:]
    return ""
