"""Around the process: its account, its runtime directory, what kind of machine this is, the clock."""

from __future__ import annotations

import os
import stat
import time

from jubako.doctor.finding import Finding, note, ok, problem, warning
from jubako.doctor.remedies import around, outer_container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.doctor.host import Host

_RELEASED = 1735689600  # 2025-01-01: no clock that is right shows less


def runtime_directory(host: Host) -> Finding:
    """Is there an XDG_RUNTIME_DIR of the account's own (XDG Base Directory Specification)? su and cron give none."""
    name = "runtime directory"
    if host.environ.get("JUBAKO_RUN"):
        return ok(name, host.runtime, "JUBAKO_RUN is set")
    if host.uid == 0:
        return ok(name, host.runtime, "root uses /run")
    directory = host.environ.get("XDG_RUNTIME_DIR", "")
    ready = f"/run/user/{host.uid}"
    remedy = f"export XDG_RUNTIME_DIR={ready}"
    if not host.exists(ready):
        owner = host.user or host.uid
        maker = f"loginctl enable-linger {owner}"
        if not host.exists("/run/systemd/system"):  # nobody makes it at a login; it is gone at the next boot
            maker = f"install -d -m 0700 -o {owner} {ready}"
        remedy = f"{host.sudo}{maker}\n{remedy}"
    if not directory:
        return _temporary(host, name, "XDG_RUNTIME_DIR is not set", "XDG_RUNTIME_DIR: not set", remedy)
    found = host.stat(directory)
    if found is None:
        why = "XDG_RUNTIME_DIR names a directory that is not there"
        return _temporary(host, name, why, f"XDG_RUNTIME_DIR={directory}: not there", remedy)
    evidence = f"XDG_RUNTIME_DIR={directory}: owner {found.st_uid}, mode {found.st_mode & 0o7777:04o}"
    if found.st_uid != host.uid:
        why = f"XDG_RUNTIME_DIR belongs to uid {found.st_uid} (su and sudo keep the variable)"
        return _temporary(host, name, why, evidence, remedy if directory != ready else "unset XDG_RUNTIME_DIR")
    if found.st_mode & 0o077:
        return warning(name, "XDG_RUNTIME_DIR is open to others", evidence, remedy=f"chmod 0700 {directory}")
    return ok(name, directory, evidence)


def _temporary(host: Host, name: str, why: str, evidence: str, remedy: str) -> Finding:
    """What is used in its stead lies below /tmp, where anybody may have made it first."""
    place = f"/tmp/jubako-{host.uid}"
    found = host.stat(place)
    if found and (found.st_uid != host.uid or found.st_mode & 0o022 or not stat.S_ISDIR(found.st_mode)):
        return problem(
            name,
            f"{why}, and {place} is not a directory of the account alone",
            evidence,
            f"{place}: owner {found.st_uid}, mode {found.st_mode & 0o7777:04o}",
            remedy=f"{host.sudo}rm -rf {place}\n# or:\n{remedy}",
        )
    return warning(name, f"{why}: {place} is used, which cleaners of /tmp may remove", evidence, remedy=remedy)


def lingering(host: Host) -> Finding:
    """Do the account's containers outlive its last session (loginctl(1), enable-linger)?"""
    name = "lingering"
    if host.uid == 0 or not host.exists("/run/systemd/system"):
        return note(name, "does not matter here: no login session ends containers")
    place = f"/var/lib/systemd/linger/{host.user}"
    if host.exists(place):
        return ok(name, "containers may outlive the login session", f"{place}: there")
    return note(
        name,
        "off: systemd may end detached containers when the account logs out",
        f"{place}: not there",
        remedy=f"{host.sudo}loginctl enable-linger {host.user or host.uid}",
    )


def account(host: Host) -> Finding:
    """Has the account a name and a home? Subordinate ids go by name."""
    name = "account"
    evidence = f"uid {host.uid}, name {host.user or 'unknown'}, home {host.home}"
    if not host.user:
        return warning(
            name,
            f"uid {host.uid} has no name, so it has no subordinate ids by name",
            evidence,
            remedy=f"{host.sudo}useradd --uid {host.uid} NAME",
        )
    if host.nearest(host.home) == "":
        return warning(
            name,
            f"the file system of the home {host.home} does not answer",
            evidence,
            remedy=(
                "# Wait for its server, or give another place:\n"
                f"export HOME=/var/tmp JUBAKO_ROOT=/var/tmp/jubako-{host.uid}"
            ),
        )
    if host.nearest(host.home) != host.home:
        return warning(
            name,
            f"the home {host.home} is not there",
            evidence,
            remedy=f"{host.sudo}install -d -m 0700 -o {host.user} {host.home}",
        )
    return ok(name, f"{host.user} ({host.uid})", evidence)


def outer_environment(host: Host) -> Finding:
    """Is this machine itself a container, a chroot, or WSL?"""
    name = "machine"
    version = host.read("/proc/version") or ""
    if "Microsoft" in version and "WSL2" not in version and "microsoft-standard" not in version:
        return problem(
            name, "WSL 1 has no namespaces", version.strip(), remedy="# In Windows:\nwsl --set-version DISTRIBUTION 2"
        )
    if "gVisor" in version:
        return warning(name, "gVisor: not the Linux kernel; not everything will work", version.strip())
    engine = around(host)
    signs = [path for path in ("/.dockerenv", "/run/.containerenv") if host.exists(path)]
    if engine:
        evidence = [*signs, f"/proc/1/cgroup: {(host.read('/proc/1/cgroup') or 'unreadable').strip().splitlines()[-1]}"]
        working = host.attempt("user_namespace").ok and host.attempt("fresh_mount", "proc").ok
        text = "but containers can be made in it" if working else "which keeps containers from being made in it"
        return note(
            name,
            f"looks like a container ({engine}), {text}",
            *evidence,
            remedy="" if working else outer_container(host),
        )
    return ok(name, "not a container", "no sign of docker, podman, lxc, Kubernetes or WSL 1")


def distribution(host: Host) -> Finding:
    """Which distribution this is (os-release(5)); remedies name its package manager first."""
    for line in (host.read("/etc/os-release") or "").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return ok("distribution", value.strip("\"'"), "/etc/os-release")
    return note("distribution", "unknown", "/etc/os-release: no PRETTY_NAME")


def clock(host: Host) -> Finding:
    """Is the clock plausible? Registries' certificates are not valid yet on a machine that lives in 1970."""
    now = int(host.environ.get("SOURCE_DATE_EPOCH") or time.time()) if host.root != "/" else int(time.time())
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < _RELEASED:
        return warning(
            "clock",
            f"shows {shown}: certificates of registries will not be accepted",
            f"time: {shown}",
            remedy=f"{host.sudo}timedatectl set-ntp true\n# or by hand:\n{host.sudo}date -u -s 'YYYY-MM-DD hh:mm:ss'",
        )
    return ok("clock", shown, "plausible")


def hidden_processes(host: Host) -> Finding:
    """Is /proc mounted with hidepid (proc(5))? Then the ids of the account's own containers are hidden from it."""
    name = "hidepid"
    mount = next((m for m in host.mounts() if m.path == "/proc"), None)
    options = [*mount.super_options, *mount.options] if mount else []
    hidden = next((o for o in options if o.startswith("hidepid=")), "hidepid=0")
    if hidden in ("hidepid=0", "hidepid=off"):
        return ok(
            name, "off: processes of all accounts are visible", f"/proc: {','.join(options) or 'no options read'}"
        )
    return note(
        name,
        "on: jubako top shows no container processes that run under subordinate ids",
        f"/proc: {hidden}",
        remedy=(
            f"{host.sudo}mount -o remount,hidepid=0 /proc\n"
            "# or only for members of a group:\n"
            f"# {host.sudo}mount -o remount,hidepid=2,gid=GROUP /proc"
        ),
    )


def working_directory(host: Host) -> Finding:
    """Does the directory that the command was started in still exist?"""
    if host.root != "/":
        return ok("working directory", "there", "not looked at")
    try:
        return ok("working directory", os.getcwd(), "getcwd works")
    except OSError:
        return warning(
            "working directory", "was removed: relative paths of -v cannot be resolved", "getcwd: ENOENT", remedy="cd"
        )


CHECKS = (
    distribution,
    outer_environment,
    account,
    runtime_directory,
    lingering,
    hidden_processes,
    working_directory,
    clock,
)
