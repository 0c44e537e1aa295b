"""From a request to a plan: ids, layers, files and filter are resolved for this host, at each start anew.

What `create` keeps is the request; everything here may be different next time (a new boot, another base).
"""

from __future__ import annotations

import os

from jubako.engine import extras as kinds
from jubako.engine.extras import ContainerExtras, Request
from jubako.errors import JubakoError
from jubako.ids.base_ids import BaseIds
from jubako.ids.idmap import IdMap
from jubako.ids.mapping import ContainerIds, container_ids
from jubako.ids.modes import CONTAINER, PATH
from jubako.paths import Paths
from jubako.plan.container import Extras, plan_container
from jubako.plan.host import Host, RootSource
from jubako.plan.shipped_filters import CompiledFilter, shipped_filter
from jubako.plan.step import Plan
from jubako.record import record, replace
from jubako.runtime.facts import gather_host
from jubako.spec.types import IdMapping, Mount, Namespace, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.engine.network import Network
    from jubako.image.model import Image

_TTY_GROUP = 5


@record
class Prepared:
    """Everything known about a start: the final document, the plan, and what the caller should be warned of."""

    spec: Spec
    plan: Plan
    ids: ContainerIds
    host: Host
    root: RootSource
    warnings: tuple[str, ...] = ()


def prepare(
    paths: Paths,
    base: BaseIds,
    request: Request,
    *,
    image: Image | None = None,
    directory: str = "",
    files: tuple[Mount, ...] = (),
    streams: tuple[str, str, str] | tuple[()] = (),
    cgroup: str = "",
    ids: ContainerIds | None = None,
    supervised: bool = True,
    probe: bool = True,
    network: Network | None = None,
    run_directory: str = "",
) -> Prepared:
    """The plan for `request` on this host.

    `directory` is the container's own, for its writable layer; `files` are generated mounts; `ids` is given where a
    range was allocated before; `network` is to be connected, with sockets in `run_directory`. Pure but for reading
    facts, and for the caches of two of them; without `probe` nothing at all is made, tried or cached, so `explain`
    calls it too.
    """
    spec, extras = request.spec, request.extras
    if ids is None:
        ids = ids_for(extras, base)
    on_host = extras.root.kind in (kinds.HOST, kinds.HOST_OVERLAY)
    host = gather_host(paths, base, host_image=on_host)
    warnings = [] if not base.lost else [f"{loss}" for loss in base.lost]
    compiled = compile_filter(paths, spec, extras, cached=probe)
    if compiled.warning:
        warnings.append(compiled.warning)
    spec = _with_ids(spec, ids, base, host)
    if network is not None:
        from jubako.engine.network import with_environment

        spec = with_environment(spec, network.link)
    spec = replace(spec, mounts=(*place_layers(spec.mounts, directory), *files))
    source, fuse = choose_root(paths, extras, ids, host, image, directory, probe)
    plan = plan_container(
        spec,
        host,
        Extras(
            root=source,
            filter=compiled.program,
            filter_flags=compiled.flags,
            init=extras.init,
            streams=streams,
            groups=extras.groups,
            cgroup=cgroup,
            supervised=supervised,
            fuse=fuse,
            preserve_fds=extras.preserve_fds,
            network=network.step(run_directory, directory) if network is not None else None,
        ),
    )
    return Prepared(spec, plan, ids, host, source, tuple(warnings))


def place_layers(mounts: tuple[Mount, ...], directory: str) -> tuple[Mount, ...]:
    """Volumes under a throw-away layer (`-v SRC:DST:O`) get theirs in the container's own directory."""
    placed = []
    for position, mount in enumerate(mounts):
        if mount.type == "overlay" and mount.source and "lowerdir=" not in ",".join(mount.options):
            layer = f"{directory}/layer/volume{position}"
            options = (f"lowerdir={mount.source}", f"upperdir={layer}/upper", f"workdir={layer}/work")
            mount = replace(mount, source="overlay", options=(*mount.options, *options))
        placed.append(mount)
    return tuple(placed)


def layer_directories(spec: Spec, directory: str) -> tuple[str, ...]:
    """The directories that `place_layers` counts on, parents first."""
    wanted: list[str] = []
    for mount in spec.mounts:
        for option in mount.options if mount.type == "overlay" else ():
            name, _, path = option.partition("=")
            if name in ("upperdir", "workdir") and path.startswith(f"{directory}/layer/"):
                wanted += [path.rpartition("/")[0], path]
    return tuple(dict.fromkeys(wanted))


def compile_filter(paths: Paths, spec: Spec, extras: ContainerExtras, *, cached: bool = True) -> CompiledFilter:
    """The system call filter of the request: none, the default one, or a profile of the user's."""
    sets = spec.process.capabilities
    bounding = sets.bounding if sets is not None else ()
    found = shipped_filter(os.uname().machine, bounding) if extras.seccomp == "default" else None
    if found is not None:
        return found
    from jubako.plan.seccomp import filter_for

    return filter_for(extras.seccomp, bounding, paths.cache + "/seccomp" if cached else "")


def choose_root(
    paths: Paths,
    extras: ContainerExtras,
    ids: ContainerIds,
    host: Host,
    image: Image | None,
    directory: str,
    probe: bool = True,
) -> tuple[RootSource, str]:
    """Where the root comes from, and the path of fuse-overlayfs if that is what makes it."""
    root, pivot = extras.root, not extras.no_pivot
    upper, work = f"{directory}/layer/upper", f"{directory}/layer/work"
    if root.kind == kinds.DIRECTORY:
        kind = "tree" if host.privileged and ids.nested else "directory"
        return RootSource(kind, root.path, pivot=pivot), ""
    if root.kind == kinds.HOST:
        return RootSource("host", pivot=pivot), ""
    if root.kind == kinds.HOST_OVERLAY:
        if host.privileged and ids.nested:
            raise JubakoError(
                "run the image host:rw as the host's root",
                reason="fuse-overlayfs would read for the container what only root may read, such as /etc/shadow",
                hint="use the image host, or run it as an ordinary user",
            )
        program = _fuse_overlayfs("run the image host:rw")
        source = RootSource("assembled", f"{directory}/merged", host.tree.binds, upper, work, pivot=pivot)
        return source, program
    if root.kind == kinds.OVERLAY:
        source, program = _overlay(paths, extras, (root.path,), upper, work, f"{directory}/merged", pivot, probe)
        return replace(source, foreign_lower=host.privileged and ids.nested), program
    if image is None:
        raise JubakoError("find the layers of", root.image, reason="the image is gone")
    lower = tuple(reversed(image.layers))
    if ids.nested and not _same_owners(ids):
        return RootSource("copy", f"{directory}/root", lower, pivot=pivot), ""
    return _overlay(paths, extras, lower, upper, work, f"{directory}/merged", pivot, probe)


def _overlay(
    paths: Paths,
    extras: ContainerExtras,
    lower: tuple[str, ...],
    upper: str,
    work: str,
    merged: str,
    pivot: bool,
    probe: bool,
) -> tuple[RootSource, str]:
    from jubako.image.storage import COPY, FUSE_OVERLAYFS, StorageFacts, choose_storage, known_facts, read_facts

    facts = read_facts(paths) if probe else known_facts(paths) or StorageFacts()
    choice = choose_storage(facts, extras.storage)
    if choice.kind == FUSE_OVERLAYFS and os.geteuid() == 0:
        raise JubakoError(
            "mount fuse-overlayfs for the host's root", reason="its files would not belong to the container's ids",
            hint="leave out --storage, or pass --storage overlay or copy",
        )  # fmt: skip
    if choice.kind == FUSE_OVERLAYFS:
        return RootSource("prepared", merged, lower, upper, work, pivot=pivot), choice.program
    if choice.kind == COPY:
        return RootSource("copy", os.path.dirname(merged) + "/root", lower, pivot=pivot), ""
    return RootSource("overlay", "", lower, upper, work, pivot=pivot), ""


def _fuse_overlayfs(operation: str) -> str:
    from jubako.image.storage import find_fuse_overlayfs

    program, obstacle = find_fuse_overlayfs()
    if obstacle:
        raise JubakoError(
            operation,
            reason=obstacle,
            hint="install the package fuse-overlayfs, and as root: chmod 666 /dev/fuse; the image host needs neither",
        )
    return program


def ids_for(extras: ContainerExtras, base: BaseIds) -> ContainerIds:
    """The container's maps as its request says; a joined user namespace has its maps already."""
    if extras.userns.mode in (CONTAINER, PATH):
        return ContainerIds(base.uids.identity(), base.gids.identity(), nested=False)
    return container_ids(extras.userns, base, extras.uidmap, extras.gidmap)


def _same_owners(ids: ContainerIds) -> bool:
    """Whether the layers' owners, which are the base's ids, mean the same in the container."""
    return all(entry.inside == entry.outside for entry in (*ids.uids.entries, *ids.gids.entries))


def _with_ids(spec: Spec, ids: ContainerIds, base: BaseIds, host: Host) -> Spec:
    """The document with its user namespace and maps; relative to the base, or for the host's root to the host."""
    if not ids.nested:
        return spec
    uids, gids = ids.uids, ids.gids
    if host.privileged:
        uids, gids = uids.compose(base.uids, "uid"), gids.compose(base.gids, "gid")
    namespaces = spec.linux.namespaces
    if not any(namespace.type == "user" for namespace in namespaces):
        namespaces = (*namespaces, Namespace("user"))
    process = spec.process
    if ids.user != (0, 0) and not process.user.username and (process.user.uid, process.user.gid) == (0, 0):
        process = replace(process, user=replace(process.user, uid=ids.user[0], gid=ids.user[1]))
    mounts = spec.mounts
    if gids.to_outside(_TTY_GROUP) is None:  # devpts refuses an owner that is not mapped
        mounts = tuple(
            replace(mount, options=tuple(o for o in mount.options if o != f"gid={_TTY_GROUP}"))
            if mount.type == "devpts"
            else mount
            for mount in mounts
        )
    return replace(
        spec,
        mounts=mounts,
        process=process,
        linux=replace(spec.linux, namespaces=namespaces, uid_mappings=_mappings(uids), gid_mappings=_mappings(gids)),
    )


def _mappings(id_map: IdMap) -> tuple[IdMapping, ...]:
    return tuple(IdMapping(entry.inside, entry.outside, entry.size) for entry in id_map.entries)
