"""Removing containers on request: `rm`, `container prune`, `run --replace`."""

from __future__ import annotations

from jubako.engine import store
from jubako.engine.ending import kill_container, stop_container
from jubako.engine.remove import remove_directories
from jubako.engine.reserve import holder_of
from jubako.errors import JubakoError, NotFoundError
from jubako.paths import Paths


def remove_container(
    paths: Paths, container: store.Container, *, force: bool = False, seconds: int | None = None
) -> None:
    """Remove the container. One that runs is refused, or with `force` ended first: killed, or stopped if `seconds`
    gives it time."""
    while True:
        try:
            with store.Lock(container.directory):
                now = store.read_container(paths, container.id)
                if now is None or not now.running:
                    remove_directories(paths, now or container, inside=False)
                    return
                if not force:
                    raise JubakoError(
                        "remove container",
                        now.name,
                        reason=f"it is {now.state.status}",
                        hint=f"stop it first (jubako stop {now.name}), or add --force",
                    )
        except NotFoundError:  # another has removed it meanwhile, or it removed itself at its end
            if force:
                return
            raise
        # Not under the lock: the supervisor takes it to write down the end.
        if seconds is None:
            kill_container(paths, now)
        else:
            stop_container(paths, now, seconds)


def prune_containers(paths: Paths, labels: tuple[str, ...] = (), until: int = 0) -> list[str]:
    """Remove every container that does not run, has all `labels` (KEY or KEY=VALUE) and was made before `until` (in
    nanoseconds, 0 for any time); the ids."""
    removed = []
    for container in store.list_containers(paths):
        if container.running or (until and container.state.created >= until):
            continue
        if not all(_has_label(container, label) for label in labels):
            continue
        try:
            remove_container(paths, container)
        except JubakoError:  # it was started or removed just now
            continue
        removed.append(container.id)
    return removed


def replace_container(paths: Paths, name: str) -> None:
    """Remove the container that has this very name, whatever it does, if there is one."""
    identifier = holder_of(paths, name) if "/" not in name else ""
    container = store.read_container(paths, identifier) if identifier else None
    if container is not None:
        remove_container(paths, container, force=True)


def _has_label(container: store.Container, label: str) -> bool:
    name, has_value, value = label.partition("=")
    labels = container.document.get("labels", {})
    return name in labels and (not has_value or labels[name] == value)
