"""Ending containers and waiting for them: signals go through the supervisor, the end is seen at its pidfd.

Only the supervisor may signal a program that has other ids; and its own end is what proves that everything has ended,
files included. Nothing is polled for: pidfd_open(2), inotify(7), and the `Exited` message.
"""

from __future__ import annotations

import os
import select
import time

from jubako.engine import store
from jubako.engine.launch import connect, not_running, read_request
from jubako.errors import JubakoError, NotFoundError
from jubako.linux import cgroup
from jubako.linux.pidfd import open_process, send_signal
from jubako.paths import Paths
from jubako.runtime.messages import Exited, Signal, receive, send

SIGKILL = 9
_UNRESPONSIVE = 10.0  # seconds that a supervisor has to end its container by itself before it is killed


def stop_container(paths: Paths, container: store.Container, seconds: int | None = None, signal: int = 0) -> bool:
    """Send the stop signal, wait (the container's own stop timeout, -1: without end), then SIGKILL. False if it did not
    run."""
    supervisor = open_supervisor(container)
    if supervisor is None:
        return False
    try:
        extras = read_request(container).extras
        if seconds is None:
            seconds = extras.stop_timeout
        if not _tell(paths, container, signal or extras.stop_signal):
            _ended_in(supervisor, _UNRESPONSIVE)
            return True
        _thaw(container)
        if not _ended_in(supervisor, None if seconds < 0 else seconds):
            _kill(paths, container, supervisor)
        return True
    finally:
        os.close(supervisor)


def signal_container(paths: Paths, container: store.Container, number: int) -> None:
    """Send a signal to the container's first process; SIGKILL also waits for the end. It must run."""
    supervisor = open_supervisor(container)
    if supervisor is None:
        raise not_running(container.name)
    try:
        if number == SIGKILL:
            _kill(paths, container, supervisor)
        elif not _tell(paths, container, number):
            raise not_running(container.name)
    finally:
        os.close(supervisor)


def kill_container(paths: Paths, container: store.Container) -> None:
    """End the container at once, if it runs, and wait until its supervisor has cleaned up."""
    supervisor = open_supervisor(container)
    if supervisor is None:
        return
    try:
        _kill(paths, container, supervisor)
    finally:
        os.close(supervisor)


def wait_for_exit(paths: Paths, container: store.Container) -> int:
    """Wait until the container does not run; its exit code. `NotFoundError` if it is removed meanwhile."""
    supervisor = open_supervisor(container)
    if supervisor is not None:
        try:
            code = _hear_exit(paths, container)
            _ended_in(supervisor, None)
            if code is not None:
                return code
        finally:
            os.close(supervisor)
    state = store.read_state(container.directory)
    if state is None:
        raise NotFoundError("wait for container", container.name, reason="it has been removed")
    return max(state.exit_code, 0)


def wait_for_state(paths: Paths, container: store.Container, wanted: tuple[str, ...]) -> int:
    """Wait until the container's state is one of `wanted`, or "removed" when that is asked for; its exit code, 0 if it
    has none."""
    from jubako.linux.inotify import Watcher

    watcher = Watcher()
    try:
        watcher.watch(paths.containers)
        watched = watcher.try_watch(container.directory)
        code = max(container.state.exit_code, 0)
        while True:
            now = store.read_container(paths, container.id) if watched else None
            if now is None:
                if "removed" in wanted:
                    return code
                raise NotFoundError("wait for container", container.name, reason="it has been removed")
            code = max(now.state.exit_code, 0)
            if now.state.status in wanted:
                return code
            supervisor = open_supervisor(now)
            try:
                watcher.wait((supervisor,) if supervisor is not None else ())
            finally:
                if supervisor is not None:
                    os.close(supervisor)
    finally:
        watcher.close()


def open_supervisor(container: store.Container) -> int | None:
    """A pidfd of the container's supervisor; None if it does not run."""
    if not container.running:
        return None
    return open_process(container.state.monitor, container.state.monitor_start)


def _tell(paths: Paths, container: store.Container, number: int) -> bool:
    """Have the supervisor send a signal; False if it is gone, or going."""
    try:
        link = connect(paths, container)
    except JubakoError:
        return False
    try:
        send(link, Signal(number))
        return True
    except OSError:
        return False
    finally:
        link.close()


def _kill(paths: Paths, container: store.Container, supervisor: int) -> None:
    _tell(paths, container, SIGKILL)
    if _ended_in(supervisor, _UNRESPONSIVE):
        return
    try:
        send_signal(supervisor, SIGKILL)  # the kernel ends the rest of its PID namespace with it
    except ProcessLookupError:
        pass
    _ended_in(supervisor, None)
    from jubako.engine.reaping import reap_container

    reap_container(paths, container.id)


def _thaw(container: store.Container) -> None:
    """A frozen process gets its signal when it goes on."""
    group = container.state.cgroup
    if group:
        try:
            cgroup.freeze(group, False)
        except OSError:
            return


def _ended_in(pidfd: int, seconds: float | None) -> bool:
    """Wait for a process to end, for ever if `seconds` is None."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        left = None if until is None else max(0.0, until - time.monotonic())
        if poller.poll(None if left is None else int(left * 1000) + 1):
            return True
        if left == 0:
            return False


def _hear_exit(paths: Paths, container: store.Container) -> int | None:
    """The exit code from the supervisor itself, which also tells that of a container that is removed at its end."""
    try:
        link = connect(paths, container)
    except JubakoError:
        return None
    try:
        while True:
            message, _descriptors = receive(link)
            if isinstance(message, Exited):
                return message.code
            if message is None:
                return None
    finally:
        link.close()
