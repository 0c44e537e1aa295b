"""Taking a container's lock from a command that does not come to an end: `delete --force` waits for nobody for long.

Commands hold the lock while they work, and their work may take as long as the program of somebody else: a hook, a step
of the container. They are given a moment; then they are killed, which at none of their steps leaves anything that
`delete` would not find.
"""

from __future__ import annotations

import fcntl
import os
import time

from jubako.errors import JubakoError
from jubako.linux.pidfd import open_pidfd, send_signal
from jubako.oci.state import Container, remove_entry

PATIENCE = 3.0
"""Seconds that a command gets to finish by itself."""
_LONGEST = 10.0
_SIGKILL = 9


def seize(container: Container) -> None:
    """Hold the lock of `container`, whoever has it. Raises `NotFoundError` where there is no container any more."""
    fd = _open(container)
    try:
        if not _try(fd, PATIENCE):
            for pidfd in _holders(fd):
                try:
                    send_signal(pidfd, _SIGKILL)
                except ProcessLookupError:
                    continue
                finally:
                    os.close(pidfd)
            if not _try(fd, _LONGEST):
                raise JubakoError(
                    "lock", container.directory, reason=f"another command still holds it after {_LONGEST:g} s",
                    hint="it is in an uninterruptible wait of the kernel, or somebody else's: see /proc/locks",
                )  # fmt: skip
        container.keep_lock(fd)
    except BaseException:
        os.close(fd)
        raise


def _open(container: Container) -> int:
    try:
        return container.open_lock()
    except JubakoError as failure:
        path = container.directory + "/lock"
        if not os.path.islink(path) and not os.path.isdir(path):
            raise
        try:
            remove_entry(path)  # no lock of ours
        except OSError:
            raise failure from None
        return container.open_lock()


def _try(fd: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    wait = 0.001
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
        time.sleep(wait)
        wait = min(2 * wait, 0.05)


def _holders(fd: int) -> list[int]:
    """Descriptors of the processes that hold the lock, as far as they can be seen (/proc/locks in proc(5))."""
    file = os.fstat(fd)
    found = []
    with open("/proc/locks", "rb", buffering=0) as locks:
        lines = locks.readall().decode().splitlines()
    for line in lines:
        words = line.split()
        if words[1] != "FLOCK" or words[-3].rpartition(":")[2] != str(file.st_ino) or int(words[4]) <= 0:
            continue  # waiters have "->" before their kind
        pid = int(words[4])
        try:
            pidfd = open_pidfd(pid)
        except OSError:
            continue
        if pid != os.getpid() and _has_open(pid, file):
            found.append(pidfd)
        else:
            os.close(pidfd)
    return found


def _has_open(pid: int, file: os.stat_result) -> bool:
    """Whether the process has that very file open: numbers of files are the same on several file systems."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for name in names:
        try:
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{name}"), file):
                return True
        except OSError:
            continue
    return False
