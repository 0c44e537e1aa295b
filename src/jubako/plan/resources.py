"""What is to be written into a cgroup v2 directory so that it keeps OCI's resources; nothing here touches a file.

OCI runtime-spec 1.3, config-linux, "Control groups", speaks cgroup v1. The words are translated as runc and crun do:

- `cpu.shares` goes through the curve that maps 2 to 1, 1024 to 100 and 262144 to 10000. A zero limit, quota, share,
  reservation or swap was not asked for, any negative limit is "max". `memory.swap` counts memory too, the kernel's not.
- `pids.limit` 0 is "max": podman up to 5.4 writes it for `--pids-limit -1`.
- Refused, since the kernel has no word for it: kernel memory, swappiness, a switched-off OOM killer or hierarchy,
  realtime shares, leaf weights, net_cls and net_prio. (runc drops these without a word, crun refuses most of them.)
  What asks for nothing is taken: `kernel` and `kernelTCP` up to 0, `disableOOMKiller` false, `useHierarchy` true.
"""

from __future__ import annotations

from jubako.errors import JubakoError, UsageError
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from jubako.spec.resources import BlockIo, Cpu, Memory, Network, Resources, ThrottleDevice

MAX = "max"
CORE = "cgroup"
"""Files of this name belong to no controller: every group has them."""

_PERIOD = 100_000  # microseconds, the kernel's own
_READS_MAX_BY_ITSELF = ("memory.max", "memory.swap.max", "memory.low", "pids.max", "hugetlb.", "rdma.max", "io.max")


@record
class Write:
    """One write of `value` to `file` of the group; `field` is the property that asks for it, by its JSON path.

    Where `file` is missing, `instead` (file, value) is written; with `optional` a missing file is as good.
    """

    controller: str
    file: str
    value: str
    field: str = ""
    instead: tuple[str, str] | None = None
    optional: bool = False

    @property
    def limits(self) -> bool:
        """False where it says what holds without it: no limit."""
        return not (self.value.endswith(MAX) and self.file.startswith(_READS_MAX_BY_ITSELF))


def plan_writes(resources: Resources, at: str = "linux.resources") -> tuple[Write, ...]:
    """The writes in their order. Raises `UsageError` with the JSON path, below `at`, of what cgroup v2 cannot say."""
    dot = f"{at}." if at else ""
    return (
        *_pids(resources, f"{dot}pids.limit"),
        *_memory(resources.memory, f"{dot}memory."),
        *_io(resources.block_io, f"{dot}blockIO."),
        *_cpu(resources.cpu, f"{dot}cpu."),
        *_cpuset(resources.cpu, f"{dot}cpu."),
        *_hugetlb(resources, f"{dot}hugepageLimits"),
        *_rdma(resources, f"{dot}rdma."),
        *_network(resources.network, f"{dot}network."),
        *_unified(resources, f"{dot}unified."),
    )


def asks_for_limits(writes: tuple[Write, ...]) -> bool:
    """Whether a group is needed to keep `writes`."""
    return any(write.limits for write in writes)


def needed_controllers(writes: tuple[Write, ...]) -> tuple[str, ...]:
    """The controllers that `writes` need, each once, in order."""
    return tuple(dict.fromkeys(write.controller for write in writes if write.limits and write.controller != CORE))


def require_controllers(writes: tuple[Write, ...], available: Collection[str], group: str, hint: str = "") -> None:
    """Raise `JubakoError` for the first limit whose controller the group has not."""
    for write in writes:
        if write.limits and write.controller != CORE and write.controller not in available:
            have = " ".join(sorted(available)) or "none"
            raise JubakoError(
                "limit",
                write.field,
                reason=f"the controller {write.controller} is not available in {group} (there: {have})",
                hint=hint,
            )


def shares_to_weight(shares: int) -> int:
    """cgroup v1's `cpu.shares` (2 to 262144) as `cpu.weight` (1 to 10000); both defaults and both ends meet."""
    if shares <= 2:
        return 1
    if shares >= 262_144:
        return 10_000
    from math import ceil, log2

    logarithm = log2(shares)
    return ceil(10 ** ((logarithm * logarithm + 125 * logarithm) / 612 - 7 / 34))


def weight_to_io_weight(weight: int) -> int:
    """The weight of `io.bfq.weight` (10 to 1000) on the scale of `io.weight` (1 to 10000)."""
    return 1 + max(weight - 10, 0) * 9999 // 990


def _pids(resources: Resources, field: str) -> Iterator[Write]:
    limit = resources.pids.limit
    if limit is not None:
        yield Write("pids", "pids.max", str(limit) if limit > 0 else MAX, field)


def _memory(memory: Memory, at: str) -> Iterator[Write]:
    if memory.kernel is not None and memory.kernel > 0:
        raise _no_word(f"{at}kernel", "kernel memory is part of memory.limit")
    if memory.kernel_tcp is not None and memory.kernel_tcp > 0:
        raise _no_word(f"{at}kernelTCP", "it is part of memory.limit")
    if memory.swappiness is not None:
        raise _no_word(f"{at}swappiness", "it is one setting for the whole machine (sysctl vm.swappiness)")
    if memory.disable_oom_killer:
        raise _no_word(f"{at}disableOOMKiller", "a group that is full is always made room in")
    if memory.use_hierarchy is False:
        raise _no_word(f"{at}useHierarchy", "limits always hold for the groups below too")
    swap = _swap(memory, f"{at}swap")
    if swap:
        # Without swap accounting the file is missing, and then these two values hold by themselves.
        yield Write("memory", "memory.swap.max", swap, f"{at}swap", optional=swap in (MAX, "0"))
    if memory.limit:
        yield Write("memory", "memory.max", _or_max(memory.limit), f"{at}limit")
    if memory.reservation:
        yield Write("memory", "memory.low", _or_max(memory.reservation), f"{at}reservation")


def _swap(memory: Memory, field: str) -> str:
    limit, swap = memory.limit or 0, memory.swap or 0
    if swap == 0:
        return MAX if limit < 0 else ""  # whoever lifts the one lifts both, as with cgroup v1
    if swap < 0:
        return MAX
    if limit <= 0:
        raise UsageError("read", field, reason="counts memory and swap together: it needs memory.limit too")
    if swap < limit:
        raise UsageError("read", field, reason=f"counts memory too: {swap} must not be below memory.limit, {limit}")
    return str(swap - limit)


def _io(block_io: BlockIo, at: str) -> Iterator[Write]:
    if block_io.leaf_weight:
        raise _no_word(f"{at}leafWeight", "use weight")
    if block_io.weight:
        weight = block_io.weight
        instead = ("io.weight", str(weight_to_io_weight(weight)))
        yield Write("io", "io.bfq.weight", str(weight), f"{at}weight", instead)
    for position, device in enumerate(block_io.weight_device):
        field = f"{at}weightDevice[{position}]"
        if device.leaf_weight:
            raise _no_word(f"{field}.leafWeight", "use weight")
        if device.weight:
            node = f"{device.major}:{device.minor}"
            instead = ("io.weight", f"{node} {weight_to_io_weight(device.weight)}")
            yield Write("io", "io.bfq.weight", f"{node} {device.weight}", field, instead)
    yield from _rates(block_io.throttle_read_bps, "rbps", f"{at}throttleReadBpsDevice")
    yield from _rates(block_io.throttle_write_bps, "wbps", f"{at}throttleWriteBpsDevice")
    yield from _rates(block_io.throttle_read_iops, "riops", f"{at}throttleReadIOPSDevice")
    yield from _rates(block_io.throttle_write_iops, "wiops", f"{at}throttleWriteIOPSDevice")


def _rates(devices: tuple[ThrottleDevice, ...], key: str, at: str) -> Iterator[Write]:
    for position, device in enumerate(devices):
        rate = device.rate or MAX
        yield Write("io", "io.max", f"{device.major}:{device.minor} {key}={rate}", f"{at}[{position}]")


def _cpu(cpu: Cpu, at: str) -> Iterator[Write]:
    for name, time in (("realtimeRuntime", cpu.realtime_runtime), ("realtimePeriod", cpu.realtime_period)):
        if time:
            raise _no_word(f"{at}{name}", "the realtime scheduler knows no groups there")
    if cpu.idle is not None:
        if cpu.idle not in (0, 1):
            raise UsageError("read", f"{at}idle", reason=f"must be 0 or 1, not {cpu.idle}")
        yield Write("cpu", "cpu.idle", str(cpu.idle), f"{at}idle", optional=cpu.idle == 0)
    if cpu.shares and cpu.idle != 1:  # an idle group has no weight; the kernel refuses one
        yield Write("cpu", "cpu.weight", str(shares_to_weight(cpu.shares)), f"{at}shares")
    if cpu.burst and cpu.quota is not None and 0 < cpu.quota < cpu.burst:
        raise UsageError("read", f"{at}burst", reason=f"{cpu.burst} must not be above cpu.quota, {cpu.quota}")
    if cpu.quota or cpu.period:
        if cpu.burst is not None:  # the kernel refuses a quota below the burst that is in force
            yield Write("cpu", "cpu.max.burst", "0", f"{at}burst", optional=True)
        quota = MAX if cpu.quota is None or cpu.quota <= 0 else str(cpu.quota)
        # One number alone leaves the period as it is.
        value = f"{quota} {cpu.period}" if cpu.period else quota
        yield Write("cpu", "cpu.max", value, f"{at}quota" if cpu.quota else f"{at}period")
    if cpu.burst is not None:
        yield Write("cpu", "cpu.max.burst", str(cpu.burst), f"{at}burst", optional=cpu.burst == 0)


def _cpuset(cpu: Cpu, at: str) -> Iterator[Write]:
    for name, numbers in (("cpus", cpu.cpus), ("mems", cpu.mems)):
        if numbers:
            yield Write("cpuset", f"cpuset.{name}", numbers, f"{at}{name}")


def _hugetlb(resources: Resources, at: str) -> Iterator[Write]:
    for position, huge in enumerate(resources.hugepage_limits):
        field = f"{at}[{position}]"
        if not huge.page_size or not huge.page_size.isascii() or not huge.page_size.isalnum():
            raise UsageError("read", f"{field}.pageSize", reason=f"must be like 2MB, not {huge.page_size!r}")
        # Reservations (Linux 5.7) are refused when they are made; use without one ends in SIGBUS.
        yield Write("hugetlb", f"hugetlb.{huge.page_size}.max", str(huge.limit), field)
        yield Write("hugetlb", f"hugetlb.{huge.page_size}.rsvd.max", str(huge.limit), field, optional=True)


def _rdma(resources: Resources, at: str) -> Iterator[Write]:
    for one in resources.rdma:
        words = [one.device]
        if one.hca_handles is not None:
            words.append(f"hca_handle={one.hca_handles}")
        if one.hca_objects is not None:
            words.append(f"hca_object={one.hca_objects}")
        if len(words) == 1:
            raise UsageError("read", f"{at}{one.device}", reason="needs hcaHandles or hcaObjects")
        yield Write("rdma", "rdma.max", " ".join(words), f"{at}{one.device}")


def _network(network: Network, at: str) -> Iterator[Write]:
    if network.class_id:
        raise _no_word(f"{at}classID", "match the group itself: nftables' `socket cgroupv2`")
    if network.priorities:
        raise _no_word(f"{at}priorities", "set SO_PRIORITY, or match the group with nftables' `socket cgroupv2`")
    yield from ()


def _unified(resources: Resources, at: str) -> Iterator[Write]:
    for name, value in resources.unified:
        controller, dot, parameter = name.partition(".")
        if "/" in name or ".." in name or not (controller and dot and parameter):
            reason = "must be the name of a file of the group, CONTROLLER.PARAMETER"
            raise UsageError("read", f"{at}{name}", reason=reason)
        for line in value.splitlines() or [""]:  # the kernel takes one entry a write
            yield Write(controller, name, line.strip(), f"{at}{name}")


def _or_max(number: int) -> str:
    return str(number) if number > 0 else MAX


def _no_word(field: str, instead: str) -> UsageError:
    return UsageError("limit", field, reason="cgroup v2 has nothing like it", hint=instead)
