"""Device nodes: those that every container shows, and the two that networks and layers may need."""

from __future__ import annotations

import os
import stat

from jubako.doctor.finding import NOTE, WARNING, Finding, ok, problem
from jubako.doctor.remedies import around

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.doctor.host import Host

STANDARD = {
    "/dev/null": (1, 3),
    "/dev/zero": (1, 5),
    "/dev/full": (1, 7),
    "/dev/random": (1, 8),
    "/dev/urandom": (1, 9),
    "/dev/tty": (5, 0),
}
"""OCI runtime-spec, config-linux, Default Devices; a container's /dev has these bound from the host."""


def standard_devices(host: Host) -> Finding:
    """Are the standard nodes the devices they should be, and usable by all?"""
    name = "standard devices"
    wrong: list[str] = []
    for path, number in STANDARD.items():
        found = host.stat(path)
        if found is None:
            wrong.append(f"{path}: not there")
        elif not stat.S_ISCHR(found.st_mode) or (os.major(found.st_rdev), os.minor(found.st_rdev)) != number:
            wrong.append(f"{path}: not the character device {number[0]}:{number[1]}")
        elif found.st_mode & 0o666 != 0o666:
            wrong.append(f"{path}: mode {found.st_mode & 0o7777:04o} instead of 0666")
    if not wrong:
        return ok(name, "are what they should be", f"stat: {' '.join(STANDARD)}")
    lines = []
    for line in wrong:
        path = line.partition(":")[0]
        major, minor = STANDARD[path]
        lines.append(f"{host.sudo}rm -f {path} && {host.sudo}mknod -m 0666 {path} c {major} {minor}")
    return problem(name, "a standard node is missing or wrong", *wrong, remedy="\n".join(lines))


def tun(host: Host) -> Finding:
    """May the account make a tap device? pasta and slirp4netns need it."""
    lost = "pasta and slirp4netns cannot make an interface"
    return _device(host, "/dev/net/tun", "tun", "10 200", NOTE, lost)


def fuse(host: Host) -> Finding:
    """May the account mount with FUSE? fuse-overlayfs needs it."""
    return _device(host, "/dev/fuse", "fuse", "10 229", WARNING, "fuse-overlayfs cannot be used, nor host:rw")


def _device(host: Host, path: str, module: str, numbers: str, status: str, lost: str) -> Finding:
    trial = host.attempt("open_device", host.path(path))
    found = host.stat(path)
    mode = f"mode {found.st_mode & 0o7777:04o}" if found else "not there"
    evidence = f"{path}: {mode}; opened for reading and writing: {trial}"
    if found and trial.ok:
        return ok(path, "can be opened", evidence)
    if found and found.st_mode & 0o666 != 0o666:
        remedy = (
            f"{host.sudo}chmod 0666 {path}\n# and for later boots:\n"
            f'echo \'KERNEL=="{module}", MODE="0666"\' | {host.sudo}tee /etc/udev/rules.d/50-jubako-{module}.rules'
        )
        return Finding(path, status, f"the account may not open it: {lost}", (evidence,), remedy)
    if around(host):
        remedy = f"# Start the container around jubako with the device:\ndocker run --device {path} IMAGE"
        return Finding(path, status, f"not usable in this container: {lost}", (evidence,), remedy)
    remedy = (
        f"{host.sudo}modprobe {module}\n# and for later boots:\n"
        f"echo {module} | {host.sudo}tee /etc/modules-load.d/jubako-{module}.conf\n"
        f"# where no udev makes the node:\n"
        f"# {host.sudo}mkdir -p {os.path.dirname(path)} && {host.sudo}mknod -m 0666 {path} c {numbers}"
    )
    return Finding(path, status, f"the kernel's {module} driver is not there: {lost}", (evidence,), remedy)


CHECKS = (standard_devices, tun, fuse)
