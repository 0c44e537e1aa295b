"""The whole plan of a container: one spec, the facts of the host and a root become one totally ordered tuple."""

from __future__ import annotations

from jubako.plan.host import STANDARD_DEVICES, Host, RootSource
from jubako.plan.mounts import is_bind, parse_options, plan_mount
from jubako.plan.namespaces import (
    NamespaceSet,
    namespaces_of,
    plan_identity,
    plan_init,
    plan_processes,
)
from jubako.plan.step import Plan, Step
from jubako.plan.steps import identity, mounts, process, rootfs, terminal
from jubako.plan.steps import program as program_steps
from jubako.plan.steps.namespaces import UnshareMounts
from jubako.record import record
from jubako.spec.types import Process, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


@record
class Extras:
    """What a container of ours has and config.json has no word for.

    `filter` is the compiled system call filter; `streams` names the slots that become standard input, output and error
    (empty: they are inherited as they are); `cgroup` is the group's directory.
    """

    root: RootSource
    filter: bytes = b""
    filter_flags: int = 0
    init: bool = False
    streams: tuple[str, str, str] | tuple[()] = ()
    groups: tuple[str, ...] = ()
    cgroup: str = ""
    supervised: bool = True
    fuse: str = ""
    preserve_fds: int = 0


_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)


def plan_container(spec: Spec, host: Host, extras: Extras) -> Plan:
    """The plan that makes the container of `spec` and becomes its program.

    Raises `UsageError` for what cannot be. Pure: the plan can be explained, kept, and applied any number of times.
    """
    spaces = namespaces_of(spec)
    steps = (*_outside(spec, spaces, host, extras), *_inside(spec, spaces, host, extras))
    given = ("base", *(f"ns:{kind}" for kind in spaces.joined), *extras.streams)
    return Plan(steps, given)


def _outside(spec: Spec, spaces: NamespaceSet, host: Host, extras: Extras) -> Iterator[Step]:
    in_cgroup = bool(extras.cgroup)
    yield from plan_processes(spaces, host, supervised=extras.supervised)
    if extras.fuse or "pid" in spaces.joined:
        yield UnshareMounts()
    if extras.fuse:
        from jubako.plan.steps.fuse import StartFuseOverlay

        source = extras.root
        if source.kind == "assembled":
            yield StartFuseOverlay(
                extras.fuse, source.lower, source.upper, source.work, source.path,
                assemble=host.foreign_proc, squash=True,
                links=tuple(link for link in host.tree.links if link[0].count("/") == 1),
            )  # fmt: skip
        else:
            yield StartFuseOverlay(extras.fuse, source.lower, source.upper, source.work, source.path)
    yield from plan_init(spec, spaces, host, place_in_cgroup=in_cgroup)
    if in_cgroup:
        from jubako.plan.steps.cgroups import JoinCgroup

        yield JoinCgroup(extras.cgroup)
    if host.privileged and spaces.nested:
        yield from _plan_id_mapped(spec, extras.root)


def _plan_id_mapped(spec: Spec, source: RootSource) -> Iterator[Step]:
    """Only the host's root may make id-mapped copies of its mounts; the container's own process attaches them."""
    from jubako.plan.steps.idmapped import CloneIdMapped

    if source.kind == "tree":
        yield CloneIdMapped(source.path, "rootfs", required=True)
    elif source.foreign_lower:
        yield CloneIdMapped(source.lower[0], "lower", required=True)
    for position, mount in enumerate(spec.mounts):
        if is_bind(mount):
            yield CloneIdMapped(mount.source, f"mount{position}", recursive=parse_options(mount.options).recursive)


def _inside(spec: Spec, spaces: NamespaceSet, host: Host, extras: Extras) -> Iterator[Step]:
    if spec.process.oom_score_adj is not None:
        yield process.SetOomScore(spec.process.oom_score_adj)
    yield process.BeginSession()
    if spaces.nested and (host.privileged or not maps_caller(spec)):
        yield rootfs.OpenPaths(_caller_paths(spec, host, extras.root))
    yield from plan_identity(spec, spaces, host, place_in_cgroup=bool(extras.cgroup))
    for name, value in spec.linux.sysctl:
        yield process.WriteSysctl(name, value)
    if "pid" in spaces.joined:
        yield process.HideProcess()
    copied = _copied_mounts(spec, spaces, host)
    for position in copied if not spaces.nested else ():
        mount = spec.mounts[position]
        yield mounts.CloneShared(mount.source, f"mount{position}", parse_options(mount.options).recursive)
    yield from _plan_root(spec, extras.root, host, id_mapped=host.privileged and spaces.nested)
    for position, mount in enumerate(spec.mounts):
        yield from plan_mount(mount, spaces, host, f"mount{position}" if position in copied else "")
        if mount.destination == "/dev" and mount.type == "tmpfs":
            yield from _plan_devices(spec, host)
    for path in host.tree.hidden if extras.root.kind == "host" else ():
        yield mounts.MaskPath(path)
    for path in spec.linux.readonly_paths:
        yield mounts.MakeReadOnly(path)
    for path in spec.linux.masked_paths:
        yield mounts.MaskPath(path)
    if spec.process.terminal:
        size = spec.process.console_size
        yield terminal.OpenTerminal(size.height if size else 0, size.width if size else 0)
        yield terminal.TakeTerminal()
    yield rootfs.PivotRoot() if extras.root.pivot else rootfs.MoveRoot()
    if spec.linux.rootfs_propagation:
        yield rootfs.SetRootPropagation(spec.linux.rootfs_propagation)
    yield from plan_program(
        spec.process, host, extras, create_directory=True, read_only=spec.root.readonly, tied=not spaces.is_own("pid")
    )


def _copied_mounts(spec: Spec, spaces: NamespaceSet, host: Host) -> tuple[int, ...]:
    """The positions of the binds whose source is copied before the root is made: all those that the host's root has
    id-mapped, and in the host's own user namespace the shared ones (in another one the kernel makes all mounts slaves).
    """
    binds = tuple(position for position, mount in enumerate(spec.mounts) if is_bind(mount))
    if not host.privileged or spaces.nested:
        return binds if host.privileged else ()
    return tuple(p for p in binds if parse_options(spec.mounts[p].options).propagation in ("shared", "rshared"))


def maps_caller(spec: Spec) -> bool:
    """Whether the caller's own ids (0 in the base) are among the container's: then its root may walk where they may."""
    return all(any(m.host_id == 0 for m in mappings) for mappings in (spec.linux.uid_mappings, spec.linux.gid_mappings))


def _caller_paths(spec: Spec, host: Host, root: RootSource) -> tuple[str, ...]:
    paths = [host.stage.rpartition("/")[0]]
    if root.kind != "host":
        paths += [path for path in (root.path, root.upper, root.work, *root.lower) if path]
    if not host.privileged:  # else they come as id-mapped copies
        paths += [mount.source for mount in spec.mounts if is_bind(mount)]
    return tuple(dict.fromkeys(paths))


def _plan_root(spec: Spec, source: RootSource, host: Host, *, id_mapped: bool) -> Iterator[Step]:
    yield rootfs.DetachMounts()
    yield rootfs.PrepareMasks(host.stage)
    if source.kind in ("directory", "prepared", "assembled", "copy"):
        yield rootfs.BindRoot(source.path, host.stage)
    elif source.kind == "tree":
        yield rootfs.AttachRoot("rootfs", source.path, host.stage)
    elif source.kind == "overlay":
        lower = source.lower
        if source.foreign_lower and id_mapped:
            yield rootfs.AttachRoot("lower", lower[0], host.foreign_proc)
            lower = (host.foreign_proc,)
        yield rootfs.MountOverlay(lower, source.upper, source.work, host.stage, source.volatile)
    else:
        yield rootfs.MountHostRoot(host.stage)
    if source.kind in ("directory", "tree") and not spec.linux.rootfs_propagation:
        yield rootfs.KeepRootPrivate(host.stage)
    yield rootfs.OpenRoot(host.stage)
    if source.kind == "host":
        yield rootfs.PopulateHostRoot(host.tree.binds, host.tree.links, host.tree.fresh)
    elif source.kind == "assembled":
        yield rootfs.PopulateHostRoot((), host.tree.links, host.tree.fresh, existing=True)


def _plan_devices(spec: Spec, host: Host) -> Iterator[Step]:
    for path, major, minor in host.devices or STANDARD_DEVICES:
        yield mounts.BindDevice(path, path, "c", major, minor)
    for device in spec.linux.devices:
        yield mounts.BindDevice(device.path, device.path, device.type, device.major, device.minor)
    yield mounts.MakeLinks(_LINKS)


def plan_program(
    program: Process,
    host: Host,
    extras: Extras,
    *,
    create_directory: bool,
    read_only: bool = False,
    joined: bool = False,
    tied: bool = False,
) -> Iterator[Step]:
    """The first process becomes the program: the same for a new container and for one that is joined.

    `tied` ends the program with its supervisor or with the process that sent it, where no PID namespace of the
    container's own does so.
    """
    if program.terminal:
        if joined:
            yield terminal.OpenJoinedTerminal()
            yield terminal.TakeTerminal()
        yield terminal.UseTerminal()
    elif extras.streams:
        yield process.ConnectStreams(extras.streams)
    yield process.NewSessionKeyring()
    for limit in program.rlimits:
        yield process.SetRlimit(limit.type, limit.soft, limit.hard)
    user = program.user
    named = user.username or (f"{user.uid}:{user.gid}" if user.uid or user.gid else "0")
    yield identity.ResolveUser(named, (*extras.groups, *(str(gid) for gid in user.additional_gids)))
    yield program_steps.CloseDescriptors(3 + extras.preserve_fds)
    yield program_steps.EnterDirectory(program.cwd or "/", create_directory)
    if read_only:
        yield rootfs.MakeRootReadOnly()
    yield terminal.OwnStreams()
    if not joined:
        yield process.HideProcess()
    if tied:
        from jubako.plan.steps.joining import DieWithParent
    if extras.init:
        from jubako.plan.steps.resident import BecomeInit

        if tied:
            yield DieWithParent()
        yield BecomeInit()
    sets = program.capabilities
    late = bool(extras.filter) and not program.no_new_privileges
    if sets is not None:
        yield identity.LimitCapabilities(sets.bounding)
    yield identity.SetUser(
        keep_capabilities=sets is not None and (late or bool(sets.permitted)),
        umask=0o022 if user.umask is None else user.umask,
        change_groups=not host.setgroups_denied,
    )
    if sets is not None:
        yield identity.SetCapabilities(sets, with_admin=late)
    if program.no_new_privileges:
        yield identity.SetNoNewPrivileges()
    if tied:
        yield DieWithParent()
    yield program_steps.FilterAndExec(
        program.args,
        program.env,
        extras.filter,
        extras.filter_flags,
        guard_interpreter=host.interpreter_writable,
    )
