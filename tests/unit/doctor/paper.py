"""A machine on paper: a small tree of files in which all is well, to be spoilt in one place; and its remedies."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from jubako.doctor import cgroups, devices, environment, ids, limits, namespaces, security, storage
from jubako.doctor.host import Host
from jubako.doctor.trial import Trial

UID, GID = 1000, 1000

MOUNTINFO = """\
20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
21 20 0:5 / /proc rw,relatime - proc proc rw
22 20 0:6 / /sys rw,relatime - sysfs sysfs rw
23 22 0:7 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw
"""

FILES = {
    "/etc/passwd": "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n",
    "/etc/group": "root:x:0:\nalice:x:1000:\n",
    "/etc/subuid": "alice:100000:65536\n",
    "/etc/subgid": "alice:100000:65536\n",
    "/etc/os-release": 'PRETTY_NAME="Paper Linux 1"\n',
    "/proc/self/mountinfo": MOUNTINFO,
    "/proc/self/status": "NoNewPrivs:\t0\nSeccomp:\t0\nCapEff:\t0\nCapBnd:\t1ff\n",
    "/proc/sys/user/max_user_namespaces": "60000\n",
}


def build(
    root: Path,
    files: Mapping[str, str | None] | None = None,
    attempts: Mapping[str, Trial] | None = None,
    environ: Mapping[str, str] | None = None,
    **fields: object,
) -> Host:
    """The machine below `root`, changed: a file of None is not there, "DIRECTORY" is one."""
    for path, text in {**FILES, **(files or {})}.items():
        place = root / path.lstrip("/")
        if text is None:
            place.unlink(missing_ok=True)
        elif text == "DIRECTORY":
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
    (root / "home/alice").mkdir(parents=True, exist_ok=True)
    given = {"PATH": "/usr/bin", "HOME": "/home/alice", **(environ or {})}
    options: dict[str, object] = {"uid": UID, "gid": GID, "release": "6.1.0", "machine": "x86_64", **fields}
    return Host(str(root), environ=given, attempts=attempts, **options)  # type: ignore[arg-type]


def put_program(root: Path, path: str, mode: int = 0o755) -> None:
    """A program of one line."""
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("#!/bin/sh\n")
    os.chmod(place, mode)


def remedies(top: Path) -> dict[str, str]:
    """The remedy for each sickness that the how-to page explains, each on a machine of its own below `top`."""
    refused = Trial(errno.EPERM, "unshare user: Operation not permitted (EPERM)")
    systemd = {"/run/systemd/system": "DIRECTORY"}
    service = "/user.slice/user-1000.slice/user@1000.service"

    def machine(name: str, *arguments: object, program: tuple[str, int] | None = None, **options: object) -> Host:
        root = top / name
        root.mkdir()
        if program:
            put_program(root, *program)
        put_program(root, "/usr/bin/apt-get")
        return build(root, *arguments, **options)  # type: ignore[arg-type]

    def own_group(name: str) -> Host:
        group = f"/sys/fs/cgroup{service}/app.scope"
        files = {
            "/proc/self/cgroup": f"0::{service}/app.scope\n",
            f"{group}/cgroup.controllers": "memory pids\n",
            f"{group}/cgroup.procs": "",
            **systemd,
        }
        host = machine(name, files)
        for path in (group, f"{group}/cgroup.procs"):
            os.chmod(host.path(path), 0o777)
        return host

    def sysctl(name: str, setting: str, value: str) -> Host:
        return machine(name, {f"/proc/sys/{setting.replace('.', '/')}": value})

    restricted = {
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n",
        "/proc/self/attr/current": "unconfined\n",
    }
    filtered = {"/.dockerenv": "", "/proc/self/status": "Seccomp:\t2\n"}
    home = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n25 20 0:9 / /home rw - nfs4 server:/home rw\n"
    manager = {
        "/proc/self/cgroup": "0::/user.slice/session-1.scope\n",
        f"/sys/fs/cgroup{service}/cgroup.controllers": "memory pids\n",
    }
    uid = {"user_namespace": refused}
    suid = ("/usr/bin/newuidmap", 0o4755)
    withheld = {"/proc/self/status": "CapBnd:\t00000000a80425fb\n"}
    inner = machine("inner", withheld, {"id_map": refused}, program=suid)
    put_program(top / "inner", "/usr/bin/newgidmap", 0o4755)
    found = {
        "sysctl": namespaces.user_namespaces(
            machine("sysctl", {"/proc/sys/kernel/unprivileged_userns_clone": "0\n"}, uid)
        ),
        "limit": namespaces.user_namespaces(machine("limit", {"/proc/sys/user/max_user_namespaces": "0\n"}, uid)),
        "apparmor": namespaces.user_namespaces(machine("apparmor", restricted, uid)),
        "docker": namespaces.user_namespaces(machine("docker", filtered, uid)),
        "inner": ids.whole_map(inner),
        "subids": ids.subordinate_uids(machine("subids", {"/etc/subuid": "", "/etc/subgid": ""})),
        "overlap": ids.overlapping_ranges(
            machine("overlap", {"/etc/subuid": "alice:100000:65536\nbob:150000:65536\n"})
        ),
        "newuidmap-missing": ids.newuidmap(machine("newuidmap-missing")),
        "newuidmap-powerless": ids.newuidmap(machine("newuidmap-powerless", program=("/usr/bin/newuidmap", 0o755))),
        "nosuid": ids.newuidmap(
            machine("nosuid", {"/proc/self/mountinfo": "20 1 8:1 / /usr rw,nosuid - ext4 /dev/sda1 rw\n"}, program=suid)
        ),
        "nnp": security.no_new_privileges(machine("nnp", {"/proc/self/status": "NoNewPrivs:\t1\n"})),
        "nfs": storage.store_file_system(machine("nfs", {"/proc/self/mountinfo": home})),
        "overlay": storage.overlay(machine("overlay", {"/proc/filesystems": "nodev\tproc\n"}, {"overlay": refused})),
        "runtime": environment.runtime_directory(machine("runtime")),
        "scope": cgroups.delegation(machine("scope", manager, environ={"SHELL": "/bin/bash"}, uid=1000)),
        "delegate": cgroups.delegation(own_group("delegate")),
        "hybrid": cgroups.hierarchy(
            machine("hybrid", {"/proc/self/mountinfo": MOUNTINFO + "30 20 0:9 / /sys/fs/c rw - cgroup cgroup rw\n"})
        ),
        "nosystemd": cgroups.delegation(machine("nosystemd", {"/proc/self/cgroup": "0::/\n"}, uid=4321, user="alice")),
        "fuse": devices.fuse(machine("fuse", None, {"open_device": Trial(errno.EACCES)}, program=("/dev/fuse", 0o600))),
        "tun": devices.tun(machine("tun", None, {"open_device": Trial(errno.ENOENT)})),
        "linger": environment.lingering(machine("linger", systemd)),
        "keys": limits.keyrings(sysctl("keys", "kernel.keys.maxkeys", "200\n")),
        "inotify": limits.inotify(sysctl("inotify", "fs.inotify.max_user_instances", "128\n")),
        "ports": limits.low_ports(sysctl("ports", "net.ipv4.ip_unprivileged_port_start", "1024\n")),
        "ping": limits.ping(sysctl("ping", "net.ipv4.ping_group_range", "1\t0\n")),
    }
    return {name: finding.remedy for name, finding in found.items()}
