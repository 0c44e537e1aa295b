"""Processes by descriptor: pidfd_open(2), pidfd_send_signal(2). A pid may be reused; a pidfd never names another."""

from __future__ import annotations

import errno
import os

from jubako.linux.libc import syscall


def open_pidfd(pid: int) -> int:
    """A descriptor of the process `pid` (close-on-exec)."""
    return syscall("pidfd_open", pid, 0, subject=f"pid {pid}")


def send_signal(pidfd: int, signal: int) -> None:
    """Send `signal` to the very process that `pidfd` names."""
    syscall("pidfd_send_signal", pidfd, signal, 0, 0, subject=f"pidfd {pidfd}")


def start_time(pid: int) -> int:
    """When the process started, in clock ticks since boot (`/proc/PID/stat` field 22); 0 if it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read(4096).rpartition(b")")[2].split()
    except OSError as failure:
        if failure.errno in (errno.ENOENT, errno.ESRCH):
            return 0
        raise
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def host_pid(pidfd: int) -> int:
    """The pid of a process as the mounted /proc counts it, which may differ from the caller's own PID namespace.

    Read from `/proc/self/fdinfo`; 0 or -1 if the process has ended or cannot be seen there.
    """
    with open(f"/proc/self/fdinfo/{pidfd}", "rb", buffering=0) as file:
        for line in file.read(4096).splitlines():
            if line.startswith(b"Pid:"):
                return int(line.split()[1])
    return -1


def open_process(pid: int, started: int) -> int | None:
    """A pidfd of the process `pid` that began at `started` (see `start_time`); None if that one is gone."""
    try:
        pidfd = open_pidfd(pid)
    except ProcessLookupError:
        return None
    if start_time(pid) != started:
        os.close(pidfd)
        return None
    return pidfd
