"""Where a container's control group is: below the caller's own, if that was delegated to this user (cgroups(7)).

Without one, containers run all the same; what needs a group (pausing, limits) is refused with the reason.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError
from jubako.linux import cgroup

NEEDED = "no control group of the unified hierarchy (cgroup v2) is delegated to this user"
HINT = "jubako doctor says what is missing; on systemd: systemd-run --user --scope -p Delegate=yes jubako …"


def find_parent() -> tuple[str, str]:
    """The directory of the caller's own group if containers' groups can be made below it, else ("", the reason)."""
    mounted = cgroup.mount_point()
    own = cgroup.own_group()
    if mounted is None or own is None:
        return "", "cgroup v2 is not mounted"
    point, root = mounted
    if point != "/sys/fs/cgroup":
        return "", f"cgroup v2 is only a side hierarchy here ({point}), the controllers are v1"
    if not (own + "/").startswith(root.rstrip("/") + "/"):
        return "", f"the caller's group {own} lies outside of what is mounted at {point}"
    directory = os.path.normpath(point + "/" + own[len(root.rstrip("/")) :])
    if not os.access(directory, os.W_OK) or not os.access(directory + "/cgroup.procs", os.W_OK):
        return "", f"{directory} is not delegated to this user"
    return directory, "below the caller's own group, which this user may write"


def plan_group(identifier: str, parent: str = "") -> str:
    """Where a container's group will be; empty where there can be none. A `parent` that was asked for must work."""
    directory, reason = find_parent()
    if parent:
        if not directory:
            raise JubakoError("make cgroup below", parent, reason=reason, hint=HINT)
        directory = os.path.join("/sys/fs/cgroup", parent.strip("/"))
    return f"{directory}/jubako-{identifier[:16]}" if directory else ""


def make_group(group: str, *, required: bool = False) -> str:
    """Make the group that `plan_group` named; empty if that cannot be and it is not `required`."""
    try:
        os.makedirs(group, 0o755, exist_ok=True)
    except OSError as failure:
        if required:
            raise JubakoError.from_os_error("make cgroup", group, failure, HINT) from failure
        return ""
    return group


def remove_group(group: str) -> None:
    """End whatever is still in the group and remove it; a group that is gone is fine."""
    import time

    if not group or not os.path.isdir(group):
        return
    cgroup.kill(group)
    for _attempt in range(100):
        try:
            cgroup.remove(group)
            return
        except FileNotFoundError:
            return
        except OSError:  # EBUSY: the kernel is still taking the last process away
            time.sleep(0.01)
