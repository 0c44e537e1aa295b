"""What the parts of a document that name attributes of the kernel's may say: scheduling, memory policy, devices of the
network, resctrl, personality. OCI runtime-spec 1.3, config.md and config-linux.md; sched_setattr(2), ioprio_set(2),
set_mempolicy(2), personality(2).
"""

from __future__ import annotations

from jubako.spec.shape import Wrong, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from jubako.spec.types import (
        CpuAffinity,
        IdMapping,
        IntelRdt,
        IoPriority,
        MemoryPolicy,
        NetDevice,
        Personality,
        Scheduler,
    )

POLICIES = ("SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE")
SCHEDULER_FLAGS = (
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
)
IO_CLASSES = ("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")
MEMORY_MODES = (
    "MPOL_DEFAULT",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
)
MEMORY_FLAGS = ("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES")

_DEVICE_NAME_MOST = 15  # IFNAMSIZ with its NUL
_NUMBER_MOST = 8191  # CONFIG_NR_CPUS and CONFIG_NODES_SHIFT of no distribution give more


def read_numbers(text: str) -> tuple[int, ...]:
    """The numbers of a list as cpuset(7) writes it, "0-3,7", each once and in order. Raises `Wrong`."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_number(first) or (dash and not _is_number(last)):
            raise Wrong(f"must be a list of numbers such as 0-3,7, not {quoted(text)}")
        low, high = int(first), int(last or first)
        if low > high or high > _NUMBER_MOST:
            raise Wrong(f"{quoted(part)} is no range of numbers up to {_NUMBER_MOST}")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def check_scheduler(scheduler: Scheduler) -> None:
    """Which of the values belong to which policy: runc refuses the others, and the kernel would ignore some."""
    policy = scheduler.policy
    _one_of(policy, POLICIES, "policy")
    for position, flag in enumerate(scheduler.flags):
        _one_of(flag, SCHEDULER_FLAGS, f"flags[{position}]")
    if scheduler.nice is not None and not -20 <= scheduler.nice <= 19:
        raise Wrong(f"must lie between -20 and 19, not {scheduler.nice}", "nice")
    if scheduler.priority and policy not in ("SCHED_FIFO", "SCHED_RR"):
        raise Wrong(f"is for SCHED_FIFO and SCHED_RR only, not for {policy}", "priority")
    if policy in ("SCHED_FIFO", "SCHED_RR") and not 1 <= (scheduler.priority or 0) <= 99:
        raise Wrong(f"must lie between 1 and 99 for {policy}", "priority")
    for name in ("runtime", "deadline", "period"):
        if getattr(scheduler, name) and policy != "SCHED_DEADLINE":
            raise Wrong(f"is for SCHED_DEADLINE only, not for {policy}", name)


def check_io_priority(priority: IoPriority) -> None:
    """The class must be one of the kernel's."""
    _one_of(priority.io_class, IO_CLASSES, "class")


def check_affinity(affinity: CpuAffinity) -> None:
    """Both lists must name CPUs."""
    for name in ("initial", "final"):
        if getattr(affinity, name):
            _at(name, read_numbers, getattr(affinity, name))


def check_personality(personality: Personality) -> None:
    """The specification knows two domains, and no flag yet."""
    if personality.domain not in ("LINUX", "LINUX32"):
        raise Wrong("must be LINUX or LINUX32", "domain")
    if personality.flags:
        raise Wrong(f"{quoted(personality.flags[0])} is not known: there are no flags yet", "flags[0]")


def check_memory_policy(policy: MemoryPolicy) -> None:
    """Mode, flags and nodes must go together as set_mempolicy(2) has it."""
    _one_of(policy.mode, MEMORY_MODES, "mode")
    for position, flag in enumerate(policy.flags):
        _one_of(flag, MEMORY_FLAGS, f"flags[{position}]")
    if {"MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"} <= set(policy.flags):
        raise Wrong("MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other", "flags")
    if policy.nodes:
        if policy.mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
            raise Wrong(f"must be empty with {policy.mode}", "nodes")
        _at("nodes", read_numbers, policy.nodes)
    elif policy.mode not in ("MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED"):
        raise Wrong(f"must name the nodes of {policy.mode}", "nodes")


def check_net_devices(devices: tuple[NetDevice, ...]) -> None:
    """Every name must be one that a network device can have, and none may be given twice."""
    taken: set[str] = set()
    for device in devices:
        name = device.name or device.device
        for one, path in ((device.device, ""), (name, ".name")):
            if not is_device_name(one):
                raise Wrong(f"{quoted(one)} is no name of a network device", f"[{quoted(device.device)}]{path}")
        if name in taken:
            raise Wrong(f"two devices are to be named {name}", f"[{quoted(device.device)}].name")
        taken.add(name)


def is_device_name(name: str) -> bool:
    """Whether the kernel would take `name` for a network device (dev_valid_name)."""
    if not name or name in (".", "..") or len(name.encode(errors="surrogateescape")) > _DEVICE_NAME_MOST:
        return False
    return not any(character in "/:" or character.isspace() for character in name)


def check_intel_rdt(rdt: IntelRdt) -> None:
    """The name becomes a directory, and each schema a line of a file."""
    name = rdt.clos_id
    if name in (".", "..") or "/" in name or "\n" in name:
        raise Wrong(f"{quoted(name)} cannot be the name of a directory of resctrl", "closID")
    for path, line in (
        ("l3CacheSchema", rdt.l3_cache_schema),
        ("memBwSchema", rdt.mem_bw_schema),
        *((f"schemata[{position}]", one) for position, one in enumerate(rdt.schemata)),
    ):
        if "\n" in line:
            raise Wrong("must be one line", path)
    if "MB:" in rdt.l3_cache_schema:
        raise Wrong("must not set the memory bandwidth (MB:)", "l3CacheSchema")
    if "L3:" in rdt.mem_bw_schema:
        raise Wrong("must not set the cache (L3:)", "memBwSchema")


def check_id_map(mappings: Iterable[IdMapping]) -> None:
    """The kernel takes no empty extent, none that ends beyond the last id, and no two that overlap."""
    for side in ("container_id", "host_id"):
        last = -1
        for mapping in sorted(mappings, key=lambda one: int(getattr(one, side))):
            start = int(getattr(mapping, side))
            if mapping.size < 1 or start + mapping.size > 1 << 32:
                raise Wrong(f"{mapping.size} ids from {start} on cannot be mapped")
            if start <= last:
                raise Wrong(f"the id {start} is mapped twice")
            last = start + mapping.size - 1


def _one_of(value: str, known: tuple[str, ...], path: str) -> None:
    if value not in known:
        raise Wrong(f"{quoted(value)} is not one of {', '.join(known)}", path)


def _at(path: str, reader: object, text: str) -> None:
    try:
        reader(text)  # type: ignore[operator]
    except Wrong as wrong:
        raise wrong.below(path) from None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5
