"""The root file system and the mounts of a container, from `--rootfs`, `-v`, `--mount`, `--tmpfs` and kin.

Mounts come out in one order: shallow targets before deep ones, so that no mount hides another. What the user mounts
takes the place of a default at the same target, and of the defaults below it.
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.engine.extras import DIRECTORY, HOST, HOST_OVERLAY, IMAGE, OVERLAY, Context, RootSource
from jubako.engine.options import RunOptions
from jubako.engine.parse.namespaces import HOST as HOST_MODE
from jubako.engine.parse.namespaces import NONE, Choice
from jubako.engine.parse.paths import parse_source
from jubako.engine.parse.security import SecurityChoice, is_unmasked
from jubako.engine.parse.sizes import parse_size, refuse
from jubako.errors import NotFoundError, UsageError
from jubako.record import replace
from jubako.spec.defaults import DEFAULT_SHM_SIZE, MASKED_PATHS, READONLY_PATHS, default_mounts, thermal_paths
from jubako.spec.types import Mount

# What programs must be able to write even where --read-only holds (podman's --read-only-tmpfs).
_WRITABLE = ("/run:mode=0755", "/tmp:exec", "/var/tmp:exec")


def find_root(options: RunOptions, context: Context) -> RootSource:
    """Which root file system is asked for. A directory must be there, and one that can be entered."""
    if options.rootfs:
        if options.image:
            raise UsageError("combine --rootfs and an image", options.image, reason="each is a root file system")
        return _directory_root(options.rootfs, context)
    if options.image == "host":
        return RootSource(HOST, "/", "host")
    if options.image == "host:rw":
        return RootSource(HOST_OVERLAY, "/", "host:rw")
    if not options.image:
        raise UsageError("run", reason="no image was named", hint="give one, or `host`, or --rootfs DIR")
    return RootSource(IMAGE, "", options.image)


def build_mounts(
    options: RunOptions, namespaces: dict[str, Choice], security: SecurityChoice, context: Context
) -> tuple[Mount, ...]:
    """All mounts, in the order in which they are made. Raises `UsageError` or `NotFoundError` naming what is wrong."""
    asked = _asked(options, context) if options.volume or options.mount or options.tmpfs or options.device else ()
    taken: set[str] = set()
    for mount in asked:
        if mount.destination in taken:
            raise UsageError("mount twice on", mount.destination, reason="two flags name the same target")
        taken.add(mount.destination)
    defaults = [mount for mount in _defaults(options, namespaces, security, context) if not _is_below(mount, taken)]
    if options.read_only and options.read_only_tmpfs:
        from jubako.engine.parse.mounts import parse_tmpfs

        defaults += [mount for mount in map(parse_tmpfs, _WRITABLE) if not _is_below(mount, taken)]
    return tuple(sorted((*defaults, *asked), key=lambda mount: mount.destination.count("/")))


def _asked(options: RunOptions, context: Context) -> tuple[Mount, ...]:
    from jubako.engine.parse.mounts import parse_device, parse_mount, parse_tmpfs, parse_volume

    return (
        *(_with_source(parse_volume(value, context.directory), "volume", value) for value in options.volume),
        *(_with_source(parse_mount(value, context.directory), "mount", value) for value in options.mount),
        *(parse_tmpfs(value) for value in options.tmpfs),
        *(_with_device(parse_device(value), value) for value in options.device),
    )


def build_masks(options: RunOptions, security: SecurityChoice) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(masked, read-only) paths: the defaults without what is to be unmasked, and what is to be masked besides."""
    if options.privileged:
        return security.mask, ()
    masked = [path for path in (*MASKED_PATHS, *thermal_paths()) if not is_unmasked(path, security.unmask)]
    readonly = tuple(path for path in READONLY_PATHS if not is_unmasked(path, security.unmask))
    return tuple(dict.fromkeys((*masked, *security.mask))), readonly


def _directory_root(value: str, context: Context) -> RootSource:
    text, kind = value, DIRECTORY
    if value.endswith(":O"):
        text, kind = value[:-2], OVERLAY
    path = parse_source(text, context.directory, "rootfs", value)
    try:
        found = os.stat(path)
    except OSError as error:
        hint = "is there a typing error, or an unknown option after the last colon?" if ":" in text else ""
        raise NotFoundError.from_os_error("use root file system", path, error, hint) from None
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError("use root file system", path, reason="not a directory")
    # What belongs to a subordinate id may be closed to the caller and open to the container's root all the same.
    if not os.access(path, os.R_OK | os.X_OK) and found.st_uid in (0, os.geteuid()):
        raise UsageError("use root file system", path, reason="you may not read it", hint="see its owner and mode")
    return RootSource(kind, path)


def _defaults(
    options: RunOptions, namespaces: dict[str, Choice], security: SecurityChoice, context: Context
) -> list[Mount]:
    size = parse_size(options.shm_size, "shm-size") if options.shm_size else DEFAULT_SHM_SIZE
    ipc = namespaces.get("ipc", Choice("ipc")).mode
    mounts = []
    for mount in default_mounts(size, context.tty_group):
        if mount.type == "proc" and security.proc_options:
            mount = replace(mount, options=(*mount.options, *security.proc_options))
        elif mount.type in ("sysfs", "cgroup") and options.privileged:
            mount = replace(mount, options=tuple(option for option in mount.options if option != "ro"))
        elif mount.destination == "/dev/shm" and ipc == NONE:
            continue
        elif mount.destination in ("/dev/shm", "/dev/mqueue") and ipc == HOST_MODE:
            # Shared memory and queues of the host's ipc namespace are reached through the host's own mounts.
            if not os.path.isdir(mount.destination):
                continue
            kept = ("rbind", "rprivate", "nosuid", "noexec", "nodev")
            mount = Mount(mount.destination, "bind", mount.destination, kept)
        mounts.append(mount)
    return mounts


def _is_below(mount: Mount, taken: set[str]) -> bool:
    """Whether `mount` stands at or below one of the targets that the user took."""
    path = mount.destination
    while len(path) > 1:
        if path in taken:
            return True
        path = path.rpartition("/")[0]
    return False


def _with_source(mount: Mount, flag: str, value: str) -> Mount:
    """`mount`, once its source is known to be there: docker would make a directory, and a typing error would pass."""
    if mount.type not in ("bind", "overlay"):
        return mount
    try:
        found = os.stat(mount.source)
    except OSError as error:
        if (
            error.errno == errno.EACCES
        ):  # closed to the caller, but maybe not to the container's root: the mount will tell
            return mount
        raise NotFoundError.from_os_error(f"use source of --{flag}", mount.source, error) from None
    if mount.type == "overlay" and not stat.S_ISDIR(found.st_mode):
        raise refuse(flag, value, f"{mount.source} is not a directory, and only a directory can have a layer above it")
    return mount


def _with_device(mount: Mount, value: str) -> Mount:
    """`mount`, once its source is known to be a device node or a directory of them."""
    try:
        mode = os.stat(mount.source).st_mode
    except OSError as error:
        raise NotFoundError.from_os_error("use device", mount.source, error) from None
    if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISDIR(mode)):
        raise refuse("device", value, f"{mount.source} is not a device", "use -v for files")
    return mount
