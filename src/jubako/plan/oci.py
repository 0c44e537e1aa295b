"""The plan of a bundle: a config.json that an engine wrote, made in one command and started in another.

OCI runtime-spec 1.3, runtime.md, "Lifecycle"; `jubako oci`.

The document is kept to the letter: nothing is added that it does not ask for, and no process of ours stays. Where
namespaces are joined, a process of its own joins them and clones the first one as its sibling, so that this is always a
child of the runtime, and whoever reaps the runtime's children inherits it.
"""

from __future__ import annotations

from jubako.plan import attributes
from jubako.plan.devices import plan_devices
from jubako.plan.host import Host
from jubako.plan.making import Making, listener_slots, plan_last, plan_user
from jubako.plan.namespaces import NamespaceSet, namespaces_of, plan_identity
from jubako.plan.oci_mounts import (
    Bundle,
    bind_sources,
    plan_mounts,
    plan_mounts_end,
    plan_shared_sources,
)
from jubako.plan.oci_processes import plan_outside
from jubako.plan.step import Plan, Step
from jubako.plan.steps import lifecycle, mounts, process, rootfs, terminal
from jubako.plan.steps import namespaces as ns
from jubako.plan.steps import program as program_steps
from jubako.plan.steps.hooks import RunHooksInside, RunHooksOutside
from jubako.spec.types import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def plan_bundle(spec: Spec, host: Host, making: Making) -> Plan:
    """The plan that makes the container of `spec`, waits for its start, and becomes its program.

    Raises `UsageError` for what cannot be.
    """
    spaces = namespaces_of(spec)
    attributes.check_namespaces(spec, spaces)
    outside = plan_outside(spec, spaces, host, making, _bundle_of(making))
    steps = (*outside, *_inside(spec, spaces, host, making), *_start(spec, host, making))
    given = ["recorder", "listener", "waiting", *(f"ns:{kind}" for kind in spaces.joined)]
    if making.console:
        given.append("console_socket")
    return Plan(steps, tuple(given))


def _inside(spec: Spec, spaces: NamespaceSet, host: Host, making: Making) -> Iterator[Step]:
    extras = making.extras
    yield process.BeginSession()
    if spaces.nested or "user" in spaces.joined:
        yield rootfs.OpenPaths(_callers_paths(spec, host, making))
    yield from plan_identity(
        spec, spaces, host, place_in_cgroup=making.in_group, take_root=_has_root(spec),
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
    yield program_steps.CloseDescriptors(3 + extras.preserve_fds, also=_kept_slots(making))
    yield program_steps.EnterDirectory(spec.process.cwd or "/", create=True)
    if spec.root.readonly:
        yield rootfs.MakeRootReadOnly()
    yield process.HideProcess()
    yield from attributes.plan_memory(spec.linux)
    yield lifecycle.LookUpProgram(spec.process.args[0], spec.process.env, spec.process.cwd or "/")
    yield lifecycle.Record("created")
    yield lifecycle.AwaitCaller()


def _file_system(spec: Spec, spaces: NamespaceSet, host: Host, making: Making) -> Iterator[Step]:
    source, hooks, terminal_wanted = making.extras.root, spec.hooks, spec.process.terminal
    yield from plan_shared_sources(spec, spaces, host, _bundle_of(making))
    yield rootfs.DetachMounts()
    yield rootfs.PrepareMasks(host.stage)
    yield rootfs.BindRootInPlace(source.path)
    yield from plan_mounts(spec, spaces, host, _bundle_of(making))
    yield from plan_devices(spec, spaces, host)
    if terminal_wanted:
        size = spec.process.console_size
        yield terminal.OpenTerminal(size.height if size else 0, size.width if size else 0)
        yield lifecycle.SendTerminal() if making.console else terminal.KeepTerminal()
    yield from plan_mounts_end(spec)
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
    if making.powerless:
        yield lifecycle.HoldNamespaces()
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
    yield from plan_last(program, spec.linux, host, making)


def _kept_slots(making: Making) -> tuple[str, ...]:
    """What the waiting process holds besides its streams; all of it closes on exec."""
    return ("listener", "waiting", *listener_slots(making), *(("namespaces",) if making.powerless else ()))


def _bundle_of(making: Making) -> Bundle:
    """What the planners of mounts want to know of it."""
    return Bundle(making.state.bundle, making.label, making.label_option, making.in_group)


def _callers_paths(spec: Spec, host: Host, making: Making) -> tuple[str, ...]:
    """What the container's root may not be able to walk to, opened as long as this process is the caller's."""
    paths = [host.stage.rpartition("/")[0], making.extras.root.path, *bind_sources(spec, _bundle_of(making))]
    return tuple(dict.fromkeys(paths))


def _has_root(spec: Spec) -> bool:
    mappings = (spec.linux.uid_mappings, spec.linux.gid_mappings)
    return all(any(m.container_id == 0 for m in each) for each in mappings)
