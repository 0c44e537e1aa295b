"""`pause` and `unpause`: the kernel stops every process of the container's group (`cgroup.freeze`, cgroup v2)."""

from __future__ import annotations

from jubako.engine import store
from jubako.engine.cgroups import HINT, NEEDED, find_parent
from jubako.engine.launch import not_running
from jubako.errors import JubakoError
from jubako.linux import cgroup


def pause_container(container: store.Container) -> None:
    """Stop all processes of the container, until `unpause_container`."""
    group = _group(container, "pause")
    if container.state.status == store.PAUSED:
        raise JubakoError("pause container", container.name, reason="it is paused already")
    _freeze(container, group, frozen=True)


def unpause_container(container: store.Container) -> None:
    """Let them go on."""
    group = _group(container, "unpause")
    if container.state.status != store.PAUSED:
        raise JubakoError("unpause container", container.name, reason="it is not paused")
    _freeze(container, group, frozen=False)


def _group(container: store.Container, verb: str) -> str:
    if not container.running:
        raise not_running(container.name)
    group = container.state.cgroup
    if group:
        return group
    _directory, reason = find_parent()
    reason = (
        f"{NEEDED}: {reason}" if reason.startswith("/") or "cgroup v2" in reason else "it was started without a cgroup"
    )
    raise JubakoError(f"{verb} container", container.name, reason=reason, hint=HINT)


def _freeze(container: store.Container, group: str, *, frozen: bool) -> None:
    """Write the wish and wait until the kernel says in `cgroup.events` that it is so."""
    from jubako.linux.inotify import Watcher

    watcher = Watcher()
    try:
        watcher.watch(group + "/cgroup.events")  # the kernel notifies its readers as of a modified file
        cgroup.freeze(group, frozen)
        for _round in range(50):
            if bool(cgroup.events(group).get("frozen")) == frozen:
                return
            watcher.wait(seconds=0.2)
    except OSError as failure:
        raise JubakoError.from_os_error("freeze" if frozen else "thaw", group, failure, HINT) from failure
    finally:
        watcher.close()
    raise JubakoError(
        "freeze" if frozen else "thaw", group, reason=f"container {container.name} did not get there in 10 s"
    )
