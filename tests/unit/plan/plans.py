"""Facts of hosts made by hand, and specs as the engine would hand them to the planner."""

from __future__ import annotations

from typing import Any

from jubako.plan.container import Extras, plan_container
from jubako.plan.host import Host, HostTree, RootSource
from jubako.plan.step import Plan
from jubako.record import replace
from jubako.spec.defaults import default
from jubako.spec.types import IdMapping, Namespace, Spec

STAGE, FOREIGN = "/run/jubako/stage", "/run/jubako/proc"
TREE = HostTree(("/etc", "/usr"), (("/bin", "usr/bin"),), (("/tmp", 0o1777),), ("/opt/home",))
USER = Host(STAGE, FOREIGN, tree=TREE)
ROOT = Host(STAGE, FOREIGN, privileged=True, tree=TREE)
BASE_MAP = (IdMapping(0, 0, 1), IdMapping(1, 1, 65536))
ALL = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup")


def make_spec(
    new: tuple[str, ...] = ALL,
    joined: tuple[str, ...] = (),
    maps: tuple[IdMapping, ...] = BASE_MAP,
    process: dict[str, Any] | None = None,
    linux: dict[str, Any] | None = None,
    **fields: Any,
) -> Spec:
    """The default document with these namespaces; `process` and `linux` change parts of it."""
    spec = default(("/bin/true",))
    spaces = (*(Namespace(kind) for kind in new), *(Namespace(kind, f"/ns/{kind}") for kind in joined))
    mapped = {"uid_mappings": maps, "gid_mappings": maps} if "user" in new else {}
    return replace(
        spec,
        linux=replace(spec.linux, **{"namespaces": spaces, **mapped, **(linux or {})}),
        process=replace(spec.process, **(process or {})),
        **fields,
    )


def make_plan(
    spec: Spec | None = None, host: Host = USER, root: RootSource = RootSource("directory", "/rootfs"), **extras: Any
) -> Plan:
    """The plan, its slots checked: no planner may ever hand out one that does not hold."""
    plan = plan_container(make_spec() if spec is None else spec, host, Extras(root, **extras))
    plan.check_slots()
    return plan


def names(plan: Plan) -> list[str]:
    """The steps' names, in order."""
    return [type(step).__name__ for step in plan.steps]


def only(plan: Plan, name: str) -> Any:
    """The one step of this name."""
    (found,) = steps(plan, name)
    return found


def steps(plan: Plan, name: str) -> list[Any]:
    """All steps of this name, in order."""
    return [step for step in plan.steps if type(step).__name__ == name]


def in_order(plan: Plan, *wanted: str) -> bool:
    """Whether each of these steps is there, the first time after the one named before it."""
    found = [names(plan).index(name) for name in wanted]
    return found == sorted(found)
