"""Shares of caches and of memory bandwidth: the resctrl file system (kernel documentation, arch/x86/resctrl).

A group is a directory: its `schemata` say what it gets, its `tasks` who is in it, its `mon_groups` are watched alone.
"""

from __future__ import annotations

import os


def find_mount() -> str:
    """Where resctrl is mounted; empty if nowhere."""
    with open("/proc/self/mountinfo", "rb", buffering=0) as file:
        text = b"".join(iter(lambda: file.read(1 << 16), b""))
    for line in text.splitlines():
        if b" - resctrl " in line:
            return os.fsdecode(line.split()[4])
    return ""


def make_group(mount: str, name: str) -> bool:
    """Make the group `name`; False if it was there already."""
    try:
        os.mkdir(f"{mount}/{name}")
    except FileExistsError:
        return False
    return True


def set_schemata(mount: str, name: str, lines: tuple[str, ...]) -> None:
    """What the group gets, one line at a time, since the kernel names the one that is wrong."""
    for line in lines:
        _write(f"{mount}/{name}/schemata", f"{line}\n")


def add_task(mount: str, name: str, pid: int) -> None:
    """Place the process `pid` (all of whose children follow) in the group."""
    _write(f"{mount}/{name}/tasks", str(pid))


def remove_group(mount: str, name: str) -> None:
    """Remove a group, if it is there; whoever is in it falls back to the default one."""
    try:
        os.rmdir(f"{mount}/{name}")
    except FileNotFoundError:
        pass


def last_status(mount: str) -> str:
    """What the kernel says of the last failure."""
    try:
        with open(f"{mount}/info/last_cmd_status", encoding="utf-8", errors="replace") as file:
            text = file.read().strip()
    except OSError:
        return ""
    return "" if text == "ok" else text


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as failure:
        failure.filename = path
        raise
    finally:
        os.close(fd)
