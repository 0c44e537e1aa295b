"""What a container gets that nobody asked for: the defaults of docker, podman and runc, where they agree.

Masked and read-only paths follow moby's `oci/defaults.go` and containers/common; the mounts are those of OCI's
"Default Filesystems" as `runc spec` writes them. No user namespace and no id maps stand here: the engine adds them.
"""

from __future__ import annotations

import os

from jubako.spec.types import Linux, Mount, Namespace, Process, Root, Spec

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHM_SIZE = 64 * 1024 * 1024

# What leaks facts of the host, or lets one side watch the other, through /proc and /sys.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)

# Knobs of the whole machine.
READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)

PROPAGATIONS = ("shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable")
HOST_NAME_MAX = 64  # __NEW_UTS_LEN, uname(2)
NAMESPACE_TYPES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")


def default(args: tuple[str, ...] = ("sh",), rootfs: str = "rootfs") -> Spec:
    """The document that `runc spec` would write: `args` in the bundle's `rootfs`, all of the usual namespaces."""
    return Spec(
        process=Process(cwd="/", env=(f"PATH={DEFAULT_PATH}",), args=args, no_new_privileges=True),
        root=Root(path=rootfs, readonly=False),
        hostname="jubako",
        mounts=default_mounts(),
        linux=Linux(
            namespaces=tuple(Namespace(kind) for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")),
            masked_paths=MASKED_PATHS,
            readonly_paths=READONLY_PATHS,
        ),
    )


def default_mounts(shm_size: int = DEFAULT_SHM_SIZE, tty_group: bool = False) -> tuple[Mount, ...]:
    """The mounts every container gets, in the order they are made.

    `tty_group` says that group 5 is mapped, so that devpts may hand its terminals to it; naming an unmapped group fails
    with EINVAL.
    """
    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")
    quiet = ("nosuid", "noexec", "nodev")
    return (
        Mount("/proc", "proc", "proc", quiet),
        Mount("/sys", "sysfs", "sysfs", (*quiet, "ro")),
        Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        Mount("/dev/pts", "devpts", "devpts", (*pts, "gid=5") if tty_group else pts),
        Mount("/dev/shm", "tmpfs", "shm", (*quiet, "mode=1777", f"size={shm_size}")),
        Mount("/dev/mqueue", "mqueue", "mqueue", quiet),
        Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*quiet, "relatime", "ro")),
    )


def thermal_paths(directory: str = "/sys/devices/system/cpu") -> tuple[str, ...]:
    """Each CPU's thermal_throttle directory, where the machine has them: a side channel that moby masks too."""
    if not os.path.exists(f"{directory}/cpu0/thermal_throttle"):
        return ()
    numbers = [int(name[3:]) for name in os.listdir(directory) if name.startswith("cpu") and name[3:].isdigit()]
    return tuple(f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in sorted(numbers))
