"""`exec`: one more program in a running container, as runc and crun have it; the specification knows no such thing."""

from __future__ import annotations

import os

from jubako.errors import JubakoError, UsageError
from jubako.ids.newidmap import effective_capabilities
from jubako.linux import scm
from jubako.linux.clone import FLAGS, is_owned_by, namespace_path, open_namespace
from jubako.linux.pidfd import host_pid, open_process, start_time
from jubako.oci.bundle import read_config, read_text
from jubako.oci.caller import connect_console, listen_fds, with_sockets, write_pid_file
from jubako.oci.facts import compile_filter, find_modules, keeps_groups, listens
from jubako.oci.foreground import Foreground
from jubako.oci.state import CREATED, RUNNING, Container, State
from jubako.plan.extras import Extras
from jubako.plan.host import RootSource
from jubako.plan.making import Making
from jubako.plan.oci_exec import plan_exec
from jubako.plan.step import INIT, RUNTIME, Slots
from jubako.plan.steps.hooks import HookState
from jubako.record import record, replace
from jubako.runtime.applier import Applier
from jubako.runtime.facts import gather_facts
from jubako.runtime.messages import Failed, receive
from jubako.spec.environment import last_wins
from jubako.spec.types import Capabilities, Process, Spec, User
from jubako.waiting import NAMESPACES, SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


@record
class ExecOptions:
    """What `exec` is asked. `process` replaces the container's own process as a whole; the other fields change it."""

    args: tuple[str, ...] = ()
    process: Process | None = None
    terminal: bool = False
    cwd: str = ""
    env: tuple[str, ...] = ()
    user: str = ""
    additional_gids: tuple[int, ...] = ()
    caps: tuple[str, ...] = ()
    no_new_privs: bool = False
    apparmor: str = ""
    process_label: str = ""
    console_socket: str = ""
    pid_file: str = ""
    preserve_fds: int = 0
    detached: bool = False
    cgroup: str = ""
    ignore_paused: bool = False


def exec_in(container: Container, options: ExecOptions) -> int:
    """The program's exit code (128 + N for signal N), or 0 at once when detached. Raises `JubakoError`."""
    state = container.read()
    _refuse_status(container, state, options)
    spec = read_config(read_text(container.directory + "/config.json"))
    program = with_sockets(build_process(spec, options))
    if program.terminal and options.detached and not options.console_socket:
        raise UsageError(
            "exec in container", container.id, reason="a terminal was asked for, and nobody would hold it",
            hint="pass --console-socket, or leave out --detach",
        )  # fmt: skip
    if options.console_socket and not program.terminal:
        raise UsageError("use --console-socket", options.console_socket, reason="no terminal was asked for")
    slots = Slots()
    try:
        kinds = tuple(_open_namespaces(container, state, slots))
        applier = _apply(state, spec, program, kinds, options, slots)
    finally:
        for fd in [fd for name, fd in slots.values.items() if name.startswith("ns:")]:
            os.close(fd)
    pidfd = slots["init_pidfd"]
    pid = host_pid(pidfd)
    foreground = None if options.detached else Foreground(pidfd, slots.values.get("master", -1))
    _await_exec(applier)
    if options.pid_file:
        write_pid_file(options.pid_file, pid)
    return 0 if foreground is None else foreground.wait(pid)


def build_process(spec: Spec, options: ExecOptions) -> Process:
    """The container's own process with what `exec` changes, or the one that was given whole."""
    given = options.process
    program = given or replace(spec.process, args=options.args, terminal=options.terminal, console_size=None)
    if not program.args:
        raise UsageError("exec in container", reason="no program was given")
    if given is None and program.capabilities is not None:
        # Nothing is inheritable by a program that is started later (CVE-2022-27650, CVE-2022-29162).
        program = replace(program, capabilities=replace(program.capabilities, inheritable=(), ambient=()))
    if options.cwd:
        program = replace(program, cwd=options.cwd)
    if options.env:
        program = replace(program, env=(*program.env, *options.env))
    if options.user:
        program = replace(program, user=parse_user(options.user, program.user))
    if options.additional_gids:
        user = program.user
        program = replace(
            program, user=replace(user, additional_gids=(*user.additional_gids, *options.additional_gids))
        )
    if options.caps:
        program = replace(program, capabilities=_with_capabilities(program.capabilities, options.caps))
    if options.no_new_privs:
        program = replace(program, no_new_privileges=True)
    if options.apparmor:
        program = replace(program, apparmor_profile=options.apparmor)
    if options.process_label:
        program = replace(program, selinux_label=options.process_label)
    if not program.cwd.startswith("/"):
        raise UsageError("use --cwd", program.cwd, reason="it must be an absolute path")
    return replace(program, env=last_wins(program.env))


def parse_user(text: str, default: User) -> User:
    """`UID[:GID]`, numbers both: the runtime looks up no names. Raises `UsageError`."""
    from jubako.spec.passwd import parse_id

    uid_text, colon, gid_text = text.partition(":")
    uid, gid = parse_id(uid_text), parse_id(gid_text) if colon else 0
    if uid is None or gid is None:
        raise UsageError("use --user", text, reason="it must be UID or UID:GID, decimal numbers up to 4294967294")
    return replace(default, uid=uid, gid=gid, username="")


def _with_capabilities(sets: Capabilities | None, added: tuple[str, ...]) -> Capabilities:
    from jubako.plan.capabilities import capability_name

    names = tuple(capability_name(name, "--cap") for name in added)
    sets = sets or Capabilities()

    def also(present: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*present, *names)))

    return Capabilities(
        bounding=also(sets.bounding), effective=also(sets.effective), permitted=also(sets.permitted), inheritable=()
    )


def _refuse_status(container: Container, state: State, options: ExecOptions) -> None:
    status = container.status(state)
    if status in (CREATED, RUNNING) or (status == "paused" and options.ignore_paused):
        return
    if status == "paused":
        raise UsageError(
            "exec in container", container.id, reason="cannot exec in a paused container",
            hint="resume it, or pass --ignore-paused",
        )  # fmt: skip
    raise UsageError("exec in container", container.id, reason=f"cannot exec in a container that is {status}")


def _open_namespaces(container: Container, state: State, slots: Slots) -> Iterator[str]:
    """Put a descriptor of each namespace that this process is not in into its slot; their types in the order in which
    they are to be joined: what the container's user namespace does not own comes before it, the mounts come last."""
    pidfd = open_process(state.pid, state.pid_start)
    if pidfd is None:
        raise UsageError("exec in container", container.id, reason="cannot exec in a container that is stopped")
    foreign: list[str] = []
    try:
        for kind, fd in _open_all(container, state).items():
            slots[f"ns:{kind}"] = fd
            if not os.path.samestat(os.fstat(fd), os.stat(namespace_path("self", kind))):
                foreign.append(kind)
        if start_time(state.pid) != state.pid_start:  # its pid may be another's by now
            raise UsageError("exec in container", container.id, reason="cannot exec in a container that is stopped")
    finally:
        os.close(pidfd)
    before: list[str] = []
    if "user" in foreign and effective_capabilities() >> 21 & 1:
        own = os.fstat(slots["ns:user"])
        before = [kind for kind in foreign if kind != "user" and not is_owned_by(slots[f"ns:{kind}"], own)]
    rank = {"user": 1, "mount": 3}
    yield from sorted(foreign, key=lambda kind: 0 if kind in before and kind != "mount" else rank.get(kind, 2))


def _open_all(container: Container, state: State) -> dict[str, int]:
    """A descriptor of each of its namespaces, by type."""
    opened: dict[str, int] = {}
    try:
        for kind in FLAGS:
            try:
                opened[kind] = open_namespace(state.pid, kind)
            except FileNotFoundError:  # a kernel without time namespaces
                continue
        return opened
    except OSError as failure:
        for fd in opened.values():
            os.close(fd)
        if container.is_waiting():  # then it is hidden, and hands them out itself
            return _ask_for_namespaces(container)
        raise JubakoError.from_os_error("open the namespaces of container", container.id, failure) from failure


def _ask_for_namespaces(container: Container) -> dict[str, int]:
    try:
        link = scm.connect(container.directory, SOCKET)
        try:
            scm.send(link, NAMESPACES)
            kinds, descriptors = scm.receive(link)
        finally:
            link.close()
    except OSError as failure:
        raise JubakoError.from_os_error("ask for the namespaces of container", container.id, failure) from failure
    if not kinds:
        raise JubakoError("ask for the namespaces of container", container.id, reason="its first process has ended")
    return dict(zip(kinds.decode().split(","), descriptors, strict=True))


def _apply(
    state: State, spec: Spec, program: Process, kinds: tuple[str, ...], options: ExecOptions, slots: Slots
) -> Applier:
    from jubako.ids.base_ids import setgroups_denied

    denied = setgroups_denied(f"/proc/{state.pid}")
    filter_, flags = compile_filter(spec)
    extras = Extras(
        RootSource("joined"),
        cgroup=_group(state, options),
        filter=filter_,
        filter_flags=flags,
        preserve_fds=options.preserve_fds + listen_fds(),
    )
    making = Making(
        extras,
        HookState(state.oci_version, state.id, state.bundle, state.annotations),
        deny_setgroups=denied,
        keep_groups=keeps_groups(spec),
        console=bool(options.console_socket),
        modules=find_modules(replace(spec, process=program)),
        listens=listens(spec),
        container_pid=state.pid,
    )
    host = gather_facts("", "", setgroups_denied=denied)
    plan = plan_exec(program, spec.linux, kinds, host, making)
    if options.console_socket:
        slots["console_socket"] = connect_console(options.console_socket)
    applier = Applier(plan, slots, (RUNTIME,))
    applier.run()
    os.waitpid(slots["supervisor_child"], 0)
    slots.close("supervisor_pidfd")
    return applier


def _group(state: State, options: ExecOptions) -> str:
    if not state.cgroup:
        if options.cgroup:
            raise JubakoError("use --cgroup", options.cgroup, reason="the container has no control group of its own")
        return ""
    if not options.cgroup:
        from jubako.oci.groups import group_to_join

        return group_to_join(state.inside, state.pid)
    parts = options.cgroup.strip("/").split("/")
    if ".." in parts:
        raise UsageError("use --cgroup", options.cgroup, reason="it must lie below the container's own group")
    return "/".join((state.cgroup, *(part for part in parts if part not in ("", "."))))


def _await_exec(applier: Applier) -> None:
    """Wait until the program runs. Raises its step's error."""
    message, _descriptors = receive(applier.links[INIT])
    if isinstance(message, Failed):
        raise message.error()
