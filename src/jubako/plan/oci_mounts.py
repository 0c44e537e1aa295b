"""A bundle's `mounts` as steps: OCI runtime-spec 1.3, config.md, "Mounts".

Unlike the mounts of `jubako run` these mean exactly what the document says: any file system, attributes of the mount
itself or of all below it, every propagation in its order. Four functions, for four places of the plan: what only the
host's root can make before (`plan_mount_sources`), what must still be the host's peer (`plan_shared_sources`), the
mounts in their order (`plan_mounts`), and what becomes read-only when nothing is made in it any more
(`plan_mounts_end`).
"""

from __future__ import annotations

import os

from jubako.errors import UsageError
from jubako.linux import mount as mnt
from jubako.plan.host import Host
from jubako.plan.mount_options import Options, read_options
from jubako.plan.namespaces import NamespaceSet
from jubako.plan.step import Step
from jubako.plan.steps import mount_sources as sources
from jubako.plan.steps import oci_mounts as steps
from jubako.plan.steps.mounts import CloneShared
from jubako.record import record
from jubako.spec.types import IdMapping, Mount, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.linux.binding import Changes

_IN_USER_NAMESPACE = frozenset(("tmpfs", "ramfs", "devpts", "mqueue", "overlay", "fuse", "bpf", "binfmt_misc"))
_UNLABELLED = frozenset(("proc", "sysfs", "mqueue", "cgroup", "cgroup2"))
_PRIVATE = ((0, 0, mnt.MS_PRIVATE, True),)
_READ_ONLY = mnt.MOUNT_ATTR_RDONLY | mnt.MOUNT_ATTR_NOSUID | mnt.MOUNT_ATTR_NODEV | mnt.MOUNT_ATTR_NOEXEC


@record
class Bundle:
    """What the mounts need to know and config.json does not say.

    `path` is where relative sources count from; `label` an SELinux label for new file systems, given to them as the
    option `label_option` ("context", or what crun's annotation run.oci.mount_context_type says).
    """

    path: str
    label: str = ""
    label_option: str = "context"
    own_group: bool = True
    """The container has a control group of its own."""


def plan_mount_sources(spec: Spec, spaces: NamespaceSet, host: Host, bundle: Bundle) -> Iterator[Step]:
    """The supervisor's part, once the id maps are written: id-mapped copies, and file systems that a user namespace
    cannot mount. Raises `UsageError` where only the host's root could make what is asked for."""
    for position, mount in enumerate(spec.mounts):
        options = read_options(mount.options)
        if _is_bind(mount, options):
            if _is_id_mapped(mount, options):
                yield _id_mapped(mount, options, spaces, host, bundle, slot_of(position))
        elif _is_foreign(mount, options) and not _is_real_root(spaces, host):
            if not host.privileged:
                raise UsageError(
                    "mount file system type", mount.type, reason="not one that a user namespace can mount",
                    hint="use bind, tmpfs, overlay, proc, sysfs, devpts, mqueue or cgroup",
                )  # fmt: skip
            yield sources.OpenFileSystem(
                mount.type, mount.source, slot_of(position), options.attributes()[0], options.of_file_system(),
                _data(mount, options, bundle),
            )  # fmt: skip


def plan_shared_sources(spec: Spec, spaces: NamespaceSet, host: Host, bundle: Bundle) -> Iterator[Step]:
    """Init's part before the container's mounts are cut off from the host's: the shared binds of the host's root."""
    for position in _shared(spec, spaces, host):
        mount = spec.mounts[position]
        yield CloneShared(_source(mount, bundle), slot_of(position), _is_recursive(mount, read_options(mount.options)))


def bind_sources(spec: Spec, bundle: Bundle) -> tuple[str, ...]:
    """The sources of all binds, to be opened while this process may still walk there (`OpenPaths`)."""
    found = [_source(mount, bundle) for mount in spec.mounts if _is_bind(mount, read_options(mount.options))]
    return tuple(dict.fromkeys(found))


def plan_mounts(spec: Spec, spaces: NamespaceSet, host: Host, bundle: Bundle) -> Iterator[Step]:
    """The mounts, in the document's order, below the slot `root`."""
    shared = _shared(spec, spaces, host)
    for position, mount in enumerate(spec.mounts):
        options = read_options(mount.options)
        target = target_of(mount)
        if target == "/":
            raise UsageError("mount on", "/", reason="it would cover the container's root")
        if options.copy_up and (mount.type != "tmpfs" or options.bind):
            raise UsageError("use mount option", "tmpcopyup", reason="it is for new tmpfs only")
        if options.remount:
            yield _remount(mount, options, target)
        elif _is_bind(mount, options):
            if options.data:
                raise UsageError("bind", _source(mount, bundle), reason=f"unknown mount option {options.data[0]!r}")
            changes = changes_of(options, bind=True)
            if _shows_control_groups(mount, options) and not _is_real_root(spaces, host):
                changes = (*changes, (mnt.MOUNT_ATTR_RDONLY, 0, 0, True))
            if position in shared or _is_id_mapped(mount, options):
                yield steps.AttachTree(slot_of(position), mount.source, target, changes, options.optional)
            else:
                recursive = _is_recursive(mount, options)
                yield steps.BindTree(_source(mount, bundle), target, recursive, changes, options.optional)
        else:
            yield from _plan_new(position, mount, options, target, spaces, host, bundle)


def plan_mounts_end(spec: Spec) -> Iterator[Step]:
    """When devices and links are made: the new file systems that were to be read-only become so."""
    for position, mount in enumerate(spec.mounts):
        if _ends_read_only(mount, read_options(mount.options)):
            yield steps.FinishReadOnly(target_of(mount), slot_of(position))


def changes_of(options: Options, *, bind: bool) -> Changes:
    """What is to be changed of a mount: its own attributes (a bind's only: a new one is born with them), those of all
    below it, and propagation, which for a bind is private unless something else is said."""
    changes: list[tuple[int, int, int, bool]] = []
    if bind and options.attributes() != (0, 0):
        changes.append((*options.attributes(), 0, False))
    if options.recursive_set or options.recursive_cleared:
        changes.append((options.recursive_set, options.recursive_cleared, 0, True))
    changes += [(0, 0, flags & ~mnt.MS_REC, bool(flags & mnt.MS_REC)) for flags in options.propagations]
    return (*changes, *(_PRIVATE if bind and not options.propagations else ()))


def slot_of(position: int) -> str:
    """The slot for what was made of `mounts[position]` before."""
    return f"mount{position}"


def target_of(mount: Mount) -> str:
    """Where it is mounted, as a clean path below the root."""
    return "/" + os.path.normpath("/" + mount.destination).lstrip("/")


def _plan_new(
    position: int, mount: Mount, options: Options, target: str, spaces: NamespaceSet, host: Host, bundle: Bundle
) -> Iterator[Step]:
    real = _is_real_root(spaces, host)
    if mount.type == "proc":
        joined = "pid" in spaces.joined
        if spaces.is_own("pid") or real or (joined and not host.foreign_proc):  # never the host's in a joined one
            yield _new(position, mount, options, target, bundle, "only the processes of the container's PID namespace")
        else:
            yield _of_host(host.foreign_proc if joined else "/proc", options, target)
    elif mount.type == "sysfs":
        if spaces.is_own("network") or real:
            reason = "devices as the container's network namespace has them"
            yield _new(position, mount, options, target, bundle, reason)
        else:
            yield steps.BindTree("/sys", target, changes=((_READ_ONLY, 0, 0, True), *_PRIVATE))
    elif mount.type in ("cgroup", "cgroup2"):
        yield _cgroup(mount, options, target, spaces, host, real, bundle.own_group)
    elif mount.type == "mqueue" and not spaces.is_own("ipc") and not real:
        if "ipc" not in spaces.joined:  # queues of a joined namespace are reached by mq_open(3); only it can mount them
            yield _of_host("/dev/mqueue", options, target)
    elif real or not _is_foreign(mount, options):
        yield _new(position, mount, options, target, bundle, "")
    else:
        yield steps.AttachTree(slot_of(position), mount.source, target, changes_of(options, bind=False))


def _new(position: int, mount: Mount, options: Options, target: str, bundle: Bundle, reason: str) -> Step:
    flags, words = options.flags, options.of_file_system()
    if mount.type == "tmpfs":  # read-only only when mount points and devices in it are made: `plan_mounts_end`
        flags, words = flags & ~mnt.MS_RDONLY, tuple(word for word in words if word != "ro")
        changes = changes_of(_but_read_only(options), bind=False)
    else:
        changes = changes_of(options, bind=False)
    return steps.MountNew(
        mount.type, mount.source or mount.type, target, flags, words, _data(mount, options, bundle), changes,
        options.copy_up, reason, slot_of(position) if _ends_read_only(mount, options) else "",
    )  # fmt: skip


def _cgroup(
    mount: Mount, options: Options, target: str, spaces: NamespaceSet, host: Host, real: bool, own_group: bool
) -> Step:
    """The container's own part of the hierarchy. Without a cgroup namespace it is the host's, and without a group of
    its own its caller's: then read-only for all but the host's root, since those groups may be the caller's to change
    (CVE-2023-25809)."""
    if spaces.is_own("cgroup") and host.cgroup2:
        reason = "control groups, seen from the container's own group downwards"
        flags = options.flags if own_group or real else options.flags | mnt.MS_RDONLY
        return steps.MountNew(
            "cgroup2", "cgroup2", target, flags, (), options.data, changes_of(options, bind=False), reason=reason,
        )  # fmt: skip
    changes = changes_of(options, bind=True)
    if _wants_read_only(options):
        changes = ((mnt.MOUNT_ATTR_RDONLY, 0, 0, True), *changes)  # each controller is a mount of its own
    if not real:
        changes = (*changes, (mnt.MOUNT_ATTR_RDONLY, 0, 0, True))
    return steps.BindTree("/sys/fs/cgroup", target, changes=changes)


def _of_host(source: str, options: Options, target: str) -> Step:
    """The host's own, where the container has no namespace of that kind: shown with the flags that were asked for."""
    return steps.BindTree(source, target, changes=changes_of(options, bind=True))


def _remount(mount: Mount, options: Options, target: str) -> Step:
    changes = changes_of(options, bind=True)
    if not options.propagations:
        changes = changes[:-1]
    if options.bind or mount.type == "bind":
        return steps.ChangeMount(target, changes)
    return steps.ChangeMount(target, changes, options.flags, options.data, whole=True)


def _id_mapped(mount: Mount, options: Options, spaces: NamespaceSet, host: Host, bundle: Bundle, slot: str) -> Step:
    source = _source(mount, bundle)
    if not host.privileged:
        raise UsageError("make an id-mapped mount of", source, reason="only the host's root may make one")
    deep = options.id_map == "ridmap" or (not options.id_map and options.recursive)
    recursive = _is_recursive(mount, options)
    if mount.uid_mappings:
        maps = (_map_text(mount.uid_mappings), _map_text(mount.gid_mappings))
        return sources.CloneMapped(source, slot, *maps, recursive, deep)
    return sources.CloneMapped(source, slot, "", "", recursive, deep, joined="user" in spaces.joined)


def _shows_control_groups(mount: Mount, options: Options) -> bool:
    """Whether a bind brings the host's control groups along unasked, which may be the caller's to change: they are
    mounts of their own below /sys, so its "ro" does not reach them (CVE-2023-25809)."""
    above = os.path.normpath(mount.source) in ("/sys", "/sys/fs")
    return above and _is_recursive(mount, options) and not options.recursive_cleared & mnt.MOUNT_ATTR_RDONLY


def _map_text(mappings: tuple[IdMapping, ...]) -> str:
    return "".join(f"{one.container_id} {one.host_id} {one.size}\n" for one in mappings)


def _data(mount: Mount, options: Options, bundle: Bundle) -> tuple[str, ...]:
    labelled = any(option.startswith(("context=", "fscontext=", "defcontext=")) for option in options.data)
    if not bundle.label or mount.type in _UNLABELLED or labelled:
        return options.data
    return (*options.data, f"{bundle.label_option}={bundle.label}")


def _is_bind(mount: Mount, options: Options) -> bool:
    return (options.bind or mount.type == "bind") and not options.remount


def _is_recursive(mount: Mount, options: Options) -> bool:
    return options.recursive or not options.bind


def _is_id_mapped(mount: Mount, options: Options) -> bool:
    return bool(options.id_map or mount.uid_mappings)


def _is_foreign(mount: Mount, options: Options) -> bool:
    """Whether it is a file system that only the host's root can mount."""
    known = mount.type in _IN_USER_NAMESPACE or mount.type in ("proc", "sysfs", "cgroup", "cgroup2")
    return not known and not options.remount


def _is_real_root(spaces: NamespaceSet, host: Host) -> bool:
    """Whether init itself mounts with the rights of the host's root."""
    return host.privileged and not spaces.nested and "user" not in spaces.joined


def _shared(spec: Spec, spaces: NamespaceSet, host: Host) -> frozenset[int]:
    """The binds that are to share mounts with the host: in a user namespace the kernel makes all of them slaves."""
    if not _is_real_root(spaces, host):
        return frozenset()
    found = []
    for position, mount in enumerate(spec.mounts):
        options = read_options(mount.options)
        wants = any(flags & mnt.MS_SHARED for flags in options.propagations)
        slave = any(flags & mnt.MS_SLAVE for flags in options.propagations)
        if wants and not slave and _is_bind(mount, options) and not _is_id_mapped(mount, options):
            found.append(position)
    return frozenset(found)


def _ends_read_only(mount: Mount, options: Options) -> bool:
    return mount.type == "tmpfs" and not options.bind and not options.remount and _wants_read_only(options)


def _wants_read_only(options: Options) -> bool:
    return bool(options.flags & mnt.MS_RDONLY or options.recursive_set & mnt.MOUNT_ATTR_RDONLY)


def _but_read_only(options: Options) -> Options:
    from jubako.record import replace

    return replace(options, recursive_set=options.recursive_set & ~mnt.MOUNT_ATTR_RDONLY)


def _source(mount: Mount, bundle: Bundle) -> str:
    if not mount.source:
        raise UsageError("bind to", mount.destination, reason="the mount has no source")
    return os.path.join(bundle.path, mount.source)
