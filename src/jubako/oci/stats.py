"""What a container uses, in the shape that engines know from `runc events --stats` (runc's types/events.go).

runc writes Go structures: a zero is left out where the structure says so, and written where it does not. Times are
nanoseconds, sizes bytes, "no limit" of memory is the largest number of 64 bits and of processes left out.
"""

from __future__ import annotations

import os

from jubako.linux import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UNLIMITED = 0xFFFFFFFFFFFFFFFF
_V1_ONLY = (
    "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab",
    "memory_pressure", "sched_load_balance", "sched_relax_domain_level",
)  # fmt: skip
"""What cpusets had in cgroup v1: always there, always zero."""


def read_stats(group: str) -> dict[str, Any]:
    """The `data` of a stats event. What the group has no controller for is zero or left out."""
    return {
        "cpu": _cpu(group),
        "cpuset": dict.fromkeys(_V1_ONLY, 0),
        "memory": _memory(group),
        "pids": _pids(group),
        "blkio": _blkio(group),
        "hugetlb": _hugetlb(group),
        "intel_rdt": {},
        "network_interfaces": None,
    }


def oom_kills(group: str) -> int:
    """How many processes the kernel has killed for the group's memory limit, or one below it."""
    return _numbers(group, "memory.events").get("oom_kill", 0)


def _cpu(group: str) -> dict[str, Any]:
    found = _numbers(group, "cpu.stat")
    usage = {
        **_some(total=1000 * found.get("usage_usec", 0)),
        "kernel": 1000 * found.get("system_usec", 0),
        "user": 1000 * found.get("user_usec", 0),
    }
    throttling = _some(
        periods=found.get("nr_periods", 0),
        throttledPeriods=found.get("nr_throttled", 0),
        throttledTime=1000 * found.get("throttled_usec", 0),
    )
    return {"usage": usage, "throttling": throttling, **_pressure(group, "cpu.pressure")}


def _memory(group: str) -> dict[str, Any]:
    raw = _numbers(group, "memory.stat")
    usage, swap = _counter(group, "memory"), _counter(group, "memory.swap")
    none = {"limit": 0, "failcnt": 0}
    both = none
    if swap != none:  # cgroup v1 counted the two together, and so do those who read this
        limit = swap["limit"] if swap["limit"] == _UNLIMITED else swap["limit"] + usage["limit"]
        both = {
            "limit": min(limit, _UNLIMITED),
            **_some(usage=swap.get("usage", 0) + usage.get("usage", 0)),
            "failcnt": 0,
        }
    return {
        **_some(cache=raw.get("file", 0)),
        "usage": usage,
        "swap": both,
        "kernel": none,
        "kernelTCP": none,
        **({"raw": dict(sorted(raw.items()))} if raw else {}),
        **_pressure(group, "memory.pressure"),
    }


def _counter(group: str, name: str) -> dict[str, int]:
    """One of memory's counters: usage, the most there was (Linux 5.19), the limit."""
    current = _number(group, f"{name}.current")
    if current is None:
        return {"limit": 0, "failcnt": 0}
    limit = _number(group, f"{name}.max") or 0
    most = 0 if name == "memory.swap" else _number(group, f"{name}.peak") or 0
    return {"limit": limit, **_some(usage=current, max=most), "failcnt": 0}


def _pids(group: str) -> dict[str, int]:
    current = _number(group, "pids.current")
    if current is None:  # without the controller the processes are counted, not the threads
        return _some(current=len(cgroup.processes_below(group)))
    limit = _number(group, "pids.max") or 0
    return _some(current=current, limit=0 if limit == _UNLIMITED else limit)


def _blkio(group: str) -> dict[str, Any]:
    tables: dict[str, list[dict[str, Any]]] = {"ioServiceBytesRecursive": [], "ioServicedRecursive": []}
    words = {
        "rbytes": ("ioServiceBytesRecursive", "Read"),
        "wbytes": ("ioServiceBytesRecursive", "Write"),
        "rios": ("ioServicedRecursive", "Read"),
        "wios": ("ioServicedRecursive", "Write"),
    }
    for line in _text(group, "io.stat").splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        for key, _, value in (pair.partition("=") for pair in pairs):
            if key in words and value.isdecimal() and major.isdecimal() and minor.isdecimal():
                table, operation = words[key]
                entry = {**_some(major=int(major), minor=int(minor)), "op": operation, **_some(value=int(value))}
                tables[table].append(entry)
    return {**{name: table for name, table in tables.items() if table}, **_pressure(group, "io.pressure")}


def _hugetlb(group: str) -> dict[str, Any]:
    try:
        names = sorted(name for name in os.listdir(group) if name.startswith("hugetlb."))
    except OSError:
        return {}
    found = {}
    for size in dict.fromkeys(name.split(".")[1] for name in names):
        reserved = f"hugetlb.{size}.rsvd.current"
        current = _number(group, reserved if reserved in names else f"hugetlb.{size}.current") or 0
        failures = _numbers(group, f"hugetlb.{size}.events").get("max", 0)
        found[size] = {**_some(usage=current), "failcnt": failures}
    return found


def _pressure(group: str, name: str) -> dict[str, Any]:
    """Pressure stall information (Linux 4.20 with CONFIG_PSI); nothing where it is switched off."""
    none = {"avg10": 0, "avg60": 0, "avg300": 0, "total": 0}
    found: dict[str, dict[str, float]] = {"some": dict(none), "full": dict(none)}
    text = _text(group, name)
    for line in text.splitlines():
        kind, *pairs = line.split()
        for key, _, value in (pair.partition("=") for pair in pairs):
            if kind in found and key in none:
                number = float(value)
                found[kind][key] = int(number) if number == int(number) else number
    return {"psi": found} if text else {}


def _some(**values: int) -> dict[str, int]:
    """Those that are not zero."""
    return {name: value for name, value in values.items() if value}


def _text(group: str, name: str) -> str:
    try:
        return cgroup.read(group, name)
    except OSError:  # no such controller; ENOTSUP: pressure is switched off
        return ""


def _number(group: str, name: str) -> int | None:
    text = _text(group, name).strip()
    if text == "max":
        return _UNLIMITED
    return int(text) if text.isdecimal() else None


def _numbers(group: str, name: str) -> dict[str, int]:
    text = _text(group, name)
    return cgroup.numbers(text) if text else {}
