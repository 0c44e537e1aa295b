"""The plan of a bundle: a config.json that an engine wrote, made in one command and started in another.

OCI runtime-spec 1.3, runtime.md, "Lifecycle"; `jubako oci`.

The document is kept to the letter: nothing is added that it does not ask for, and no process of ours stays. Where
namespaces are joined, a process of its own joins them and clones the first one as its sibling, so that this is always a
child of the runtime, and whoever reaps the runtime's children inherits it.
"""

from __future__ import annotations

from jubako.linux.clone import CLONE_NEWTIME, CLONE_PARENT, FLAGS
from jubako.plan import attributes
from jubako.plan.becoming import plan_execution
from jubako.plan.devices import plan_devices
from jubako.plan.extras import Extras
from jubako.plan.host import Host
from jubako.plan.namespaces import NamespaceSet, namespaces_of, plan_identity
from jubako.plan.oci_mounts import (
    Bundle,
    bind_sources,
    plan_mount_sources,
    plan_mounts,
    plan_mounts_end,
    plan_shared_sources,
)
from jubako.plan.step import Plan, Step
from jubako.plan.steps import identity, joining, lifecycle, mounts, process, rootfs, terminal
from jubako.plan.steps import namespaces as ns
from jubako.plan.steps import program as program_steps
from jubako.plan.steps.hooks import HookState, RunHooksInside, RunHooksOutside
from jubako.plan.steps.processes import CloneInit, CloneSupervisor
from jubako.record import record
from jubako.spec.types import IdMapping, Linux, Process, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECT, HELPERS = "direct", "helpers"
"""Who writes the id maps: the runtime itself, or newuidmap and newgidmap."""


@record
class Making:
    """How a bundle is to be made, besides what its document says.

    `writer` says who writes the id maps. `console` sends the terminal to the caller's socket; without it the master
    stays in the runtime's slot "master". `keep_groups` leaves the caller's supplementary groups as they are.
    """

    extras: Extras
    state: HookState
    bundle: Bundle
    writer: str = DIRECT
    deny_setgroups: bool = False
    keep_groups: bool = False
    console: bool = False
    modules: attributes.Modules = attributes.Modules()
    hosts: tuple[str, ...] = ()
    """The types of joined namespaces that are the host's own."""
    powerless: bool = False
    """The runtime has no capabilities in its own user namespace."""
    new_keyring: bool = True


def plan_bundle(spec: Spec, host: Host, making: Making) -> Plan:
    """The plan that makes the container of `spec`, waits for its start, and becomes its program.

    Raises `UsageError` for what cannot be.
    """
    spaces = namespaces_of(spec)
    steps = (*_outside(spec, spaces, host, making), *_inside(spec, spaces, host, making), *_start(spec, host, making))
    given = ["recorder", "listener", "waiting", *(f"ns:{kind}" for kind in spaces.joined)]
    if making.console:
        given.append("console_socket")
    return Plan(steps, tuple(given))


def is_staged(spec: Spec, spaces: NamespaceSet) -> bool:
    """Whether a process of its own has to stand between the runtime and the container: what is joined, and a time
    namespace with offsets, would hold for the runtime too, and for its hooks."""
    return bool(spaces.joined) or bool(spec.linux.time_offsets)


def _outside(spec: Spec, spaces: NamespaceSet, host: Host, making: Making) -> Iterator[Step]:
    staged = is_staged(spec, spaces)
    if staged:
        yield CloneSupervisor(0)
    # Who runs in there already must not look into a process of ours, nor into the one that it clones (CVE-2016-9962).
    hidden = bool(spaces.joined) and not spaces.nested
    late = "time" in spaces.new and bool(spec.linux.time_offsets)  # a hidden process may not write its own offsets
    score = spec.process.oom_score_adj
    if hidden and score is not None:
        yield lifecycle.SetOomScoreBefore(score)
    if hidden and not late:
        yield joining.HideJoiner()
    for kind in _joining_order(spaces, making):
        yield ns.JoinNamespace(kind, f"ns:{kind}")
    if host.foreign_proc:
        yield ns.UnshareMounts()
        yield mounts.MountForeignProc(host.foreign_proc)
    flags = CLONE_PARENT if staged else 0
    for kind in spaces.new:
        flags |= FLAGS[kind]
    if making.extras.cgroup:
        flags &= ~FLAGS["cgroup"]
    if spec.linux.time_offsets and "time" in spaces.new:
        flags &= ~CLONE_NEWTIME
        yield ns.NewTimeNamespace(tuple((o.clock, o.secs, o.nanosecs) for o in spec.linux.time_offsets))
    if hidden and late:
        yield joining.HideJoiner()
    yield CloneInit(flags)
    if spaces.nested:
        yield from _id_maps(spec.linux.uid_mappings, spec.linux.gid_mappings, making)
    if score is not None and not hidden:
        yield lifecycle.SetOomScoreOf(score)
    if making.extras.cgroup:
        from jubako.plan.steps.cgroups import JoinCgroup

        yield JoinCgroup(making.extras.cgroup)
    yield from plan_mount_sources(spec, spaces, host, making.bundle)
    yield lifecycle.Record("cloned")
    yield from attributes.plan_scheduling(spec.process)
    yield from attributes.plan_resctrl(spec.linux, making.modules, making.state.id)
    yield from attributes.plan_net_devices(spec.linux)


def _joining_order(spaces: NamespaceSet, making: Making) -> tuple[str, ...]:
    """The user namespace comes last, since what it does not own cannot be joined from inside; but who has no rights
    outside of it has to enter it first."""
    return tuple(sorted(spaces.joined, key=lambda kind: (kind == "user") != making.powerless))


def needs_foreign_proc(spec: Spec) -> bool:
    """Whether the container's own process may not mount proc: its user namespace does not own the PID namespace."""
    spaces = namespaces_of(spec)
    return spaces.nested and "pid" in spaces.joined and any(mount.type == "proc" for mount in spec.mounts)


def _id_maps(uids: tuple[IdMapping, ...], gids: tuple[IdMapping, ...], making: Making) -> Iterator[Step]:
    if making.writer == HELPERS:
        yield lifecycle.BeginIdMaps(_triples(uids), _triples(gids))
        yield lifecycle.JoinIdMaps()
        return
    texts = ["".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in each) for each in (uids, gids)]
    yield ns.WriteIdMaps(texts[0], texts[1], deny_setgroups=making.deny_setgroups)


def _triples(mappings: tuple[IdMapping, ...]) -> tuple[tuple[int, int, int], ...]:
    return tuple((m.container_id, m.host_id, m.size) for m in mappings)


def _inside(spec: Spec, spaces: NamespaceSet, host: Host, making: Making) -> Iterator[Step]:
    extras = making.extras
    yield process.BeginSession()
    if spaces.nested or "user" in spaces.joined:
        yield rootfs.OpenPaths(_callers_paths(spec, host, making))
    yield from plan_identity(
        spec, spaces, host, place_in_cgroup=bool(extras.cgroup), take_root=_has_root(spec),
        keep_groups=making.deny_setgroups or making.keep_groups,
    )  # fmt: skip
    if "user" in spaces.joined:
        yield ns.TakeRootIds(keep_groups=making.deny_setgroups or making.keep_groups)
    yield from attributes.plan_parameters(spec, spaces, making.hosts)
    if not spaces.is_own("pid"):
        yield process.HideProcess()  # others see it already
    yield from _file_system(spec, spaces, host, making)
    if making.new_keyring:
        yield process.NewSessionKeyring()
    yield program_steps.CloseDescriptors(3 + extras.preserve_fds, also=("listener", "waiting"))
    yield program_steps.EnterDirectory(spec.process.cwd or "/", create=True)
    if spec.root.readonly:
        yield rootfs.MakeRootReadOnly()
    yield process.HideProcess()
    yield lifecycle.LookUpProgram(spec.process.args[0], spec.process.env, spec.process.cwd or "/")
    yield lifecycle.Record("created")
    yield lifecycle.AwaitCaller()


def _file_system(spec: Spec, spaces: NamespaceSet, host: Host, making: Making) -> Iterator[Step]:
    source, hooks, terminal_wanted = making.extras.root, spec.hooks, spec.process.terminal
    yield from plan_shared_sources(spec, spaces, host, making.bundle)
    yield rootfs.DetachMounts()
    yield rootfs.PrepareMasks(host.stage)
    yield rootfs.BindRootInPlace(source.path)
    yield from plan_mounts(spec, spaces, host, making.bundle)
    yield from plan_devices(spec, spaces, host)
    yield from plan_mounts_end(spec)
    if terminal_wanted:
        size = spec.process.console_size
        yield terminal.OpenTerminal(size.height if size else 0, size.width if size else 0, raw_output=True)
        yield lifecycle.SendTerminal() if making.console else terminal.KeepTerminal()
    outside = (("prestart", hooks.prestart), ("createRuntime", hooks.create_runtime))
    for point, each in outside:
        if each:
            yield RunHooksOutside(point, each, making.state, "creating")
    if hooks.create_container:
        yield RunHooksInside("createContainer", hooks.create_container, making.state, "creating")
    for path in spec.linux.readonly_paths:
        yield mounts.MakeReadOnly(path)
    for path in spec.linux.masked_paths:
        yield mounts.MaskPath(path)
    yield rootfs.PivotRoot() if source.pivot else rootfs.MoveRoot()
    if spec.linux.rootfs_propagation:
        yield rootfs.SetRootPropagation(spec.linux.rootfs_propagation)
    if terminal_wanted:
        yield terminal.UseTerminal()


def _start(spec: Spec, host: Host, making: Making) -> Iterator[Step]:
    program = spec.process
    if spec.hooks.start_container:
        yield RunHooksInside("startContainer", spec.hooks.start_container, making.state, "created", in_root=True)
    yield from plan_user(program, making.extras)
    yield program_steps.EnterDirectory(program.cwd or "/", create=False)
    yield terminal.OwnStreams()
    for limit in program.rlimits:
        yield process.SetRlimit(limit.type, limit.soft, limit.hard)
    yield from attributes.plan_memory(spec.linux)
    yield from plan_last(program, spec.linux, host, making)


def plan_last(program: Process, linux: Linux, host: Host, making: Making) -> Iterator[Step]:
    """What the program has from its own process, last of all: personality, labels, ids, capabilities, its filter."""
    yield from attributes.plan_personality(linux)
    yield from attributes.plan_labels(program, making.modules)
    changed = making.deny_setgroups or making.keep_groups
    yield from plan_execution(program, host, making.extras, change_groups=not changed)


def plan_user(program: Process, extras: Extras) -> Iterator[Step]:
    """Who the program runs as: the numbers of the document, and a home from the container's passwd file."""
    user = program.user
    groups = (*extras.groups, *(str(gid) for gid in user.additional_gids))
    yield identity.ResolveUser(f"{user.uid}:{user.gid}", groups)


def _callers_paths(spec: Spec, host: Host, making: Making) -> tuple[str, ...]:
    """What the container's root may not be able to walk to, opened as long as this process is the caller's."""
    paths = [host.stage.rpartition("/")[0], making.extras.root.path, *bind_sources(spec, making.bundle)]
    return tuple(dict.fromkeys(paths))


def _has_root(spec: Spec) -> bool:
    mappings = (spec.linux.uid_mappings, spec.linux.gid_mappings)
    return all(any(m.container_id == 0 for m in each) for each in mappings)
