"""What a container's cgroup is asked to limit: OCI runtime-spec 1.3, config-linux, section "Control groups".

`None` says "not asked for"; a number, zero and -1 included, was written in the document. Byte counts are bytes, CPU
quota, period and burst microseconds.
"""

from __future__ import annotations

from jubako.record import record


@record
class DeviceRule:
    """One line of the device cgroup: `type` is a, b, c, p, u or "" (all), `access` some of r, w, m."""

    allow: bool
    type: str = ""
    major: int | None = None
    minor: int | None = None
    access: str = ""


@record
class Memory:
    """Limits in bytes; -1 lifts one. `swap` counts memory and swap together, as cgroup v1 did."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool | None = None
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


@record
class Cpu:
    """Shares (cgroup v1 scale, 2 to 262144), a quota a period, and the CPUs and memory nodes to run on."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


@record
class Pids:
    """How many tasks may exist at once; -1 (or less) means as many as the parent allows."""

    limit: int | None = None


@record
class WeightDevice:
    """The share of one block device's time."""

    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


@record
class ThrottleDevice:
    """The most bytes or operations a second on one block device."""

    major: int
    minor: int
    rate: int


@record
class BlockIo:
    """Weights (10 to 1000) and rates of block devices."""

    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops: tuple[ThrottleDevice, ...] = ()


@record
class HugepageLimit:
    """The most bytes in huge pages of one size; `page_size` is spelled as the kernel does ("2MB", "1GB")."""

    page_size: str
    limit: int


@record
class InterfacePriority:
    """The priority of traffic that leaves by one interface."""

    name: str
    priority: int


@record
class Network:
    """The net_cls and net_prio controllers of cgroup v1."""

    class_id: int | None = None
    priorities: tuple[InterfacePriority, ...] = ()


@record
class Rdma:
    """Limits of one RDMA device."""

    device: str
    hca_handles: int | None = None
    hca_objects: int | None = None


@record
class Resources:
    """Everything asked of the container's cgroup. `unified` holds (file, value) pairs for cgroup v2, as written."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory = Memory()
    cpu: Cpu = Cpu()
    pids: Pids = Pids()
    block_io: BlockIo = BlockIo()
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network = Network()
    rdma: tuple[Rdma, ...] = ()
    unified: tuple[tuple[str, str], ...] = ()
