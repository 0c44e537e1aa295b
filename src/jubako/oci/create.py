"""`create`: everything up to the program itself (OCI runtime-spec 1.3, runtime.md, "Create").

What fails leaves nothing behind but what its hooks did. The runtime may be killed at any moment: whatever outlives it
is written down before, so that `delete --force` finds it.
"""

from __future__ import annotations

import fcntl
import os

from jubako import jsontext
from jubako.errors import JubakoError, UsageError
from jubako.linux import scm
from jubako.linux.boot import boot_id
from jubako.linux.clone import namespace_path
from jubako.linux.pidfd import host_pid, start_time
from jubako.oci import cgroups
from jubako.oci.bundle import Bundle, read_bundle
from jubako.oci.caller import connect_console, listen_fds, with_sockets, write_pid_file
from jubako.oci.facts import compile_filter, find_modules, keeps_groups, label_option, listens
from jubako.oci.groups import remove_group
from jubako.oci.ids import Ids, settle_ids
from jubako.oci.state import Container, State, find_container, now
from jubako.plan.attributes import mount_label
from jubako.plan.capabilities import unknown_capabilities
from jubako.plan.extras import Extras
from jubako.plan.host import Host, RootSource
from jubako.plan.making import Making
from jubako.plan.oci import plan_bundle
from jubako.plan.oci_processes import needs_foreign_proc
from jubako.plan.step import RUNTIME, SUPERVISOR, Plan, Slots
from jubako.plan.steps.hooks import HookState
from jubako.record import record, replace
from jubako.runtime.applier import Applier
from jubako.runtime.facts import gather_facts
from jubako.spec.resources import Resources
from jubako.spec.types import Hook, Spec
from jubako.waiting import SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.oci.cgroups import GroupChoice


@record
class CreateOptions:
    """What `create` and `run` are asked. `root` is where containers are kept, `manager` who makes their cgroups
    ("cgroupfs", "systemd", "disabled")."""

    id: str
    root: str
    bundle: str = "."
    console_socket: str = ""
    pid_file: str = ""
    no_pivot: bool = False
    no_new_keyring: bool = False
    preserve_fds: int = 0
    manager: str = "cgroupfs"
    rootless: str = "auto"
    """Whether control groups are looked for as an ordinary user's are: "true", "false", or as the caller is."""
    detached: bool = True
    """The caller goes and the container stays: a terminal has to go to a socket."""


@record
class Created:
    """A container that waits for its start. `link` goes to its first process; `master` is its terminal or -1."""

    container: Container
    state: State
    pid: int
    pidfd: int
    master: int


def create(options: CreateOptions, warn: Callable[[str], None]) -> Created:
    """Make the container of a bundle. Raises `JubakoError`; then it is gone again. `warn` hears what is left out."""
    os.umask(0o022)
    container = find_container(options.root, options.id)
    bundle = read_bundle(options.bundle)
    refuse_terminal(bundle.spec, options)
    for name in unknown_capabilities(bundle.spec.process.capabilities):
        warn(f"give capability {name}: there is no such capability")
    ids = settle_ids(replace(bundle.spec, process=with_sockets(bundle.spec.process)))
    container.make()
    creation = Creation(container, bundle, ids, options)
    try:
        return creation.run()
    except BaseException:
        creation.undo()
        raise
    finally:
        container.unlock()


class Creation:
    """One creation, step by step; what it makes is undone if it fails."""

    def __init__(self, container: Container, bundle: Bundle, ids: Ids, options: CreateOptions) -> None:
        self.container = container
        self.bundle = bundle
        self.ids = ids
        self.spec = ids.spec
        self.options = options
        self.group: GroupChoice | None = None
        self.resources = self.spec.linux.resources or Resources()
        self.opened: list[int] = []
        self.hosts: tuple[str, ...] = ()
        self.state = _first_state(container.id, bundle, self.spec)

    def run(self) -> Created:
        container, options, spec = self.container, self.options, self.spec
        container.write(self.state)
        container.write_file("config.json", self.bundle.text)
        self.make_group()
        slots = Slots({"recorder": self._record})
        self._open_namespaces(slots)
        making, host = self._making(), self._host()
        plan = plan_bundle(spec, host, making)
        if options.console_socket and spec.process.terminal:
            slots["console_socket"] = connect_console(options.console_socket)
        slots["waiting"] = self._hold_waiting()
        slots["listener"] = scm.listen(container.directory, SOCKET)
        applier = Applier(plan, slots, (RUNTIME, SUPERVISOR))
        if _is_staged(plan):
            applier.roles = (RUNTIME,)
        applier.run()
        self._let_go(slots)
        if "supervisor_child" in slots:
            os.waitpid(slots["supervisor_child"], 0)
            slots.close("supervisor_pidfd")
        if options.pid_file:
            write_pid_file(options.pid_file, self.state.pid)
        return Created(container, self.state, self.state.pid, slots["init_pidfd"], slots.values.get("master", -1))

    def undo(self) -> None:
        """Nothing of it stays. What goes wrong here is not told: the first failure is."""
        from jubako.oci.ending import end_process, run_poststop_hooks

        for fd in self.opened:
            os.close(fd)
        end_process(self.state)
        try:
            if self.state.cgroup or self.state.unit:
                remove_group(self.state.cgroup, self.state.unit)
        except (JubakoError, OSError):
            pass
        if self.state.pid:
            run_poststop_hooks(self.container, self.state)
        try:
            self.container.remove()
        except JubakoError:
            pass

    # --- what the plan needs

    def _making(self) -> Making:
        spec, options = self.spec, self.options
        program, flags = compile_filter(spec)
        modules = find_modules(spec)
        if spec.linux.intel_rdt is not None and not spec.linux.intel_rdt.clos_id:  # one that we make is ours to remove
            self.state = replace(self.state, resctrl=f"{modules.resctrl}/{self.container.id}")
        extras = Extras(
            RootSource("directory", spec.root.path, pivot=not options.no_pivot),
            filter=program,
            filter_flags=flags,
            cgroup=self.state.inside,
            preserve_fds=options.preserve_fds + listen_fds(),
        )
        return Making(
            extras,
            HookState(spec.oci_version, self.container.id, self.bundle.path, spec.annotations),
            label=mount_label(spec.linux, modules),
            label_option=label_option(spec),
            writer=self.ids.writer,
            deny_setgroups=self.ids.deny_setgroups,
            keep_groups=keeps_groups(spec),
            console=bool(options.console_socket),
            modules=modules,
            hosts=self.hosts,
            listens=listens(spec),
            scope=bool(self.state.unit),
            powerless=self.ids.powerless,
            new_keyring=not options.no_new_keyring,
        )

    def _host(self) -> Host:
        directory = self.container.directory
        os.mkdir(directory + "/stage", 0o711)
        foreign = ""
        if needs_foreign_proc(self.spec):
            foreign = directory + "/proc"
            os.mkdir(foreign, 0o711)
        return gather_facts(directory + "/stage", foreign, setgroups_denied=self.ids.deny_setgroups)

    def make_group(self) -> None:
        """The group's name is on disk before the group is there. systemd makes its own when the process is there."""
        asked = self.options.rootless
        rootless = cgroups.is_rootless() if asked == "auto" else asked == "true"
        self.group = choice = cgroups.choose_group(self.spec, self.container.id, self.options.manager, rootless)
        if choice.unit:
            self.state = replace(self.state, unit=choice.unit)
            self.container.write(self.state)
        elif choice.path:
            cgroups.refuse_used(choice.path)  # a group whose name is on disk is emptied by whoever cleans up
            self._note_group(choice)
            try:
                cgroups.make_group(choice, self.resources, self._root_outside())
            except JubakoError:  # it has undone what it did, and what is left there now is not ours to end
                self.state = replace(self.state, cgroup="", inside="")
                raise
            self._restrict_devices(choice.path)

    def _start_scope(self, pid: int) -> None:
        from jubako.oci.systemd import start_scope

        assert self.group is not None
        try:
            choice = start_scope(self.group, self.resources, pid, self.container.id, self._root_outside())
        except JubakoError:  # as above: a unit of that name may be another container's
            self.state = replace(self.state, unit="")
            raise
        self._note_group(choice)
        self._restrict_devices(choice.path)

    def _note_group(self, choice: GroupChoice) -> None:
        self.state = replace(self.state, cgroup=choice.path, inside=choice.inside)
        self.container.write(self.state)

    def _restrict_devices(self, group: str) -> None:
        """Device rules are for who could make device nodes: nobody in a user namespace of its own."""
        if cgroups.is_rootless() or any(one.type == "user" for one in self.spec.linux.namespaces):
            return
        from jubako.oci.devices import read_rules, restrict_devices

        restrict_devices(group, read_rules(self.resources.devices))
        self.state = replace(self.state, device_filter=True)

    def _root_outside(self) -> tuple[int, int] | None:
        """Who the container's root is outside, if it has one."""
        linux = self.spec.linux
        found = [
            one.host_id for maps in (linux.uid_mappings, linux.gid_mappings) for one in maps if one.container_id == 0
        ]
        return (found[0], found[1]) if len(found) == 2 else None

    def _open_namespaces(self, slots: Slots) -> None:
        for namespace in self.spec.linux.namespaces:
            if namespace.path:
                fd = open_namespace_file(namespace.type, namespace.path)
                slots[f"ns:{namespace.type}"] = fd
                self.opened.append(fd)
                if os.path.samestat(os.fstat(fd), os.stat(namespace_path("self", namespace.type))):
                    self.hosts = (*self.hosts, namespace.type)

    def _hold_waiting(self) -> int:
        fd = os.open(self.container.directory + "/waiting", os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    def _let_go(self, slots: Slots) -> None:
        """Only the container's own process holds the socket and the lock now."""
        slots.values.pop("listener").close()
        slots.close("waiting")
        for fd in self.opened:
            os.close(fd)
        self.opened = []

    def _record(self, moment: str, slots: Slots) -> None:
        """Called by the plan: the process is there; everything is done."""
        pid = host_pid(slots["init_pidfd"])
        if moment == "cloned":
            slots["init_pid"] = pid  # also where another process has cloned it
            self.state = replace(self.state, pid=pid, pid_start=start_time(pid))
            self.container.write(self.state)
            if self.state.unit:
                self._start_scope(pid)
        else:
            self.state = replace(self.state, made=True)
            self.container.write(self.state)


def _first_state(identifier: str, bundle: Bundle, spec: Spec) -> State:
    me = os.getpid()
    hooks = {"poststart": spec.hooks.poststart, "poststop": spec.hooks.poststop}
    return State(
        identifier,
        spec.oci_version,
        bundle.path,
        spec.root.path,
        owner=str(os.geteuid()),
        created=now(),
        boot=boot_id(),
        creator=me,
        creator_start=start_time(me),
        annotations=spec.annotations,
        hooks=jsontext.dumps({name: [_as_json(hook) for hook in each] for name, each in hooks.items() if each}),
    )


def _as_json(hook: Hook) -> dict[str, object]:
    return {"path": hook.path, "args": hook.args, "env": hook.env, "timeout": hook.timeout}


def _is_staged(plan: Plan) -> bool:
    from jubako.plan.steps.processes import CloneSupervisor

    return any(isinstance(step, CloneSupervisor) for step in plan.steps[:2])


def refuse_terminal(spec: Spec, options: CreateOptions) -> None:
    if spec.process.terminal and options.detached and not options.console_socket:
        raise UsageError(
            "create container", options.id, reason="process.terminal is true, and nobody would hold the terminal",
            hint="pass --console-socket, or run it in the foreground",
        )  # fmt: skip
    if options.console_socket and not spec.process.terminal:
        raise UsageError(
            "use --console-socket", options.console_socket, reason="process.terminal is not true: there is no terminal"
        )


def open_namespace_file(kind: str, path: str) -> int:
    """A descriptor of the namespace of type `kind` at `path`. Raises `JubakoError` where it is none, or another."""
    from jubako.linux.clone import FLAGS, namespace_type

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as failure:
        raise JubakoError.from_os_error(f"open the {kind} namespace", path, failure) from failure
    try:
        found = namespace_type(fd)
    except OSError:
        found = 0
    if found != FLAGS[kind]:
        os.close(fd)
        raise UsageError(f"open the {kind} namespace", path, reason=f"this is no {kind} namespace")
    return fd
