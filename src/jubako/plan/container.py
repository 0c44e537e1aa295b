"""The whole plan of a container: one spec, the facts of the host and a root become one totally ordered tuple."""

from __future__ import annotations

from jubako.plan.becoming import plan_program
from jubako.plan.extras import Extras
from jubako.plan.host import LINKS, STANDARD_DEVICES, Host, RootSource
from jubako.plan.mounts import is_bind, parse_options, plan_mount
from jubako.plan.namespaces import (
    NamespaceSet,
    namespaces_of,
    plan_identity,
    plan_init,
    plan_processes,
)
from jubako.plan.step import Plan, Step
from jubako.plan.steps import mounts, process, rootfs, terminal
from jubako.plan.steps.namespaces import UnshareMounts
from jubako.spec.types import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Extras", "plan_container"]


def plan_container(spec: Spec, host: Host, extras: Extras) -> Plan:
    """The plan that makes the container of `spec` and becomes its program.

    Raises `UsageError` for what cannot be. Pure: the plan can be explained, kept, and applied any number of times.
    """
    spaces = namespaces_of(spec)
    steps = (*_outside(spec, spaces, host, extras), *_inside(spec, spaces, host, extras))
    given = ("base", *(f"ns:{kind}" for kind in spaces.joined), *extras.streams)
    return Plan(steps, given)


def _outside(spec: Spec, spaces: NamespaceSet, host: Host, extras: Extras) -> Iterator[Step]:
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
    yield from plan_init(spec, spaces, host, group=extras.cgroup)
    if extras.network is not None:
        yield extras.network
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
            yield from plan_devices(spec, host)
            yield mounts.MakeLinks(LINKS)
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


def plan_devices(spec: Spec, host: Host) -> Iterator[Step]:
    """The devices that every program expects, and those of the document."""
    for path, major, minor in host.devices or STANDARD_DEVICES:
        yield mounts.BindDevice(path, path, "c", major, minor)
    for device in spec.linux.devices:
        yield mounts.BindDevice(device.path, device.path, device.type, device.major, device.minor)
