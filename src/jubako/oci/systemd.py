"""Control groups made by systemd: a scope for each container, as runc and crun have it (org.freedesktop.systemd1(5)).

linux.cgroupsPath is then `SLICE:PREFIX:NAME`. The scope is made with the container's first process in it, since a scope
without processes ends at once; its group is delegated, and what systemd has no property for is written into its files.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError, UsageError
from jubako.linux import cgroup
from jubako.oci.cgroups import SYSTEMD, GroupChoice, fill_group
from jubako.plan.resources import MAX, plan_writes
from jubako.record import replace
from jubako.spec.resources import Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.oci.bus import Systemd
    from jubako.plan.resources import Write

    Property = tuple[str, tuple[str, Any]]

PROPERTY = "org.systemd.property."
SUBGROUP = "run.oci.systemd.subgroup"

_UNLIMITED = 0xFFFFFFFFFFFFFFFF
_SECOND = 1_000_000  # in microseconds
_SIZES = {
    "memory.max": "MemoryMax", "memory.low": "MemoryLow", "memory.high": "MemoryHigh", "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax", "cpu.weight": "CPUWeight", "io.weight": "IOWeight",
}  # fmt: skip
_SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_UNIT_NAME = _LETTERS | frozenset("0123456789:-_.\\@")


def choose_unit(path: str, identifier: str, annotations: dict[str, str], subgroup: str, rootless: bool) -> GroupChoice:
    """The scope for linux.cgroupsPath `path`; where its group is, is known once it has been started."""
    slice_name, prefix, name = "", "jubako", identifier
    if path:
        parts = path.split(":")
        if len(parts) != 3 or "/" in path or not parts[2]:
            reason = f"with systemd it is SLICE:PREFIX:NAME, not {path!r}"
            raise UsageError("read", "linux.cgroupsPath", reason=reason)
        slice_name, prefix, name = parts
    slice_name = slice_name or ("user.slice" if rootless else "system.slice")
    if not slice_name.endswith(".slice") or ".." in slice_name:
        reason = f"must name a slice of systemd (NAME.slice), not {slice_name!r}"
        raise UsageError("read", "linux.cgroupsPath", reason=reason)
    if name.endswith(".slice"):
        raise UsageError("read", "linux.cgroupsPath", reason=f"a slice holds no processes itself: {name}")
    below = tuple(one for one in (_subgroup(annotations), subgroup) if one)
    properties = _annotated(annotations)
    read_properties(properties)
    return GroupChoice(
        made_by=SYSTEMD,
        unit=_escape(f"{prefix}-{name}.scope" if prefix else f"{name}.scope"),
        slice=_escape(slice_name),
        user_manager=rootless,
        properties=properties,
        subgroup="/".join(below),
        delegate=bool(subgroup),
    )


def start_scope(
    choice: GroupChoice,
    resources: Resources | None,
    pid: int,
    identifier: str,
    owner: tuple[int, int] | None = None,
) -> GroupChoice:
    """Have systemd make the scope with the process `pid` in it, and limit it; answers `choice` with the group's places.

    A failure leaves no scope behind; the process is where it was, or gone with it.
    """
    from jubako.oci.bus import CallError, Systemd

    writes = plan_writes(resources or Resources())
    properties = _scope_properties(choice, writes, pid, identifier)
    with Systemd(choice.user_manager) as systemd:
        try:
            _start(systemd, choice.unit, properties)
        except (CallError, OSError) as failure:
            raise _failed("start", choice.unit, failure) from failure
        try:
            path = cgroup.directory_of(pid)
            if os.path.basename(path) != choice.unit:
                reason = f"process {pid} is in {path or 'a group that is not mounted here'} instead"
                raise JubakoError("start", choice.unit, reason=reason)
            done = replace(choice, path=path, inside=f"{path}/{choice.subgroup}".rstrip("/"))
            fill_group(done, writes, owner, [])
            if done.inside != path:
                cgroup.add_process(done.inside, pid)
            return done
        except OSError as failure:
            _give_up(systemd, choice.unit)
            raise JubakoError.from_os_error("place the container in", choice.unit, failure) from failure
        except JubakoError:
            _give_up(systemd, choice.unit)
            raise


def update_unit(unit: str, user_manager: bool, writes: tuple[Write, ...]) -> None:
    """Tell systemd of other limits, which it would else put back when it is reloaded."""
    from jubako.oci.bus import CallError, Systemd

    properties = limit_properties(writes)
    if not properties:
        return
    with Systemd(user_manager) as systemd:
        try:
            systemd.call("SetUnitProperties", "sba(sv)", unit, True, properties)
        except (CallError, OSError) as failure:
            raise _failed("update", unit, failure) from failure


def stop_unit(unit: str, user_manager: bool) -> None:
    """Stop the scope and forget that it failed, if it did; one that is gone is fine."""
    from jubako.oci.bus import CallError, Systemd

    with Systemd(user_manager) as systemd:
        try:
            _stop(systemd, unit)
        except (CallError, OSError) as failure:
            raise _failed("stop", unit, failure) from failure


def limit_properties(writes: tuple[Write, ...]) -> list[Property]:
    """The limits as properties of a unit, as far as systemd has such (systemd.resource-control(5)); the rest is in the
    group's files only."""
    found: dict[str, tuple[str, Any]] = {}
    for write in writes:
        for file, value in ((write.file, write.value), *((write.instead,) if write.instead else ())):
            found.update(_limit(file, value))
    if any((write.file, write.value) == ("cpu.idle", "1") for write in writes):
        found["CPUWeight"] = ("t", 0)  # systemd's word for idle (252 and later)
    return list(found.items())


def _limit(file: str, value: str) -> dict[str, tuple[str, Any]]:
    if file in _SIZES and (value == MAX or value.isdecimal()):
        return {_SIZES[file]: ("t", _UNLIMITED if value == MAX else int(value))}
    if file in _SETS:
        return {_SETS[file]: ("ay", cpu_bits(value))}
    if file == "cpu.max":
        quota, _, period = value.partition(" ")
        found: dict[str, tuple[str, Any]] = {}
        if quota == MAX:
            found["CPUQuotaPerSecUSec"] = ("t", _UNLIMITED)
        elif quota.isdecimal():
            share = int(quota) * _SECOND // (int(period) if period.isdecimal() and int(period) else 100_000)
            found["CPUQuotaPerSecUSec"] = ("t", -(-share // 10_000) * 10_000)  # systemd counts whole per cents
        if period.isdecimal():
            found["CPUQuotaPeriodUSec"] = ("t", int(period))
        return found
    if file == "memory.oom.group":
        return {"OOMPolicy": ("s", "kill" if value == "1" else "continue")}
    return {}


def cpu_bits(text: str) -> bytes:
    """A list of numbers ("0-3,7") as the bits that systemd wants. Raises `UsageError` for one that is none."""
    bits = 0
    for part in text.replace(" ", "").strip(",").split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        digits = (first + last).isascii() and first.isdecimal() and last.isdecimal()
        if not digits or not int(first) <= int(last) < 8192:
            raise UsageError("read", "cpuset", reason=f"must be numbers and ranges like 0-3,7, not {text!r}")
        bits |= (1 << int(last) + 1) - (1 << int(first))
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def read_properties(texts: tuple[tuple[str, str], ...]) -> list[Property]:
    """The annotations' properties, with their values read; times in seconds (`…Sec`) become what D-Bus has, `…USec`."""
    from jubako.oci.variant import parse_variant

    found = []
    for name, text in texts:
        try:
            kind, value = parse_variant(text)
        except ValueError as failure:
            raise UsageError("read", f"annotations.{PROPERTY}{name}", reason=str(failure)) from None
        if name.endswith("Sec") and not name.endswith("USec"):
            if kind not in "nqiuxtd" or value < 0:
                raise UsageError("read", f"annotations.{PROPERTY}{name}", reason=f"must be seconds, not {text}")
            name, kind, value = f"{name[:-3]}USec", "t", int(value * _SECOND)
        found.append((name, (kind, value)))
    return found


def _scope_properties(choice: GroupChoice, writes: tuple[Write, ...], pid: int, identifier: str) -> list[Property]:
    found: dict[str, tuple[str, Any]] = {
        "Description": ("s", f"jubako container {identifier}"),
        "Slice": ("s", choice.slice),
        "Delegate": ("b", True),
        "PIDs": ("au", [pid]),
        "DefaultDependencies": ("b", False),
        "CollectMode": ("s", "inactive-or-failed"),
        **{f"{name}Accounting": ("b", True) for name in ("CPU", "IO", "Memory", "Tasks")},
        **dict(limit_properties(writes)),
        **dict(read_properties(choice.properties)),
    }
    return list(found.items())


def _start(systemd: Systemd, unit: str, properties: list[Property]) -> None:
    from jubako.oci.bus import CallError

    nothing: list[object] = []
    arguments = ("ssa(sv)a(sa(sv))", unit, "replace", properties, nothing)
    try:
        (job,) = systemd.call("StartTransientUnit", *arguments)
    except CallError as failure:
        if failure.name != "UnitExists":
            raise
        _reset(systemd, unit)  # one that failed and was never asked after
        (job,) = systemd.call("StartTransientUnit", *arguments)
    result = systemd.wait_for_job(job)
    if result != "done":
        _reset(systemd, unit)
        raise JubakoError("start", unit, reason=f"systemd's job ended as {result!r}", hint=f"journalctl -u {unit}")


def _give_up(systemd: Systemd, unit: str) -> None:
    """Nothing stays of a scope that could not be filled. What goes wrong here is not told: the first failure is."""
    from jubako.oci.bus import CallError

    try:
        _stop(systemd, unit)
    except (CallError, OSError):
        pass


def _stop(systemd: Systemd, unit: str) -> None:
    from jubako.oci.bus import CallError

    try:
        # The first process of a PID namespace does not hear SIGTERM, and systemd would give it a minute and a half.
        systemd.call("KillUnit", "ssi", unit, "all", 9)
    except CallError:  # it has no process, or is gone
        pass
    try:
        (job,) = systemd.call("StopUnit", "ss", unit, "replace")
        systemd.wait_for_job(job)
    except CallError as failure:
        if failure.name != "NoSuchUnit":
            raise
    _reset(systemd, unit)


def _reset(systemd: Systemd, unit: str) -> None:
    from jubako.oci.bus import CallError

    try:
        systemd.call("ResetFailedUnit", "s", unit)
    except CallError:  # it did not fail
        pass


def _failed(verb: str, unit: str, failure: Exception) -> JubakoError:
    if isinstance(failure, OSError):
        if isinstance(failure, TimeoutError):
            return JubakoError(verb, unit, reason="systemd did not answer in time")
        return JubakoError.from_os_error(verb, unit, failure)
    return JubakoError(verb, unit, reason=f"systemd refuses: {failure}")


def _subgroup(annotations: dict[str, str]) -> str:
    name = annotations.get(SUBGROUP, "")
    if "/" in name or name in (".", ".."):
        raise UsageError("read", f"annotations.{SUBGROUP}", reason=f"must be one name, not {name!r}")
    return name


def _annotated(annotations: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """What the annotations set of the scope: (property, value in GVariant's text form)."""
    found = []
    for key, value in annotations.items():
        if key.startswith(PROPERTY):
            name = key[len(PROPERTY) :]
            if len(name) < 3 or not _LETTERS.issuperset(name):
                raise UsageError("read", f"annotations.{key}", reason="must end in the name of a property of systemd")
            found.append((name, value))
    return tuple(found)


def _escape(name: str) -> str:
    """`name` with systemd's escapes for what a unit's name may not hold."""
    if _UNIT_NAME.issuperset(name):
        return name
    return "".join(c if c in _UNIT_NAME else "".join(f"\\x{byte:02x}" for byte in c.encode()) for c in name)
