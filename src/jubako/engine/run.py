"""`run` and `create`: a request becomes a container on disk, and for `run` a running one."""

from __future__ import annotations

import os
import time

from jubako.engine import store
from jubako.engine.build import build_request
from jubako.engine.document import dump_extras
from jubako.engine.extras import Request, read_context
from jubako.engine.launch import Basis, Start, open_basis, start_container
from jubako.engine.options import RunOptions
from jubako.engine.remove import remove_directories
from jubako.errors import JubakoError
from jubako.linux.boot import boot_id
from jubako.linux.pidfd import start_time
from jubako.paths import Paths, find_paths, make_run_directories
from jubako.record import record
from jubako.runtime.caller import DETACHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.image.model import Image


@record
class Made:
    """A container in the making, with what is known about it already. Its lock is held, and its state says `creating`
    until it is created or runs: were this process killed, whoever comes next would remove it."""

    container: store.Container
    request: Request
    image: Image | None
    basis: Basis
    lock: store.Lock


def run_container(options: RunOptions, paths: Paths | None = None) -> int:
    """`jubako run`: the exit code for the shell."""
    paths = paths or find_paths()
    # What is removed at its end anyway is described while the supervisor is at work; until it runs its lock is held.
    late = options.rm and not options.detach
    made = make_container(paths, options, describe=not late)
    begun: list[bool] = []

    def started() -> None:
        begun.append(True)
        made.lock.release()

    start = Start(
        detach=options.detach,
        interactive=options.interactive,
        detach_keys=options.detach_keys,
        sig_proxy=options.sig_proxy,
        meanwhile=(lambda: write_documents(made)) if late else None,
        started=started,
    )
    try:
        code = start_container(paths, made.basis, made.container, made.request, made.image, start)
    except BaseException:
        if not begun:  # from then on the supervisor cleans up
            remove_directories(paths, made.container, inside=False)
            _remove_id_file(options)
        raise
    finally:
        made.lock.release()
    if options.detach:
        os.write(1, made.container.id.encode() + b"\n")
    return 0 if code == DETACHED else code


def create_container(options: RunOptions, paths: Paths | None = None) -> str:
    """`jubako create`: the new container's id."""
    made = make_container(paths or find_paths(), options)
    try:
        store.write_state(made.container.directory, store.State(store.CREATED, created=made.container.state.created))
    finally:
        made.lock.release()
    return made.container.id


def make_container(paths: Paths, options: RunOptions, *, describe: bool = True) -> Made:
    """Make the container's directory and name, and its documents (or leave those to `write_documents`). What fails
    leaves nothing behind."""
    make_run_directories(paths)
    basis = open_basis(paths)
    identifier = store.new_id()
    image = find_image(paths, options)
    context = read_context(identifier, tty_group=basis.ids.gids.size > 5)
    request = build_request(options, image.config if image is not None else None, context)
    refuse_limits(request)
    log = _log_request(options)
    if options.replace and options.name:
        from jubako.engine.deleting import replace_container

        replace_container(paths, options.name)
    if options.name:
        _free_name(paths, options.name)
    name, lock = store.new_container(paths, identifier, options.name)
    directory = store.container_directory(paths, identifier)
    document = _describe(identifier, name, options, request, image, log)
    me = os.getpid()
    state = store.State(
        store.CREATING, monitor=me, monitor_start=start_time(me), boot=boot_id(), created=time.time_ns()
    )
    container = store.Container(identifier, name, directory, document, state)
    written = False
    try:
        _write_id_file(options, identifier)
        written = True
        if request.extras.userns.mode == "auto":
            document["ids"] = _allocate(paths, basis, request, container, image)
        made = Made(container, request, image, basis, lock)
        if describe:
            write_documents(made)
        return made
    except BaseException:
        if written:
            _remove_id_file(options)
        remove_directories(paths, container, inside=False)
        lock.release()
        raise


def write_documents(made: Made) -> None:
    """`config.json` and `container.json`, in this order: the second says that the container is whole."""
    from jubako.spec import dump

    store.write_document(made.container.directory + "/config.json", dump.dump(made.request.spec))
    store.write_document(made.container.directory + "/container.json", made.container.document)


def _describe(
    identifier: str, name: str, options: RunOptions, request: Request, image: Image | None, log: tuple[bool, int]
) -> dict[str, Any]:
    """`container.json`: all that a later command needs and config.json does not say."""
    return {
        "id": identifier,
        "name": name,
        "image": options.image or options.rootfs,
        "image_id": image.id if image is not None else "",
        "command": list(request.spec.process.args),
        "rm": options.rm,
        "interactive": options.interactive,
        "pidfile": os.path.abspath(options.pidfile) if options.pidfile else "",
        "log": bool(options.detach or not options.rm) and log[0],
        "log_limit": log[1],
        "labels": dict(request.extras.labels),
        "extras": dump_extras(request.extras),
        **_places(request),
    }


def _places(request: Request) -> dict[str, Any]:
    """The container's places on bridge networks, which may change as long as there is the container."""
    if not request.extras.places:
        return {}
    from jubako.engine.networks import KEY
    from jubako.net.bridge.asked import dump_places

    return {KEY: dump_places(request.extras.places)}


def _free_name(paths: Paths, name: str) -> None:
    """A name whose container was left behind by a killed command is free."""
    from jubako.engine.reserve import holder_of

    holder = holder_of(paths, name) if "/" not in name else ""
    if holder:
        from jubako.engine.reaping import reap_container

        reap_container(paths, holder)


def _log_request(options: RunOptions) -> tuple[bool, int]:
    """Whether there is a log, and its size in bytes (0: any)."""
    if not options.log_driver and not options.log_opt:
        return True, 0
    from jubako.engine.parse.logs import parse_log

    log = parse_log(options.log_driver, options.log_opt)
    return log.kept, log.limit


def _allocate(
    paths: Paths, basis: Basis, request: Request, container: store.Container, image: Image | None
) -> dict[str, str]:
    from jubako.engine.allocation import AllocationLock, allocate_ids, dump_ids

    with AllocationLock(paths):
        ids = dump_ids(allocate_ids(paths, basis.ids, request.extras, image.layers if image is not None else ()))
        store.write_document(container.directory + "/container.json", {**container.document, "ids": ids})
    return ids


def find_image(paths: Paths, options: RunOptions) -> Image | None:
    """The local image that the options name; None where the root is a directory or the host."""
    if not options.image or options.rootfs or options.image in ("host", "host:rw"):
        return None
    from jubako.image.resolve import resolve

    return resolve(paths, options.image)


def _write_id_file(options: RunOptions, identifier: str) -> None:
    if not options.cidfile:
        return
    try:
        fd = os.open(options.cidfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError as failure:
        raise JubakoError.from_os_error(
            "write --cidfile", options.cidfile, failure, "another container may be using it: remove it or give another"
        ) from failure
    except OSError as failure:
        raise JubakoError.from_os_error("write --cidfile", options.cidfile, failure) from failure
    os.write(fd, identifier.encode())
    os.close(fd)


def _remove_id_file(options: RunOptions) -> None:
    if options.cidfile:
        try:
            os.unlink(options.cidfile)
        except FileNotFoundError:
            return


def refuse_limits(request: Request) -> None:
    """Raise `JubakoError` where limits are asked for that cannot be kept, unless --best-effort does without."""
    if request.spec.linux.resources is not None and not request.extras.best_effort:
        raise JubakoError(
            "limit the container's resources",
            reason="limits by control group are not supported yet",
            hint="--ulimit limits each process; --best-effort runs without the limits",
        )
