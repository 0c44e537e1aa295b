"""This boot of the kernel: proc(5), /proc/sys/kernel/random/boot_id."""

from __future__ import annotations


def boot_id() -> str:
    """The kernel's name for this boot: pids and start times of another one mean nothing."""
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
        return file.read(64).decode().strip()
