"""The mounts of a container that criu cannot keep, since they come from the host: binds, and what covers masked paths.

A checkpoint knows each by a name, the mount point itself, and a restore has to say what is bound there then (criu(8),
`--external mnt[…]`; proc_pid_mountinfo(5)). The names are those that runc and crun use.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError, UsageError
from jubako.linux.mount import unescape
from jubako.linux.openat2 import make_directory_in, make_file_in, open_in
from jubako.plan.host import STANDARD_DEVICES
from jubako.plan.mount_options import read_options
from jubako.plan.oci_mounts import target_of
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.spec.types import Mount, Spec

_KERNELS_OWN = frozenset(
    ("proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts", "securityfs", "debugfs", "tracefs", "bpf", "pstore",
     "binfmt_misc", "configfs", "fusectl", "hugetlbfs", "selinuxfs"),
)  # fmt: skip
"""File systems of which every mount shows the same thing: criu makes them anew."""


@record
class Mounted:
    """A line of mountinfo: the file system's device, which directory of it is mounted, where, and its type."""

    device: str
    root: str
    point: str
    type: str


def read_mounts(text: bytes) -> tuple[Mounted, ...]:
    """The mounts that a mountinfo file tells of."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(b" - ")
        fields = [os.fsdecode(unescape(field)) for field in left.split()]
        found.append(Mounted(fields[2], fields[3], fields[4], os.fsdecode(right.split()[0])))
    return tuple(found)


def mounts_of(pid: int | str) -> tuple[Mounted, ...]:
    """The mounts of a process's mount namespace. Raises `OSError`."""
    with open(f"/proc/{pid}/mountinfo", "rb", buffering=0) as file:
        return read_mounts(b"".join(iter(lambda: file.read(1 << 16), b"")))


def external_mounts(
    spec: Spec, inside: tuple[Mounted, ...], outside: tuple[Mounted, ...], resolved: dict[str, str]
) -> tuple[str, ...]:
    """The mount points `inside` a container that lead to the host, whose mounts are `outside`.

    Those are what the document binds, with all that came along below it, and everything else whose file system the host
    has mounted too. `resolved` says where the document's destinations really are.
    """
    hosts = {mount.device for mount in outside if mount.type not in _KERNELS_OWN}
    binds = {resolved[target_of(mount)]: _is_bind(mount) for mount in spec.mounts}
    found = []
    for mount in inside:
        if mount.point == "/":
            continue
        owner = _nearest(mount.point, binds)
        if binds.get(owner) or mount.device in hosts:
            found.append(mount.point)
    return tuple(dict.fromkeys(found))


def own_mounts(
    spec: Spec, bundle: str, inside: tuple[Mounted, ...], resolved: dict[str, str], places: tuple[str, ...]
) -> tuple[str, ...]:
    """The mount points that came along with a bind of what the container's own root or state lies in: there `create`
    makes mounts, in those `places`, that no other container needs."""
    binds = {resolved[target_of(mount)]: mount for mount in spec.mounts}
    found = []
    for mount in inside:
        owner = _nearest(mount.point, binds)
        if owner and _is_bind(binds[owner]):
            source = os.path.realpath(os.path.join(bundle, binds[owner].source)).rstrip("/")
            origin = f"{source}{mount.point[len(owner) :]}/"
            if any(origin.startswith(place + "/") for place in places):
                found.append(mount.point)
    return tuple(found)


def sources(spec: Spec, bundle: str, names: tuple[str, ...], resolved: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What is bound where, as (name, path on the host): for the `names` of a checkpoint, and for all that the document
    knows, since a checkpoint of another runtime says nothing of its names."""
    binds = {resolved[target_of(mount)]: mount for mount in spec.mounts}
    known: dict[str, str] = {}
    for point, mount in binds.items():
        if _is_bind(mount):
            known[point] = os.path.join(bundle, mount.source)
    for path in ("/dev/null", *spec.linux.masked_paths):
        known.setdefault(path, "/dev/null")
    for path in (*(name for name, *_numbers in STANDARD_DEVICES), *(device.path for device in spec.linux.devices)):
        known.setdefault(path, path)
    for name in names:
        owner = _nearest(name, binds)
        if name not in known and owner in known:
            known[name] = known[owner] + name[len(owner) :]
    yield from known.items()


def refuse_mounts(operation: str, subject: str, spec: Spec) -> None:
    """Raise `UsageError` for mounts that criu would make otherwise than the document wants them."""
    for position, mount in enumerate(spec.mounts):
        options = read_options(mount.options)
        if _is_bind(mount) and (options.id_map or mount.uid_mappings):
            raise UsageError(
                operation, subject, reason=f"mounts[{position}]: criu knows no mounts with ids of their own (idmap)",
            )  # fmt: skip


def resolve_in(root: str, spec: Spec) -> dict[str, str]:
    """Where the destinations of the document's mounts are below the directory `root`, links followed."""
    found = {}
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        base = os.readlink(f"/proc/self/fd/{fd}").rstrip("/")
        for mount in spec.mounts:
            target = target_of(mount)
            found[target] = _resolve(fd, base, target)
    finally:
        os.close(fd)
    return found


def make_mount_points(spec: Spec, bundle: str, root: str) -> None:
    """Make what the document's mounts are mounted on where it is missing, as `create` does. What lies in a new file
    system comes out of the checkpoint."""
    kinds = {target_of(mount): mount for mount in spec.mounts}
    for mount in spec.mounts:
        target = target_of(mount)
        parent = os.path.dirname(target)
        owner = kinds.get(_nearest(parent, kinds))
        if owner is not None and not _is_bind(owner):
            continue
        place, path = root, target
        if owner is not None:
            place, path = os.path.join(bundle, owner.source), target[len(target_of(owner)) :]
        _make_mount_point(place, path, _is_bind(mount) and not os.path.isdir(os.path.join(bundle, mount.source)))


def _make_mount_point(root: str, path: str, is_file: bool) -> None:
    try:
        fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            made = make_file_in(fd, path) if is_file else make_directory_in(fd, path)
            os.close(made)
        finally:
            os.close(fd)
    except OSError as failure:
        raise JubakoError.from_os_error("make mount point", path, failure) from failure


def _resolve(fd: int, base: str, target: str) -> str:
    try:
        found = open_in(fd, target)
    except OSError:
        return target
    try:
        path = os.readlink(f"/proc/self/fd/{found}")
    finally:
        os.close(found)
    return path[len(base) :] if path.startswith(base + "/") else target


def _nearest(point: str, points: dict[str, object] | dict[str, bool] | dict[str, Mount]) -> str:
    """Which of `points` is `point`, or the one next above it; empty if there is none."""
    while point not in points and point.count("/") > 1:
        point = os.path.dirname(point)
    return point if point in points else ""


def _is_bind(mount: Mount) -> bool:
    options = read_options(mount.options)
    return (options.bind or mount.type == "bind") and not options.remount
