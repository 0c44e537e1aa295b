"""The plan of `exec`: a program in the namespaces of a container that runs already (setns(2), nsenter(1)).

What runs in the container is hostile and awake now. So the process that joins is hidden (not dumpable) before it
enters, looks nothing up in the container's /proc, and becomes the program by a path verified beforehand.
"""

from __future__ import annotations

from jubako.plan.becoming import plan_program
from jubako.plan.extras import Extras
from jubako.plan.host import Host
from jubako.plan.step import Plan, Step
from jubako.plan.steps import joining, namespaces, process
from jubako.spec.types import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PARENT = "parent"
"""The user namespace around the container's own, where it is not the caller's: the base it was started in."""


def plan_joined(program: Process, kinds: tuple[str, ...], host: Host, extras: Extras, *, detached: bool) -> Plan:
    """The plan that runs `program` in the namespaces `kinds`, joined in this order, whose descriptors are in the slots
    "ns:TYPE"."""
    steps = tuple(_steps(program, kinds, host, extras, detached))
    return Plan(steps, (*(f"ns:{kind}" for kind in kinds), *extras.streams))


def _steps(program: Process, kinds: tuple[str, ...], host: Host, extras: Extras, detached: bool) -> Iterator[Step]:
    yield joining.CloneJoiner(0)
    if extras.cgroup:
        yield joining.EnterCgroup(extras.cgroup)
    yield joining.HideJoiner()
    for kind in kinds:
        yield namespaces.JoinNamespace("user" if kind == PARENT else kind, f"ns:{kind}")
    yield joining.CloneJoined(0)
    if "user" in kinds:
        yield namespaces.TakeRootIds(keep_groups=host.setgroups_denied)
    yield process.BeginSession()
    yield process.HideProcess()
    yield from plan_program(program, host, extras, create_directory=False, joined=True, tied=not detached)
