"""The limits of a container, from `--memory`, `--cpus`, `--pids-limit` and kin, as OCI's resources."""

from __future__ import annotations

from jubako.engine.options import RunOptions
from jubako.engine.parse.sizes import is_digits, parse_size, refuse
from jubako.spec.resources import Cpu, Memory, Pids, Resources

_CPU_PERIOD = 100_000  # microseconds, the kernel's own


def build_resources(options: RunOptions) -> Resources | None:
    """What is asked of the container's cgroup, or None when nothing is."""
    resources = Resources(memory=_memory(options), cpu=_cpu(options), pids=_pids(options))
    return None if resources == Resources() else resources


def _memory(options: RunOptions) -> Memory:
    limit = parse_size(options.memory, "memory") if options.memory else None
    reservation = parse_size(options.memory_reservation, "memory-reservation") if options.memory_reservation else None
    swap = None
    if options.memory_swap:
        swap = -1 if options.memory_swap == "-1" else parse_size(options.memory_swap, "memory-swap")
        if limit is None:
            raise refuse("memory-swap", options.memory_swap, "needs --memory, since it counts memory and swap together")
        if swap != -1 and swap < limit:
            raise refuse("memory-swap", options.memory_swap, f"is below --memory {options.memory}")
    return Memory(limit=limit, reservation=reservation, swap=swap)


def _pids(options: RunOptions) -> Pids:
    limit = options.pids_limit
    if limit is None:
        return Pids()
    return Pids(-1 if limit == 0 else _within(limit, "pids-limit", -1, 1 << 22))


def _cpu(options: RunOptions) -> Cpu:
    quota, period = options.cpu_quota, options.cpu_period
    if quota is not None and quota != -1:
        _within(quota, "cpu-quota", 1000, 1 << 53)
    if period is not None:
        _within(period, "cpu-period", 1000, 1_000_000)
    if options.cpu_shares is not None:
        _within(options.cpu_shares, "cpu-shares", 2, 262_144)
    for flag, text in (("cpuset-cpus", options.cpuset_cpus), ("cpuset-mems", options.cpuset_mems)):
        if text and not all(_is_range(part) for part in text.split(",")):
            raise refuse(flag, text, "must be numbers and ranges, as in 0-3,7")
    if options.cpus:
        if quota is not None or period is not None:
            raise refuse("cpus", options.cpus, "cannot stand beside --cpu-quota or --cpu-period")
        whole, dot, part = options.cpus.partition(".")
        right = is_digits(whole or "0") and (not dot or is_digits(part or "0")) and options.cpus != "."
        if not right or len(options.cpus) > 16:
            raise refuse("cpus", options.cpus, "must be a number, as in 1.5")
        quota = int(whole or "0") * _CPU_PERIOD + int(part or "0") * _CPU_PERIOD // 10 ** len(part)
        period = _CPU_PERIOD
        if quota < 1000:
            raise refuse("cpus", options.cpus, "must be at least 0.01")
    return Cpu(
        shares=options.cpu_shares,
        quota=quota,
        period=period,
        cpus=options.cpuset_cpus,
        mems=options.cpuset_mems,
    )


def _within(number: int, flag: str, least: int, most: int) -> int:
    if not least <= number <= most:
        raise refuse(flag, str(number), f"must lie between {least} and {most}")
    return number


def _is_range(text: str) -> bool:
    first, dash, last = text.partition("-")
    if not dash:
        return is_digits(first)
    return is_digits(first) and is_digits(last) and int(first) <= int(last)
