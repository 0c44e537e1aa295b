"""Which security module the kernel enforces: apparmor(7), selinux(8), proc(5) on /proc/PID/attr.

A label for the next execve(2) is written to a file of the process's own in procfs; where it lies depends on the module.
"""

from __future__ import annotations

import os

from jubako.linux.procfs import own_directory, write_in_procfs

APPARMOR, SELINUX = "apparmor", "selinux"


def is_enabled(module: str) -> bool:
    """Whether this kernel has the module switched on."""
    if module == APPARMOR:
        return _first_byte("/sys/module/apparmor/parameters/enabled") == b"Y"
    with open("/proc/filesystems", "rb", buffering=0) as file:
        known = b"\tselinuxfs\n" in file.read(1 << 14)
    return known and any(os.path.exists(f"{path}/enforce") for path in ("/sys/fs/selinux", "/selinux"))


def set_exec_label(proc: int, module: str, label: str) -> None:
    """Have the next execve(2) of the caller change to `label`; `proc` is a procfs that was verified."""
    own = own_directory(proc)
    if module == SELINUX:
        write_in_procfs(proc, f"{own}/attr/exec", os.fsencode(label))
        return
    text = b"exec " + os.fsencode(label)
    try:
        write_in_procfs(proc, f"{own}/attr/apparmor/exec", text)
    except FileNotFoundError:  # before Linux 5.8 there was one file for whichever module was the first
        write_in_procfs(proc, f"{own}/attr/exec", text)


def _first_byte(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(1)
    except OSError:
        return b""
