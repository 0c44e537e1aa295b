"""`kill` and `delete` (OCI runtime-spec 1.3, runtime.md, "Kill", "Delete")."""

from __future__ import annotations

import os
import time

from jubako.errors import JubakoError, NotFoundError, UsageError
from jubako.linux.pidfd import open_pidfd, open_process, send_signal
from jubako.oci.start import run_hooks
from jubako.oci.state import CREATED, PAUSED, RUNNING, STOPPED, Container, State, lives

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SIGKILL = 9
_PATIENCE = 10.0
"""Seconds that the kernel may take for ending what was killed, before it is an error."""


def kill(container: Container, number: int, *, everything: bool = False) -> None:
    """Send signal `number` to the container's first process, or with `everything` to all of its processes. Raises
    `UsageError` for a container that does not run and is not created."""
    state = container.read()
    status = container.status(state)
    if status not in (CREATED, RUNNING, PAUSED) and not (everything and state.cgroup):
        raise _not_running("kill container", container.id)
    if everything:
        _kill_everything(state, number)
        return
    pidfd = open_process(state.pid, state.pid_start)
    if pidfd is None:
        raise _not_running("kill container", container.id)
    try:
        send_signal(pidfd, number)
    except ProcessLookupError:
        raise _not_running("kill container", container.id) from None
    except OSError as failure:
        raise JubakoError.from_os_error("kill container", container.id, failure) from failure
    finally:
        os.close(pidfd)
    if status == PAUSED and number == SIGKILL:
        _thaw(state)  # in a frozen group of cgroup v2 a killed process ends at once; one that is stopped otherwise, too


def _kill_everything(state: State, number: int) -> None:
    if state.cgroup:
        from jubako.oci.groups import signal_group

        signal_group(state.cgroup, number)
    elif lives(state):  # the end of a PID namespace's first process is the end of all
        pidfd = open_process(state.pid, state.pid_start)
        if pidfd is not None:
            try:
                send_signal(pidfd, number)
            except ProcessLookupError:
                pass
            finally:
                os.close(pidfd)


def delete(container: Container, warn: Callable[[str], None], *, force: bool = False) -> None:
    """Remove what `create` made. With `force` a container that is not stopped is killed first, and one that does not
    exist is no error. Raises `UsageError` where the container is not stopped."""
    if force:
        if not _seized(container):
            return
    else:
        container.lock()
    try:
        _delete(container, warn, force)
    finally:
        container.unlock()


def _seized(container: Container) -> bool:
    """Whether its lock is ours; else there is nothing of that id."""
    from jubako.oci.seizing import seize

    while True:
        try:
            seize(container)
            return True
        except NotFoundError:  # unless it is a directory: then it was made anew while we waited, and may hold processes
            if os.path.islink(container.directory) or not os.path.isdir(container.directory):
                if os.path.lexists(container.directory):
                    container.remove()
                return False


def _delete(container: Container, warn: Callable[[str], None], force: bool) -> None:
    try:
        state = container.read()
        status = container.status(state)
    except JubakoError as failure:
        if not force:
            raise
        warn(str(failure))
        state = container.salvage() or State(container.id, "", "", "")
        status = ""
    if status != STOPPED:
        if not force:
            raise UsageError(
                "delete container", container.id, reason=f"cannot delete a container that is not stopped: {status}",
                hint="kill it first, or pass --force",
            )  # fmt: skip
        place = "" if state.cgroup else own_mounts(container, state.pid)
        end_process(state)
        if place:
            end_all_in(place)
    if state.cgroup or state.unit:
        from jubako.oci.groups import is_group, remove_group

        if not state.cgroup or is_group(state.cgroup):
            remove_group(state.cgroup, state.unit)
        elif os.path.lexists(state.cgroup):
            warn(f"{container.directory}/state.json names a control group that is none: {state.cgroup}")
    if state.resctrl:
        from jubako.linux.resctrl import remove_group as remove_resctrl_group

        remove_resctrl_group(*os.path.split(state.resctrl))
    container.remove()
    run_hooks(container, state, "poststop", "stopped", warn)


def end_process(state: State) -> None:
    """Kill the container's first process, and wait until it is gone (or only its parent's to reap)."""
    if not lives(state):
        return
    pidfd = open_process(state.pid, state.pid_start)
    if pidfd is None:
        return
    try:
        send_signal(pidfd, SIGKILL)
        if state.cgroup and not state.made:  # who was making it may still hold it, and not let it end (ptrace(2))
            _kill_everything(state, SIGKILL)
        _thaw(state)
        deadline = time.monotonic() + _PATIENCE
        while not _ended(pidfd):
            if time.monotonic() > deadline:
                raise JubakoError(
                    "kill container", state.id, reason=f"process {state.pid} is still there after {_PATIENCE:.0f} s",
                    hint="it is in an uninterruptible wait of the kernel: see its state in ps",
                )  # fmt: skip
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def own_mounts(container: Container, init: int) -> str:
    """The container's mount namespace where only that holds its processes together: it has neither a group nor a PID
    namespace, whose first process would take all others with it, but mounts of its own (as config.json says)."""
    from jubako.oci.bundle import read_config, read_text

    try:
        with open(f"/proc/{init}/status", "rb", buffering=0) as file:
            pids = next(line for line in file.read(8192).splitlines() if line.startswith(b"NSpid:"))
        if pids.split()[-1] == b"1":
            return ""
        spaces = read_config(read_text(container.directory + "/config.json")).linux.namespaces
        if not any(space.type == "mount" and not space.path for space in spaces):
            return ""
        place = os.readlink(f"/proc/{init}/ns/mnt")
    except (OSError, StopIteration, JubakoError):
        return ""
    return "" if place == os.readlink("/proc/self/ns/mnt") else place


def end_all_in(place: str) -> None:
    """Kill every process in the mount namespace `place`, also those that are forked meanwhile."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        there = [int(name) for name in os.listdir("/proc") if name.isdecimal() and _is_in(place, int(name))]
        if not there:
            return
        for pid in there:
            try:
                pidfd = open_pidfd(pid)
            except ProcessLookupError:
                continue
            try:
                if _is_in(place, pid):
                    send_signal(pidfd, SIGKILL)
            except ProcessLookupError:
                pass
            finally:
                os.close(pidfd)
        time.sleep(0.005)


def _is_in(place: str, pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt") == place
    except OSError:  # it has ended, is a zombie, or somebody else's
        return False


def run_poststop_hooks(container: Container, state: State) -> None:
    """For a container whose making failed: its hooks may have made something."""
    run_hooks(container, state, "poststop", "stopped", lambda _text: None)


def _ended(pidfd: int) -> bool:
    import select

    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(100))


def _thaw(state: State) -> None:
    if state.cgroup:
        from jubako.linux import cgroup

        try:
            cgroup.freeze(state.cgroup, False)
        except OSError:
            return


def _not_running(operation: str, identifier: str) -> UsageError:
    return UsageError(operation, identifier, reason="container not running")
