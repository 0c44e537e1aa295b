"""`events`: what a container uses, again and again, and when the kernel killed in it for want of memory.

One JSON object a line, as runc writes them: `{"type":"stats","id":…,"data":{…}}` and `{"type":"oom","id":…}`.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError, UsageError
from jubako.oci.groups import NO_GROUP, NO_GROUP_HINT
from jubako.oci.stats import oom_kills, read_stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def stats_event(identifier: str, group: str, status: str) -> dict[str, Any]:
    """One stats event, of now. Raises `UsageError` for a container that has stopped, `JubakoError` without a group."""
    _check(identifier, group, status)
    return {"type": "stats", "id": identifier, "data": read_stats(group)}


def stream_events(identifier: str, group: str, status: str, seconds: float = 5.0) -> Iterator[dict[str, Any]]:
    """A stats event every `seconds`, and an oom event for each time that the kernel killed; ends with the container."""
    if seconds <= 0:
        raise UsageError("read", "--interval", reason="must be greater than 0")
    _check(identifier, group, status)
    return _stream(identifier, group, seconds)


def read_interval(text: str) -> float:
    """Seconds from a duration as Go programs write them: 5s, 1m30s, 500ms."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
    total, rest = 0.0, text
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip("hmsunµ"))]
        rest = rest[len(unit) :]
        if unit not in units or number.count(".") > 1 or not number.strip("."):
            raise UsageError("read", "--interval", reason=f"must be a duration like 5s or 500ms, not {text!r}")
        total += float(number) * units[unit]
    if not 0 < total < 1e9:
        raise UsageError("read", "--interval", reason=f"must be greater than 0, not {text!r}")
    return total


def _check(identifier: str, group: str, status: str) -> None:
    if status not in ("created", "running", "paused"):
        raise UsageError("watch container", identifier, reason=f"it is not running: {status}")
    if not group:
        raise JubakoError("watch container", identifier, reason=NO_GROUP, hint=NO_GROUP_HINT)


def _stream(identifier: str, group: str, seconds: float) -> Iterator[dict[str, Any]]:
    import select
    import time

    opened = []
    try:
        poller = select.poll()  # the kernel wakes who polls these files when they change
        for name in ("cgroup.events", "memory.events"):
            try:
                opened.append(os.open(f"{group}/{name}", os.O_RDONLY | os.O_CLOEXEC))
            except FileNotFoundError:  # the group has no memory controller, or is gone
                continue
            poller.register(opened[-1], select.POLLPRI)
        killed = oom_kills(group)
        due = time.monotonic() + seconds
        while opened:
            poller.poll(max(0, due - time.monotonic()) * 1000)
            groups_events, *_others = [_read(fd) for fd in opened]  # unread, a change would wake us for ever
            now = oom_kills(group)
            for _ in range(now - killed):
                yield {"type": "oom", "id": identifier}
            killed = max(now, killed)
            if b"populated 1" not in groups_events:
                return
            if time.monotonic() >= due:
                yield {"type": "stats", "id": identifier, "data": read_stats(group)}
                due = time.monotonic() + seconds
    finally:
        for fd in opened:
            os.close(fd)


def _read(fd: int) -> bytes:
    try:
        return os.pread(fd, 4096, 0)
    except OSError:  # ENODEV: the group is gone
        return b""
