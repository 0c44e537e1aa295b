"""`start` and `restart`: a container that exists runs again, with the layer it had."""

from __future__ import annotations

from jubako.engine import store
from jubako.engine.attaching import attach_container
from jubako.engine.ending import stop_container
from jubako.engine.launch import Start, open_basis, start_container
from jubako.engine.reaping import reap_container
from jubako.engine.remove import remove_directories
from jubako.errors import JubakoError, NotFoundError
from jubako.paths import Paths, make_run_directories
from jubako.record import record, replace
from jubako.runtime.caller import DETACHED


@record
class StartOptions:
    """How `start` is asked; fields are named for docker's and podman's flags."""

    attach: bool = False
    interactive: bool = False
    detach_keys: str = "ctrl-p,ctrl-q"
    sig_proxy: bool = True


def start_existing(paths: Paths, container: store.Container, options: StartOptions = StartOptions()) -> int:
    """Start the container, unless it runs; 0, or with `attach` its exit code. Two at once start it once."""
    make_run_directories(paths)
    reap_container(paths, container.id)
    basis = open_basis(paths)
    lock = store.Lock(container.directory)
    lock.__enter__()
    try:
        now = _read_again(paths, container)
        if now.running:
            lock.release()
            return attach_container(paths, now, options) if options.attach else 0
        start = Start(
            detach=not options.attach,
            interactive=options.interactive,
            detach_keys=options.detach_keys,
            sig_proxy=options.sig_proxy,
            started=lock.release,
        )
        try:
            code = start_container(paths, basis, now, None, None, start)
        except JubakoError as failure:
            if lock.fd >= 0:
                _write_failure(paths, now, failure)
            raise
        return 0 if code == DETACHED else code
    finally:
        lock.release()


def restart_container(paths: Paths, container: store.Container, seconds: int | None = None) -> None:
    """Stop the container if it runs, and start it."""
    if container.running and container.document["rm"]:
        raise JubakoError(
            "restart container", container.name, reason="it is removed when it ends", hint="run it without --rm"
        )
    stop_container(paths, container, seconds)
    start_existing(paths, container)


def _read_again(paths: Paths, container: store.Container) -> store.Container:
    """The container as it is now that its lock is held."""
    now = store.read_container(paths, container.id)
    if now is None or now.state.status == store.CREATING:
        raise NotFoundError(
            "start container", container.name, reason="no such container", hint="jubako ps -a lists them"
        )
    return now


def _write_failure(paths: Paths, container: store.Container, failure: JubakoError) -> None:
    if container.document["rm"]:
        remove_directories(paths, container, inside=False)
        return
    state = replace(container.state, error=str(failure).splitlines()[0], cgroup="")
    store.write_state(container.directory, state)
