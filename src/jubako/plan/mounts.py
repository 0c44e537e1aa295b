"""config.json's `mounts` as steps (OCI runtime-spec 1.2, config, section Mounts; option names as in mount(8))."""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.linux import mount as mnt
from jubako.plan.host import Host
from jubako.plan.namespaces import NamespaceSet
from jubako.plan.step import Step
from jubako.plan.steps import mounts as steps
from jubako.plan.steps.rootfs import MountOverlay, propagation_flags
from jubako.record import record
from jubako.spec.types import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_FLAGS = {
    "ro": mnt.MS_RDONLY,
    "nosuid": mnt.MS_NOSUID,
    "nodev": mnt.MS_NODEV,
    "noexec": mnt.MS_NOEXEC,
    "sync": mnt.MS_SYNCHRONOUS,
    "dirsync": mnt.MS_DIRSYNC,
    "mand": mnt.MS_MANDLOCK,
    "noatime": mnt.MS_NOATIME,
    "nodiratime": mnt.MS_NODIRATIME,
    "relatime": mnt.MS_RELATIME,
    "strictatime": mnt.MS_STRICTATIME,
    "lazytime": mnt.MS_LAZYTIME,
    "nosymfollow": mnt.MS_NOSYMFOLLOW,
}
_CLEARING = {
    "rw": mnt.MS_RDONLY,
    "suid": mnt.MS_NOSUID,
    "dev": mnt.MS_NODEV,
    "exec": mnt.MS_NOEXEC,
    "async": mnt.MS_SYNCHRONOUS,
    "atime": mnt.MS_NOATIME,
    "diratime": mnt.MS_NODIRATIME,
    "norelatime": mnt.MS_RELATIME,
    "symfollow": mnt.MS_NOSYMFOLLOW,
}
_ATTRIBUTES = {
    mnt.MS_RDONLY: mnt.MOUNT_ATTR_RDONLY,
    mnt.MS_NOSUID: mnt.MOUNT_ATTR_NOSUID,
    mnt.MS_NODEV: mnt.MOUNT_ATTR_NODEV,
    mnt.MS_NOEXEC: mnt.MOUNT_ATTR_NOEXEC,
    mnt.MS_NODIRATIME: mnt.MOUNT_ATTR_NODIRATIME,
    mnt.MS_NOSYMFOLLOW: mnt.MOUNT_ATTR_NOSYMFOLLOW,
}
_TIMES = {
    mnt.MS_NOATIME: mnt.MOUNT_ATTR_NOATIME,
    mnt.MS_STRICTATIME: mnt.MOUNT_ATTR_STRICTATIME,
    mnt.MS_RELATIME: mnt.MOUNT_ATTR_RELATIME,
}
_PROPAGATION = frozenset(("private", "slave", "shared", "unbindable", "rprivate", "rslave", "rshared", "runbindable"))
_NOTHING = frozenset(("bind", "rbind", "defaults", "nofail", "loud", "silent", "nomand", "nolazytime"))


@record
class MountOptions:
    """Mount options sorted by what they are for. `attributes` maps to mount_setattr(2), `flags` to mount(2)."""

    flags: int = 0
    cleared: int = 0
    recursive_set: int = 0
    data: str = ""
    propagation: str = ""
    recursive: bool = True
    optional: bool = False
    id_mapped: bool = False


def parse_options(options: tuple[str, ...]) -> MountOptions:
    """Sort mount options; what is no flag of the kernel's goes to the file system as data."""
    flags = cleared = recursive_set = 0
    data: list[str] = []
    propagation = ""
    for option in options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
            cleared &= ~_FLAGS[option]
        elif option in _CLEARING:
            flags &= ~_CLEARING[option]
            cleared |= _CLEARING[option]
        elif option[:1] == "r" and option[1:] in _FLAGS:  # "rro" …: the specification's recursive forms
            recursive_set |= _FLAGS[option[1:]]
        elif option in _PROPAGATION:
            propagation = option
        elif option not in _NOTHING and option not in ("idmap", "ridmap"):
            data.append(option)
    return MountOptions(
        flags, cleared, recursive_set, ",".join(data), propagation,
        recursive="bind" not in options or "rbind" in options,
        optional="nofail" in options,
        id_mapped="idmap" in options or "ridmap" in options,
    )  # fmt: skip


def is_bind(mount: Mount) -> bool:
    """Whether this entry shows a part of the host's tree."""
    return mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options


def plan_mount(mount: Mount, spaces: NamespaceSet, host: Host, id_mapped: str = "") -> Iterator[Step]:
    """The steps for one entry of `mounts`; `id_mapped` names the slot where a privileged parent leaves its copy."""
    options = parse_options(mount.options)
    if is_bind(mount):
        yield _bind(mount.source, mount.destination, options, id_mapped)
    elif mount.type == "proc":
        yield from _proc(mount, options, spaces, host)
    elif mount.type == "sysfs":
        if spaces.is_own("network"):
            yield _new("sysfs", mount, options, "devices as the container's network namespace has them")
        else:
            yield _host_sys(mount.destination)
    elif mount.type in ("cgroup", "cgroup2"):
        yield from _cgroup(mount, options, spaces, host)
    elif mount.type == "mqueue" and not spaces.is_own("ipc"):
        if "ipc" not in spaces.joined:  # queues of a joined namespace are reached by mq_open(3); only it can mount them
            yield _of_host("/dev/mqueue", mount, options)
    elif mount.destination == "/dev/shm" and mount.type == "tmpfs" and not _own_or_joined(spaces, "ipc"):
        yield _of_host("/dev/shm", mount, options)
    elif mount.type in ("tmpfs", "devpts", "mqueue", "ramfs"):
        yield _new(mount.type, mount, options, "")
    elif mount.type == "overlay":
        yield _overlay(mount, options, host)
    else:
        raise UsageError(
            "mount file system type", mount.type, reason="not one that a user namespace can mount",
            hint="use bind, tmpfs, overlay, proc, sysfs, devpts, mqueue or cgroup",
        )  # fmt: skip


def _overlay(mount: Mount, options: MountOptions, host: Host) -> Step:
    given = dict(option.partition("=")[::2] for option in options.data.split(","))
    unknown = [name for name in given if name not in ("lowerdir", "upperdir", "workdir", "userxattr", "")]
    if unknown or not all(name in given for name in ("lowerdir", "upperdir", "workdir")):
        raise UsageError(
            "mount overlay on", mount.destination,
            reason=f"unknown option {unknown[0]!r}" if unknown else "it needs lowerdir=, upperdir= and workdir=",
        )  # fmt: skip
    lower = tuple(given["lowerdir"].split(":"))
    flags = options.flags | options.recursive_set
    return MountOverlay(lower, given["upperdir"], given["workdir"], host.stage, target=mount.destination, flags=flags)


def _own_or_joined(spaces: NamespaceSet, kind: str) -> bool:
    return spaces.is_own(kind) or kind in spaces.joined


def _bind(source: str, target: str, options: MountOptions, id_mapped: str) -> Step:
    if options.data:
        raise UsageError("bind", source, reason=f"unknown mount option {options.data.split(',')[0]!r}")
    set_, clear = _attributes(options)
    propagation = propagation_flags(options.propagation or "private") & ~mnt.MS_REC
    if id_mapped:
        return steps.AttachMount(id_mapped, source, target, set_, clear, propagation, options.optional)
    # A bind keeps its source's flags; what "rw" or "exec" would have to clear, the kernel locks for us anyway.
    return steps.BindMount(
        source,
        target,
        recursive=options.recursive,
        set=set_,
        clear=clear,
        propagation=propagation,
        optional=options.optional,
    )


def _attributes(options: MountOptions) -> tuple[int, int]:
    """(what to set, what to clear) with mount_setattr(2): the times' attribute is a number, so it is cleared first."""
    flags = options.flags | options.recursive_set
    set_ = 0
    for flag, attribute in _ATTRIBUTES.items():
        if flags & flag:
            set_ |= attribute
    for flag, attribute in _TIMES.items():
        if flags & flag:
            return set_ | attribute, mnt.MOUNT_ATTR__ATIME
    return set_, 0


def _new(kind: str, mount: Mount, options: MountOptions, reason: str) -> Step:
    # Nothing is mounted below what is new: the recursive forms mean the same there.
    flags = options.flags | options.recursive_set
    return steps.MountFileSystem(kind, mount.destination, flags, options.data, reason)


def _of_host(source: str, mount: Mount, options: MountOptions) -> Step:
    """The host's own, where the container has no namespace of that kind: shown with the flags that were asked for."""
    set_, clear = _attributes(options)
    return steps.BindMount(source, mount.destination, set=set_, clear=clear)


def _proc(mount: Mount, options: MountOptions, spaces: NamespaceSet, host: Host) -> Iterator[Step]:
    if spaces.is_own("pid") or ("pid" in spaces.joined and not host.foreign_proc):
        yield _new("proc", mount, options, "only the container's own processes")
    elif "pid" in spaces.joined:
        yield _of_host(host.foreign_proc, mount, options)
    else:
        yield _of_host("/proc", mount, options)


def _host_sys(target: str) -> Step:
    return steps.BindMount(
        "/sys", target, set=mnt.MOUNT_ATTR_RDONLY | mnt.MOUNT_ATTR_NOSUID | mnt.MOUNT_ATTR_NODEV | mnt.MOUNT_ATTR_NOEXEC
    )


def _cgroup(mount: Mount, options: MountOptions, spaces: NamespaceSet, host: Host) -> Iterator[Step]:
    if spaces.is_own("cgroup") and host.cgroup2:
        yield steps.MountFileSystem("cgroup2", mount.destination, options.flags | options.recursive_set)
    elif spaces.is_own("network"):  # a new sysfs has an empty directory there; in a bound one the host's is visible
        yield steps.MountFileSystem("tmpfs", mount.destination, options.flags | mnt.MS_RDONLY, "size=0,mode=555")
