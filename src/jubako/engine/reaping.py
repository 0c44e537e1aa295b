"""What killed processes left behind, removed by whoever comes next.

The kernel ends a container's processes with its supervisor; what it does not end is on disk, and was written there
before it was made: directories, names, control groups. A record counts only while the process that it names lives (pid,
start time and boot). Nothing that somebody holds the lock of is touched: that one is still at it.
"""

from __future__ import annotations

import errno
import os
import time

from jubako.engine import store
from jubako.engine.cgroups import remove_group
from jubako.engine.remove import remove_directories, remove_run_directory
from jubako.engine.reserve import NamesLock, holder_of, list_names
from jubako.errors import JubakoError, NotFoundError
from jubako.linux.boot import boot_id
from jubako.paths import Paths
from jubako.record import replace

_YOUNG = 60.0  # seconds: a directory without a state may belong to somebody who is about to write it


def reap(paths: Paths) -> None:
    """Settle every container whose supervisor or maker was killed, and what has no container at all."""
    _reap_keepers(paths)
    try:
        entries = os.listdir(paths.containers)
    except FileNotFoundError:
        return
    for entry in entries:
        if len(entry) == 64:
            if _is_stale(f"{paths.containers}/{entry}"):
                reap_container(paths, entry)
        elif entry.endswith(store.UNBORN):
            _reap_unborn(paths, entry)
    _reap_names(paths)
    _reap_run_directories(paths)


def _reap_keepers(paths: Paths) -> None:
    """What keepers of bridge networks that were killed have left."""
    try:
        left = any(name.startswith("bridge-") for name in os.listdir(paths.run))
    except FileNotFoundError:
        return
    if left:
        from jubako.net.bridge.client import tidy

        tidy(paths)


def reap_container(paths: Paths, identifier: str) -> None:
    """Settle one container, if it is stale and nobody is at it: what was running has exited, or is removed."""
    directory = store.container_directory(paths, identifier)
    try:
        with store.Lock(directory, wait=False):
            if _is_stale(directory):
                _settle(paths, identifier, directory)
    except (NotFoundError, BlockingIOError):
        return


def _is_stale(directory: str) -> bool:
    """Whether the recorded state cannot be true any more."""
    state = store.recorded_state(directory)
    if state is None:
        return _is_old(directory)
    if state.status in (store.CREATING, store.RUNNING):
        return not store.is_alive(state.monitor, state.monitor_start, state.boot)
    return bool(state.cgroup) or not os.path.exists(directory + "/container.json")


def _settle(paths: Paths, identifier: str, directory: str) -> None:
    state = store.recorded_state(directory)
    document = store.read_described(directory)
    if state is not None:
        remove_group(state.cgroup)
    remove_run_directory(store.run_directory(paths, identifier))
    begun = state is not None and state.status != store.CREATING
    if state is None or document is None or not begun or (document.get("rm") and state.status == store.RUNNING):
        name = str((document or {}).get("name", ""))
        there = store.Container(identifier, name, directory, document or {}, state or store.State())
        remove_directories(paths, there, inside=False)
        return
    if state.status == store.RUNNING:
        state = replace(
            state, status=store.EXITED, exit_code=store.KILLED, pid=0, monitor=0, finished=time.time_ns(),
            error="its supervisor was killed, or the machine restarted",
        )  # fmt: skip
    try:
        store.write_state(directory, replace(state, cgroup=""))
    except JubakoError as failure:  # a full disk must not keep anybody from removing; what is read says the same
        if failure.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _reap_unborn(paths: Paths, entry: str) -> None:
    """A directory whose maker was killed before the container had its name; it may have had no time for a state."""
    _, pid, begun = [*entry.removesuffix(store.UNBORN).split("."), "0", "0"][:3]
    if pid.isdecimal() and begun.isdecimal() and store.is_alive(int(pid), int(begun), boot_id()):
        return
    remove_run_directory(f"{paths.containers}/{entry}")


def _reap_names(paths: Paths) -> None:
    """Names that lead nowhere, and second names that a rename left when it was killed."""
    for name in list_names(paths):
        holder = holder_of(paths, name)
        if not holder or _is_called(paths, holder, name):
            continue
        try:
            with store.Lock(store.container_directory(paths, holder), wait=False):
                if not _is_called(paths, holder, name):
                    _unlink_name(paths, name, holder)
        except NotFoundError:
            _unlink_name(paths, name, holder)
        except BlockingIOError:
            continue


def _is_called(paths: Paths, identifier: str, name: str) -> bool:
    """Whether the container is there and says that this is its name; one in the making may not say so yet."""
    directory = store.container_directory(paths, identifier)
    document = store.read_described(directory)
    if not document:
        return store.recorded_state(directory) is not None
    return document.get("name") == name


def _unlink_name(paths: Paths, name: str, holder: str) -> None:
    with NamesLock(paths):
        if holder_of(paths, name) == holder:
            os.unlink(f"{paths.names}/{name}")


def _reap_run_directories(paths: Paths) -> None:
    """Run directories whose container is gone: its supervisor was killed between the two removals."""
    try:
        entries = os.listdir(paths.run + "/containers")
    except FileNotFoundError:
        return
    known = {identifier[:16] for identifier in store.list_ids(paths)} if entries else set()
    for entry in entries:
        directory = f"{paths.run}/containers/{entry}"
        if entry not in known and _is_old(directory):
            remove_run_directory(directory)


def _is_old(directory: str) -> bool:
    try:
        return time.time() - os.stat(directory).st_ctime > _YOUNG
    except FileNotFoundError:
        return False
