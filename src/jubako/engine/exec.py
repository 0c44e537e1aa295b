"""`exec`: another program in a running container, as its user, with its filter and capabilities.

The supervisor hands out the container's namespaces by descriptor; the program is started from the caller's own
process tree, so its streams are the caller's and nothing passes through the container's supervisor.
"""

from __future__ import annotations

import os
import select

from jubako.engine import store
from jubako.engine.allocation import load_ids
from jubako.engine.launch import container_namespaces, open_basis, read_request
from jubako.engine.parse.env import parse_env, read_env_file
from jubako.engine.prepare import compile_filter, ids_for
from jubako.engine.streams import StreamRequest, Streams
from jubako.errors import UsageError
from jubako.ids.base_ids import BaseIds
from jubako.linux.clone import is_owned_by, namespace_path, parent_namespace
from jubako.linux.pidfd import send_signal
from jubako.paths import Paths, find_paths
from jubako.plan.extras import Extras
from jubako.plan.host import RootSource
from jubako.plan.joined import PARENT, plan_joined
from jubako.plan.step import RUNTIME, Plan, Slots
from jubako.record import record, replace
from jubako.runtime.applier import Applier
from jubako.runtime.caller import DETACHED, LOST, Caller
from jubako.runtime.facts import gather_host
from jubako.runtime.messages import Exited, Signal, Started, receive, send
from jubako.spec.types import Process, User

SIGKILL = 9


@record
class ExecOptions:
    """What `exec` can be asked; fields are named for docker's and podman's flags."""

    container: str
    command: tuple[str, ...]
    detach: bool = False
    env: tuple[str, ...] = ()
    env_file: tuple[str, ...] = ()
    interactive: bool = False
    tty: bool = False
    user: str = ""
    workdir: str = ""
    privileged: bool = False
    detach_keys: str = "ctrl-p,ctrl-q"
    preserve_fds: int = 0


def exec_in_container(options: ExecOptions, paths: Paths | None = None) -> int:
    """Run a program in a container; its exit code, 0 at once if detached."""
    paths = paths or find_paths()
    if not options.command:
        raise UsageError("exec in container", options.container, reason="no command was given")
    container = store.find_container(paths, options.container)
    namespaces, foreign = open_namespaces(paths, container)
    basis = open_basis(paths)
    slots = Slots({f"ns:{kind}": namespaces[kind] for kind in foreign})
    streams = Streams(_stream_request(options), slots)
    applier = Applier(
        plan_exec(paths, basis.ids, container, options, foreign, streams.names),
        slots,
        afterlife=lambda applier: _wait_inside(applier, streams, options.detach),
    )
    try:
        applier.run()
    finally:
        streams.close_theirs()
        for fd in (*namespaces.values(), basis.fd):
            if fd >= 0:
                os.close(fd)
    code = Caller(applier.links["supervisor"], streams.relayed()).wait()
    if code == DETACHED:
        return 0
    os.waitpid(applier.slots["supervisor_child"], 0)
    return store.KILLED if code == LOST else code


def open_namespaces(paths: Paths, container: store.Container) -> tuple[dict[str, int], tuple[str, ...]]:
    """Descriptors of a running container's namespaces by type (close them), and the types that are to be joined, in
    order: those that this process is not in anyhow.

    A namespace can be joined only by who has rights in the user namespace that owns it. Those that the container shares
    with another belong to that one's, and a time namespace to the base: they come before the container's own user
    namespace, after which there is no way back. The mounts come last.
    """
    namespaces = container_namespaces(paths, container)
    os.close(namespaces.pop("pidfd"))
    foreign = [kind for kind, fd in namespaces.items() if not _is_ours(kind, fd)]
    if "user" not in foreign:
        return namespaces, tuple(sorted(foreign, key=lambda kind: kind == "mount"))
    own = os.fstat(namespaces["user"])
    before = [kind for kind in foreign if kind != "user" and not is_owned_by(namespaces[kind], own)]
    after = [kind for kind in foreign if kind not in (*before, "user", "mount")]
    parent = parent_namespace(namespaces["user"])  # asked of the kernel: another base may have been made since
    namespaces[PARENT] = parent
    first = [] if _is_ours("user", parent) else [PARENT]
    last = ["mount"] if "mount" in foreign and "mount" not in before else []
    return namespaces, (*first, *before, "user", *after, *last)


def plan_exec(
    paths: Paths,
    ids: BaseIds,
    container: store.Container,
    options: ExecOptions,
    kinds: tuple[str, ...],
    streams: tuple[str, str, str] | tuple[()],
    *,
    cached: bool = True,
) -> Plan:
    """The plan that joins `kinds`; nothing is made, and without `cached` no filter is kept either."""
    return plan_joined(
        build_exec_process(ids, container, options),
        kinds,
        gather_host(paths, ids, host_image=False),
        _extras(paths, container, options, streams, cached),
        detached=options.detach,
    )


def build_exec_process(ids: BaseIds, container: store.Container, options: ExecOptions) -> Process:
    """The container's own process record with what `exec` changes."""
    request = read_request(container)
    process = request.spec.process
    if request.extras.network is not None:
        from jubako.engine.network import find_network, with_environment

        network = find_network(request.extras)
        process = with_environment(request.spec, network.link).process if network is not None else process
    env = list(process.env)
    caller = dict(os.environ)
    added: dict[str, str] = {}
    for path in options.env_file:
        added.update(read_env_file(path, caller))
    added.update(parse_env(options.env, caller))
    if options.tty and not any(entry.startswith("TERM=") for entry in env):
        added = {"TERM": os.environ.get("TERM", "xterm"), **added}
    env = [entry for entry in env if entry.partition("=")[0] not in added]
    env += [f"{name}={value}" for name, value in added.items()]
    user = process.user
    if options.user:
        user = User(username=options.user, umask=user.umask)
    elif not user.username and (user.uid, user.gid) == (0, 0):
        uid, gid = (load_ids(container.document) or ids_for(request.extras, ids)).user
        user = replace(user, uid=uid, gid=gid)
    sets = process.capabilities
    if options.privileged and sets is not None:
        from jubako.linux.caps import NAMES, last_cap

        every = NAMES[: last_cap() + 1]
        sets = replace(sets, bounding=every, effective=every, permitted=every)
    return replace(
        process,
        args=options.command,
        env=tuple(env),
        user=user,
        terminal=options.tty,
        console_size=None,
        cwd=options.workdir or process.cwd,
        capabilities=sets,
        no_new_privileges=process.no_new_privileges and not options.privileged,
    )


def _extras(
    paths: Paths,
    container: store.Container,
    options: ExecOptions,
    streams: tuple[str, str, str] | tuple[()],
    cached: bool,
) -> Extras:
    request = read_request(container)
    compiled = compile_filter(paths, request.spec, request.extras, cached=cached)
    unfiltered = options.privileged
    return Extras(
        root=RootSource("joined"),
        filter=b"" if unfiltered else compiled.program,
        filter_flags=0 if unfiltered else compiled.flags,
        streams=streams,
        groups=() if options.user else request.extras.groups,
        cgroup=container.state.cgroup,
        preserve_fds=options.preserve_fds,
    )


def _stream_request(options: ExecOptions) -> StreamRequest:
    return StreamRequest(
        terminal=options.tty,
        detach=options.detach,
        open_input=options.interactive,
        send_input=options.interactive and not options.detach,
        detach_keys=options.detach_keys,
        own_terminal=True,
    )


def _is_ours(kind: str, fd: int) -> bool:
    """Whether it is a namespace that this process is in already: the host's network, say, which nobody may join."""
    return os.path.samestat(os.fstat(fd), os.stat(namespace_path("self", kind)))


def _wait_inside(applier: Applier, streams: Streams, detached: bool) -> int:
    """The joined process's part: wait for the program, pass signals on, end it when the caller is gone."""
    streams.close_ours()
    applier.wait_for_exec()
    owner = applier.links[RUNTIME]
    master = applier.slots.values.get("master", -1)
    send(owner, Started(0), (master,) if master >= 0 else ())
    if detached:
        send(owner, Exited(0))
        return 0
    for fd in (master, *streams.theirs):
        if fd > 2:
            os.close(fd)
    pidfd, pid = applier.slots["init_pidfd"], applier.slots["init_child"]
    poller = select.poll()
    poller.register(owner.fileno(), select.POLLIN)
    poller.register(pidfd, select.POLLIN)
    while True:
        ready = dict(poller.poll())
        if pidfd in ready:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            code = 128 - code if code < 0 else code
            send(owner, Exited(code))
            return code
        message, _descriptors = receive(owner)
        if isinstance(message, Signal):
            send_signal(pidfd, message.number)
        elif message is None:
            send_signal(pidfd, SIGKILL)
            poller.unregister(owner.fileno())
        elif type(message).__name__ == "Detach":
            return 0
