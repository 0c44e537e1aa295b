"""`update`: other limits for a container that is there already, with the flags of runc and crun.

What is not named stays as it is. Where cgroup v2 joins two words in one file, the other one is read from the group: a
period alone keeps the quota, and a swap limit alone counts with the memory limit in force.
"""

from __future__ import annotations

import os

from jubako import jsontext
from jubako.errors import JubakoError, UsageError
from jubako.linux import cgroup
from jubako.oci.cgroups import apply_writes
from jubako.oci.groups import NO_GROUP, NO_GROUP_HINT
from jubako.plan.resources import asks_for_limits, plan_writes
from jubako.record import record, replace
from jubako.spec.load import load_resources
from jubako.spec.resources import BlockIo, Cpu, Memory, Pids, Resources

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_I64 = 0x7FFFFFFFFFFFFFFF
_U64 = 0xFFFFFFFFFFFFFFFF


@record
class UpdateOptions:
    """The flags as they were written; empty ones were not. Sizes may have a unit ("512m"), -1 lifts a limit."""

    memory: str = ""
    memory_reservation: str = ""
    memory_swap: str = ""
    kernel_memory: str = ""
    kernel_memory_tcp: str = ""
    cpu_period: str = ""
    cpu_quota: str = ""
    cpu_burst: str = ""
    cpu_share: str = ""
    cpu_idle: str = ""
    cpu_rt_period: str = ""
    cpu_rt_runtime: str = ""
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    blkio_weight: str = ""
    pids_limit: str = ""
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""


def read_resources(text: bytes, subject: str) -> Resources:
    """The document of `--resources FILE`, beside which runc and crun ignore all other flags."""
    try:
        return load_resources(jsontext.loads(text), subject)
    except (ValueError, RecursionError) as failure:
        raise UsageError("read", subject, reason=str(failure)) from failure


def resources_of(options: UpdateOptions) -> Resources:
    """The same from the other flags. Raises `UsageError` naming the flag."""
    return Resources(
        memory=Memory(
            limit=_size(options, "memory"),
            reservation=_size(options, "memory_reservation"),
            swap=_size(options, "memory_swap"),
            kernel=_size(options, "kernel_memory"),
            kernel_tcp=_size(options, "kernel_memory_tcp"),
        ),
        cpu=Cpu(
            shares=_number(options, "cpu_share", 0, _U64),
            quota=_number(options, "cpu_quota", -1, _I64),
            burst=_number(options, "cpu_burst", 0, _U64),
            period=_number(options, "cpu_period", 0, _U64),
            realtime_runtime=_number(options, "cpu_rt_runtime", -1, _I64),
            realtime_period=_number(options, "cpu_rt_period", 0, _U64),
            cpus=options.cpuset_cpus,
            mems=options.cpuset_mems,
            idle=_number(options, "cpu_idle", 0, 1),
        ),
        pids=Pids(_number(options, "pids_limit", -1, _I64)),
        block_io=BlockIo(weight=_number(options, "blkio_weight", 0, 1000)),
    )


def update(
    identifier: str, group: str, status: str, resources: Resources, *, unit: str = "", filter_devices: bool = False
) -> None:
    """Put `resources` in force for the container. Raises `UsageError` where it has stopped or they are malformed,
    `JubakoError` for what the host cannot keep.

    `unit` is its scope where systemd made the group. `filter_devices` says that it has a device filter (`oci.devices`):
    rules in `resources` replace that.
    """
    if status not in ("created", "running", "paused"):
        raise UsageError("update container", identifier, reason=f"it is not running: {status}")
    if not group:
        if asks_for_limits(plan_writes(resources, "")):
            raise JubakoError("update container", identifier, reason=NO_GROUP, hint=NO_GROUP_HINT)
        return
    resources = _completed(group, resources)
    writes = plan_writes(resources, "")
    if resources.memory.check_before_update:
        _check_usage(group, resources.memory)
    if resources.devices and filter_devices:
        from jubako.oci.devices import read_rules, restrict_devices

        restrict_devices(group, read_rules(resources.devices, ""))
    if unit:
        from jubako.oci.cgroups import is_rootless
        from jubako.oci.systemd import update_unit

        update_unit(unit, is_rootless(), writes)
    apply_writes(group, writes)


def update_cache(identifier: str, options: UpdateOptions, directory: str = "/sys/fs/resctrl") -> None:
    """The two flags of Intel RDT, for a container that `create` gave a class of service of its own."""
    lines = [line for line in (options.l3_cache_schema, options.mem_bw_schema) if line]
    if not lines:
        return
    path = f"{directory}/{identifier}/schemata"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, ("\n".join(lines) + "\n").encode())
        finally:
            os.close(fd)
    except OSError as failure:
        hint = "the container was made without linux.intelRdt, or the CPU has no resource control"
        raise JubakoError.from_os_error("write", path, failure, hint) from failure


def _completed(group: str, resources: Resources) -> Resources:
    cpu, memory = resources.cpu, resources.memory
    if cpu.period and not cpu.quota:
        quota = _read(group, "cpu.max").partition(" ")[0]
        cpu = replace(cpu, quota=int(quota) if quota.isdecimal() else None)
    if memory.swap is not None and memory.swap > 0 and not memory.limit:
        limit = _read(group, "memory.max").strip()
        memory = replace(memory, limit=int(limit) if limit.isdecimal() else None)
    return replace(resources, cpu=cpu, memory=memory)


def _check_usage(group: str, memory: Memory) -> None:
    """Refuse a limit that would have the kernel kill at once, as cgroup v1 did."""
    used, swapped = (int(_read(group, name) or 0) for name in ("memory.current", "memory.swap.current"))
    for name, limit, usage in (("limit", memory.limit, used), ("swap", memory.swap, used + swapped)):
        if limit is not None and 0 < limit <= usage:
            raise JubakoError("limit", f"memory.{name}", reason=f"{limit} is not above what is in use, {usage}")


def _read(group: str, name: str) -> str:
    try:
        return cgroup.read(group, name)
    except OSError:
        return ""


def _size(options: UpdateOptions, name: str) -> int | None:
    """A number of bytes, with a unit or without: 512m, 1.5g, 2GiB, -1."""
    text = getattr(options, name)
    if not text:
        return None
    if text == "-1":
        return -1
    lowered = text.strip().lower()
    digits = lowered.rstrip("bikmgtp ")
    unit = lowered[len(digits) :].strip()
    unit = unit[:1] if unit[1:] in ("", "b", "ib") and unit[:1] != "b" else unit
    whole, dot, part = digits.partition(".")
    right = whole.isascii() and whole.isdecimal() and (not dot or (part.isascii() and part.isdecimal()))
    if not right or unit not in _UNITS or len(digits) > 24:
        raise UsageError("read", _flag(name), reason=f"must be a size like 512m, or -1, not {text!r}")
    size = int(whole) * _UNITS[unit] + (int(part) * _UNITS[unit] // 10 ** len(part) if part else 0)
    if size > _I64:
        raise UsageError("read", _flag(name), reason=f"is too large: {text}")
    return size


def _number(options: UpdateOptions, name: str, least: int, most: int) -> int | None:
    text = getattr(options, name)
    if not text:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 20 or not least <= int(text) <= most:
        raise UsageError("read", _flag(name), reason=f"must be a whole number between {least} and {most}, not {text!r}")
    return int(text)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
