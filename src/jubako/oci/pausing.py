"""`pause` and `resume`: the kernel stops every process of the container's group (cgroup-v2, `cgroup.freeze`).

As with runc, what is created or running may be paused, and only what is paused may be resumed.
"""

from __future__ import annotations

from jubako.errors import JubakoError, UsageError
from jubako.oci.groups import NO_GROUP, NO_GROUP_HINT, freeze_group, thaw_group


def pause(identifier: str, group: str, status: str) -> None:
    """Stop all processes of the container; returns when they stand still."""
    if status not in ("running", "created"):
        raise UsageError("pause container", identifier, reason=f"it is not running: {status}")
    freeze_group(_needed("pause container", identifier, group))


def resume(identifier: str, group: str, status: str) -> None:
    """Let them go on."""
    if status != "paused":
        raise UsageError("resume container", identifier, reason=f"it is not paused: {status}")
    thaw_group(_needed("resume container", identifier, group))


def _needed(operation: str, identifier: str, group: str) -> str:
    if not group:
        raise JubakoError(operation, identifier, reason=NO_GROUP, hint=NO_GROUP_HINT)
    return group
