"""The facts of the host that planners need, as data: gathered once by the runtime, made by hand in tests."""

from __future__ import annotations

from jubako.record import record


@record
class HostTree:
    """The host's own system as an image: what is bound read-only, which links are repeated, what is fresh."""

    binds: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    fresh: tuple[tuple[str, int], ...] = ()
    hidden: tuple[str, ...] = ()
    """Directories below a bound one that belong to the caller (a home below /opt): covered."""


@record
class Host:
    """What the planner may know about where the plan will run.

    `stage` is an empty directory that the container's root can be put together on; `privileged` is true for the host's
    real root. `setgroups_denied` holds in a base with a single id.
    """

    stage: str
    foreign_proc: str = ""
    """Another empty directory, for the /proc of a PID namespace that is joined; empty where the container's own process
    may mount it."""
    privileged: bool = False
    setgroups_denied: bool = False
    cgroup2: bool = True
    last_cap: int = 40
    devices: tuple[tuple[str, int, int], ...] = ()
    """The host's standard device nodes that exist: path, major, minor."""
    tree: HostTree = HostTree()
    interpreter_writable: bool = False
    """Whether the container's root could write the file that runs jubako: then nothing is executed by path."""
    base_uid_map: str = ""
    base_gid_map: str = ""


@record
class RootSource:
    """Where the container's root file system comes from.

    `kind` is "directory" (written to directly), "overlay" (lower directories, topmost first, under `upper`), "tree" (an
    id-mapped mount waiting in the slot "rootfs"), "host", or "prepared" (already mounted at `path` by the
    supervisor: fuse-overlayfs).
    """

    kind: str
    path: str = ""
    lower: tuple[str, ...] = ()
    upper: str = ""
    work: str = ""
    volatile: bool = False
    foreign_lower: bool = False
    """The lower directory belongs to the host's users, not to the base's: the host's root id-maps it."""
    pivot: bool = True


STANDARD_DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
"""OCI runtime-spec 1.2, config-linux, "Default Devices"; console and ptmx belong to the container's own devpts."""

LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)
"""The links that every /dev has."""
