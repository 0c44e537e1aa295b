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
_SIGSTOP = 19


def seize(container: Container) -> None:
    """Hold the lock of `container`, whoever has it. Raises `NotFoundError` where there is no container any more."""
    fd = _open(container)
    try:
        if not _try(fd, PATIENCE):
            _end_holders(fd)
            if not _try(fd, 0.1):
                _end_init(container)  # in a hook of its own it does not see that nobody waits for it any more
            if not _try(fd, _LONGEST):
                raise JubakoError(
                    "lock", container.directory, reason=f"another command still holds it after {_LONGEST:g} s",
                    hint="it is in an uninterruptible wait of the kernel, or somebody else's: see /proc/locks",
                )  # fmt: skip
        container.keep_lock(fd)
    except BaseException:
        os.close(fd)
        raise


def _end_holders(fd: int) -> None:
    """Kill the commands that hold the lock, and the sessions of the hooks that they run. A command is stopped first: so
    it stays the parent of its hooks, whose numbers are theirs until their sessions have got the signal."""
    for pid, pidfd in _holders(fd):
        try:
            send_signal(pidfd, _SIGSTOP)
            for hook in _children(pid):
                _kill_session(hook)
            send_signal(pidfd, _SIGKILL)
        except ProcessLookupError:
            continue
        finally:
            os.close(pidfd)


def _kill_session(leader: int) -> None:
    try:
        if os.getsid(leader) == leader:
            os.killpg(leader, _SIGKILL)
    except ProcessLookupError:
        return


def _end_init(container: Container) -> None:
    from jubako.oci.ending import end_process

    try:
        state = container.read()
    except JubakoError:
        found = container.salvage()
        if found is None:
            return
        state = found
    end_process(state)


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


def _holders(fd: int) -> list[tuple[int, int]]:
    """The processes, as pid and descriptor, that hold the lock, as far as they can be seen (/proc/locks in proc(5))."""
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
            found.append((pid, pidfd))
        else:
            os.close(pidfd)
    return found


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb", buffering=0) as file:
            return [int(word) for word in file.readall().split()]
    except OSError:  # it has ended, or this kernel has no such file
        return []


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
