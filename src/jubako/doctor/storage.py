"""Where images and containers are kept: the file system below the store, room on it, and how layers are stacked.

Magic numbers are those of statfs(2) and linux/magic.h. The question to the file system is asked in a child, since a
network file system whose server is gone never answers.
"""

from __future__ import annotations

import errno
import os

from jubako.doctor.finding import Finding, note, ok, problem, warning
from jubako.doctor.programs import FUSE_OVERLAYFS, find
from jubako.doctor.remedies import install
from jubako.doctor.trial import Trial
from jubako.doctor.trials import WORK
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.doctor.host import Host

NETWORK = {
    0x6969: "NFS", 0x517B: "SMB", 0xFF534D42: "CIFS", 0xFE534D42: "SMB2", 0x01021997: "9p", 0x0BD00BD0: "Lustre",
    0x47504653: "GPFS", 0x19830326: "BeeGFS", 0x00C36400: "Ceph", 0x5346414F: "AFS", 0x73757245: "Coda",
    0xAAD7AAEA: "PanFS", 0x20030528: "OrangeFS",
}  # fmt: skip
"""File systems that know only the server's ids, or lack overlayfs's needs: subordinate owners cannot be kept there."""

LOCAL = {
    0xEF53: "ext4", 0x58465342: "XFS", 0x9123683E: "Btrfs", 0x01021994: "tmpfs", 0x2FC12FC1: "ZFS",
    0xF2F52010: "F2FS", 0xCA451A4E: "bcachefs", 0x794C7630: "overlay",
}  # fmt: skip

NO_OWNERS = {0x4D44: "FAT", 0x5346544E: "NTFS", 0x2011BAB0: "exFAT", 0x65735546: "FUSE", 0xF15F: "eCryptfs"}
"""File systems that keep no owners and modes, or none that an overlay's upper layer needs."""

_KINDS = {"nfs": "NFS", "nfs4": "NFS", "cifs": "CIFS", "smb3": "SMB", "lustre": "Lustre", "gpfs": "GPFS", "9p": "9p"}
_ROOM_NEEDED = 64 << 20
_ROOM_WANTED = 1 << 30


@record
class FileSystem:
    """What is below a path: its name for people, the magic number, free bytes, free inodes (-1: unlimited)."""

    name: str
    magic: int
    free: int
    inodes: int


def file_system_of(host: Host, path: str) -> tuple[FileSystem | None, Trial]:
    """The file system below `path`, or None with the trial that says why it is not known."""
    if not path:
        return None, Trial(errno.ETIMEDOUT, "the file system does not answer")
    trial = host.attempt("file_system", host.path(path))
    fields = trial.detail.split()
    if not trial.ok or len(fields) != 4:
        return None, trial
    magic, free, inodes, total = int(fields[0], 16), *map(int, fields[1:])
    name = NETWORK.get(magic) or LOCAL.get(magic) or NO_OWNERS.get(magic)
    if name is None:
        mount = host.mount_of(path)
        name = mount.kind if mount else "unknown"
    return FileSystem(name, magic, free, inodes if total else -1), trial


def store_file_system(host: Host) -> Finding:
    """Is the store on a local file system that keeps owners?"""
    name = "store"
    mount = host.mount_of(host.store)
    by_name = _KINDS.get(mount.kind) if mount else None
    if by_name is None:
        place = host.nearest(host.store)
        found, trial = file_system_of(host, place)
        evidence = f"statfs({place or host.store}): " + (f"{found.name} ({found.magic:#x})" if found else str(trial))
        if trial.errno == errno.ETIMEDOUT:
            return problem(name, f"the file system of {host.store} does not answer", evidence, remedy=_elsewhere(host))
        by_name = NETWORK.get(found.magic) if found else None
        weak = NO_OWNERS.get(found.magic) if found else None
        if weak:
            return warning(
                name,
                f"{host.store} is on {weak}, where owners and layers cannot be kept",
                evidence,
                remedy=_elsewhere(host),
            )
        if found and found.name == "tmpfs":
            return warning(
                name, f"{host.store} is in memory: images are lost at the next boot", evidence, remedy=_elsewhere(host)
            )
    else:
        evidence = f"{mount.path if mount else ''}: {mount.kind if mount else ''} of {mount.source if mount else ''}"
    if by_name:
        return warning(
            name,
            f"{host.store} is on {by_name}, which keeps no subordinate owners: images cannot be unpacked there",
            evidence,
            remedy=_elsewhere(host),
        )
    if mount is not None and "noexec" in mount.options:
        return warning(
            name,
            f"{mount.path} is mounted noexec: programs of images cannot be run from there",
            evidence,
            f"{mount.path}: {','.join(mount.options)}",
            remedy=_elsewhere(host),
        )
    return ok(name, host.store, evidence)


def _elsewhere(host: Host) -> str:
    directory = f"/var/tmp/jubako-{host.user or host.uid}"
    return (
        "# Keep the store on a local disk; put the line into ~/.profile, or pass --root each time:\n"
        f"mkdir -m 0700 -p {directory}\n"
        f"export JUBAKO_ROOT={directory}"
    )


def store_writable(host: Host) -> Finding:
    """May the account write where images and containers are to be kept?"""
    name = "store's owner"
    place = host.nearest(host.store)
    if not place:
        return note(name, "not known: the file system does not answer", host.store)
    found = host.stat(place)
    owner = found.st_uid if found else -1
    evidence = f"{place}: owner {owner}, mode {found.st_mode & 0o7777:04o}" if found else f"{place}: not there"
    if not host.writable(place):
        return problem(
            name,
            f"{place} cannot be written: containers have no place",
            evidence,
            remedy=_own_store(host, place),
        )
    if place == host.store and owner not in (host.uid, -1):
        return problem(name, f"{host.store} belongs to uid {owner}", evidence, remedy=_own_store(host, place))
    return ok(name, "may be written", evidence)


def _own_store(host: Host, place: str) -> str:
    """Make the store the account's, and nothing above it."""
    who = host.user or str(host.uid)
    if place == host.store:
        own = f"{host.sudo}chown {who}: {host.store}"
    else:
        own = f"{host.sudo}install -d -m 0700 -o {who} {host.store}"
    return f"{own}\n# or another place:\n{_elsewhere(host)}"


def disk_space(host: Host) -> Finding:
    """Is there room for images?"""
    name = "disk space"
    place = host.nearest(host.store)
    found, trial = file_system_of(host, place)
    if found is None:
        return note(name, "not known", f"statfs({place or host.store}): {trial}")
    inodes = "unlimited" if found.inodes < 0 else str(found.inodes)
    evidence = f"statfs({place}): {found.free >> 20} MiB and {inodes} inodes free"
    remedy = f"df -h {place}; df -i {place}\njubako image prune"
    if found.free < _ROOM_NEEDED or 0 <= found.inodes < 1000:
        return problem(name, f"{place} is full", evidence, remedy=remedy)
    if found.free < _ROOM_WANTED or 0 <= found.inodes < 50000:
        return warning(
            name, f"little room at {place}: {found.free >> 20} MiB, {inodes} inodes", evidence, remedy=remedy
        )
    return ok(name, f"{found.free / (1 << 30):.1f} GiB free", evidence)


def overlay(host: Host) -> Finding:
    """Can layers be stacked by the kernel's overlay in a user namespace (Linux 5.11)?"""
    name = "overlay"
    trial = host.attempt("overlay")
    tried = f"tried on a tmpfs in a user namespace: {trial}"
    if trial.ok:
        return _overlay_on_store(host, name, tried)
    evidence = [tried]
    listed = "overlay" in (host.read("/proc/filesystems") or "")
    evidence.append(f"/proc/filesystems: overlay is {'listed' if listed else 'not listed'}")
    if find(host, "fuse-overlayfs") and host.attempt("open_device", "/dev/fuse").ok:
        return note(name, "not in a user namespace here; fuse-overlayfs is used instead", *evidence)
    remedy = install(host, FUSE_OVERLAYFS)
    if not listed:
        remedy = f"{host.sudo}modprobe overlay\n# or, as a second choice:\n{remedy}"
    return warning(
        name,
        "layers cannot be stacked: each container gets a copy of its image (slow, large)",
        *evidence,
        remedy=remedy,
    )


def _overlay_on_store(host: Host, name: str, tried: str) -> Finding:
    """The upper layer's file system counts too: one more try on the store's own, where we may write at all."""
    place = host.nearest(host.store)
    if not place:
        return ok(name, "works in a user namespace; not tried on the store", tried)
    if not host.writable(place) or host.root != "/" or "overlay_on" in host.attempts:
        trial = host.attempts.get("overlay_on", Trial(0, "not tried on the store"))
    else:
        trial = _try_below(host, place)
    evidence = f"tried with the upper layer at {place}: {trial}"
    if trial.ok:
        return ok(name, "works in a user namespace", tried, evidence)
    if find(host, "fuse-overlayfs") and host.attempt("open_device", "/dev/fuse").ok:
        return note(name, f"not on the file system of {place}; fuse-overlayfs is used instead", tried, evidence)
    return warning(
        name,
        f"the file system of {place} cannot hold an upper layer: each container gets a copy of its image",
        tried,
        evidence,
        remedy=_elsewhere(host),
    )


def _try_below(host: Host, place: str) -> Trial:
    import tempfile

    try:
        directory = tempfile.mkdtemp(prefix=".jubako-doctor-", dir=place)
    except OSError as failure:
        return Trial(failure.errno or errno.EIO, f"{place}: {failure.strerror}")
    try:
        return host.attempt("overlay_on", directory)
    finally:
        _remove(directory)


def _remove(directory: str) -> None:
    """Take the trial's directory away; overlayfs leaves `work/work` with mode 0."""
    import shutil

    for name in ("work", "index"):
        try:
            os.chmod(f"{directory}/{WORK}/{name}", 0o700)
        except OSError:
            continue
    shutil.rmtree(directory)


def idmapped_mounts(host: Host) -> Finding:
    """Can ownership be shifted by a mount instead of chown(2)? As root, on the store itself."""
    name = "id-mapped mounts"
    if host.uid == 0:
        place = host.nearest(host.store) or "/"
        trial = host.attempt("idmapped_mount", place)
        if trial.ok:
            return ok(name, "work on the store", f"tried on {place}: works")
        return note(name, "not on the store: files are chowned instead", f"tried on {place}: {trial}")
    trial = host.attempt("idmapped_mount", "")
    if trial.ok:
        return ok(name, "work on a tmpfs in a user namespace (on disks they are for root)", "tried: works")
    return note(name, "not for ordinary users on this kernel", f"tried on a tmpfs in a user namespace: {trial}")


CHECKS = (store_file_system, store_writable, disk_space, overlay, idmapped_mounts)
