"""Control groups: which hierarchy there is and what of it the account may use (cgroups(7), systemd's delegation).

Containers run without a group; limits (--memory, --cpus, --pids-limit), pause and statistics need one that the
account may write.
"""

from __future__ import annotations

from jubako.doctor.finding import Finding, note, ok, warning
from jubako.doctor.remedies import around
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.doctor.host import Host

WANTED = ("cpu", "cpuset", "io", "memory", "pids")

DROP_IN = """\
[Service]
Delegate=cpu cpuset io memory pids
"""
"""For user@.service: systemd hands a user's manager only memory and pids by default."""


@record
class Groups:
    """What is mounted: `version` is "v2", "hybrid", "v1" or "none"; `mount`, `own` are the v2 mount and our group."""

    version: str
    mount: str = ""
    own: str = ""


def groups_of(host: Host) -> Groups:
    """What /proc/self/mountinfo and /proc/self/cgroup say."""
    v2 = [mount for mount in host.mounts() if mount.kind == "cgroup2"]
    v1 = [mount for mount in host.mounts() if mount.kind == "cgroup"]
    if not v2:
        return Groups("v1" if v1 else "none")
    own = ""
    for line in (host.read("/proc/self/cgroup") or "").splitlines():
        if line.startswith("0::"):
            own = line[3:]
    top = v2[0].root.rstrip("/")
    inside = own[len(top) :] if top and own.startswith(top) else own
    return Groups("hybrid" if v1 else "v2", v2[0].path, f"{v2[0].path}/{inside.strip('/')}".rstrip("/"))


def hierarchy(host: Host) -> Finding:
    """Which version of control groups is mounted?"""
    name = "control groups"
    groups = groups_of(host)
    old = " ".join(mount.path.rpartition("/")[2] for mount in host.mounts() if mount.kind == "cgroup")
    seen = [f"cgroup2 at {groups.mount}"] if groups.mount else []
    evidence = f"/proc/self/mountinfo: {'; '.join(seen + ([f'version 1: {old}'] if old else [])) or 'no cgroup mount'}"
    if groups.version == "v2":
        return ok(name, "version 2, the unified hierarchy", evidence)
    if groups.version == "none":
        return warning(
            name,
            "none mounted: no limits, no pause",
            evidence,
            remedy=f"{host.sudo}mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        )
    remedy = _unified(host)
    summary = {"hybrid": "hybrid: the controllers are version 1", "v1": "version 1"}[groups.version]
    return warning(name, f"{summary}; an ordinary account cannot set limits", evidence, remedy=remedy)


def _unified(host: Host) -> str:
    if around(host):
        return (
            "# On the machine around this container: boot with the unified hierarchy, see what its own\n"
            "# `jubako doctor cgroups` says there."
        )
    if host.exists("/etc/rc.conf") and host.which("rc-service"):
        return (
            f"{host.sudo}sed -i 's/^#*rc_cgroup_mode=.*/rc_cgroup_mode=\"unified\"/' /etc/rc.conf\n"
            f"{host.sudo}rc-update add cgroups && {host.sudo}reboot"
        )
    argument = "systemd.unified_cgroup_hierarchy=1"
    if host.which("grubby"):
        return f"{host.sudo}grubby --update-kernel=ALL --args={argument}\n{host.sudo}reboot"
    return (
        "# Boot with the unified hierarchy (where systemd mounts it):\n"
        f"{host.sudo}sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{argument} /' /etc/default/grub\n"
        f"{host.sudo}update-grub && {host.sudo}reboot"
    )


def delegation(host: Host) -> Finding:
    """Which controllers may the account use?"""
    name = "delegation"
    groups = groups_of(host)
    if not groups.mount:
        return note(name, "nothing to delegate without version 2")
    place = delegated_group(host)
    if groups.version == "hybrid":
        some = (host.read(f"{groups.mount}/cgroup.controllers") or "").strip()
        evidence = f"{groups.mount}/cgroup.controllers: {some or 'empty'}"
        return note(name, "version 2 is only a side hierarchy here: limits and pause are refused", evidence)
    if not place:
        unwritable = f"{groups.own}: not writable by uid {host.uid}"
        manager = f"{groups.mount}/user.slice/user-{host.uid}.slice/user@{host.uid}.service"
        if host.exists(manager):
            outside = f"{manager}: there, but this process is in another group"
            remedy = (
                "# Start jubako in a scope of the account's own manager, which is delegated:\n"
                f"systemd-run --user --scope -p Delegate=yes {_shell(host)}"
            )
            return warning(
                name,
                "this session is outside the account's own group: limits and pause are refused",
                unwritable,
                outside,
                remedy=remedy,
            )
        if host.exists("/run/systemd/system"):
            return warning(
                name, "no group is delegated: limits and pause are refused", unwritable, remedy=_delegate(host)
            )
        remedy = (
            "# Without systemd: hand a group to the account, and start jubako from a shell in it.\n"
            f"{host.sudo}mkdir -p {groups.mount}/{host.user or host.uid}\n"
            f"{host.sudo}chown -R {host.user or host.uid}: {groups.mount}/{host.user or host.uid}\n"
            f"echo $$ | {host.sudo}tee {groups.mount}/{host.user or host.uid}/cgroup.procs"
        )
        return warning(name, "no group is delegated: limits and pause are refused", unwritable, remedy=remedy)
    have = (host.read(f"{place}/cgroup.controllers") or "").split()
    missing = [controller for controller in WANTED if controller not in have]
    evidence = f"{place}/cgroup.controllers: {' '.join(have) or 'empty'}"
    if not missing:
        return ok(name, f"all that limits need: {' '.join(have)}", evidence)
    lost = f"not delegated: {' '.join(missing)}"
    if host.exists("/run/systemd/system"):
        return warning(name, f"{lost}; limits of these are refused", evidence, remedy=_delegate(host))
    return warning(
        name,
        f"{lost}; limits of these are refused",
        evidence,
        remedy=(
            "# Enable them in the group above, as its owner:\n"
            f"echo '{' '.join('+' + controller for controller in missing)}' "
            f"| {host.sudo}tee {place.rpartition('/')[0]}/cgroup.subtree_control"
        ),
    )


def delegated_group(host: Host) -> str:
    """The v2 group in which the account may make groups: the one we are in, or else the one of its systemd manager."""
    groups = groups_of(host)
    manager = f"{groups.mount}/user.slice/user-{host.uid}.slice/user@{host.uid}.service"
    candidates = [groups.own] if not host.uid else [groups.own, groups.own.rpartition("/")[0]]
    if groups.own.startswith(manager):
        candidates.append(manager)
    for group in candidates:
        if group and host.writable(group) and host.writable(f"{group}/cgroup.procs"):
            return group
    return ""


def _delegate(host: Host) -> str:
    sudo = host.sudo
    return (
        f"{sudo}mkdir -p /etc/systemd/system/user@.service.d\n"
        f"{sudo}tee /etc/systemd/system/user@.service.d/delegate.conf <<'EOF'\n{DROP_IN}EOF\n"
        f"{sudo}systemctl daemon-reload\n"
        "# then log in anew, or:\n"
        f"{sudo}systemctl restart user@{host.uid}.service"
    )


def _shell(host: Host) -> str:
    return host.environ.get("SHELL") or "/bin/sh"


def user_manager(host: Host) -> Finding:
    """Is the account's systemd manager there to be asked for groups?"""
    name = "systemd user manager"
    if not host.exists("/run/systemd/system"):
        return note(
            name, "this machine does not run systemd: groups are made directly", "/run/systemd/system: not there"
        )
    if host.uid == 0:
        return ok(name, "root asks the system's manager", "/run/systemd/system: there")
    directory = host.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{host.uid}"
    if host.exists(f"{directory}/bus") or host.exists(f"{directory}/systemd/private"):
        return ok(name, "runs", f"{directory}/bus: there")
    return warning(
        name,
        "not running for this account (su and cron start none)",
        f"{directory}/bus: not there",
        remedy=(
            f"{host.sudo}loginctl enable-linger {host.user or host.uid}\nexport XDG_RUNTIME_DIR=/run/user/{host.uid}"
        ),
    )


def kill_file(host: Host) -> Finding:
    """Is there cgroup.kill (Linux 5.14)? The root group has none, so a group below it is looked at."""
    name = "cgroup.kill"
    groups = groups_of(host)
    if not groups.mount:
        return note(name, "no version 2 hierarchy")
    places = [groups.own] + [f"{groups.mount}/{entry}" for entry in host.names(groups.mount)]
    below = [place for place in places if host.exists(f"{place}/cgroup.events")]
    for place in below:
        if host.exists(f"{place}/cgroup.kill"):
            return ok(name, "there", f"{place}/cgroup.kill: there")
    if not below:
        return note(name, "not known: no group below the root group to look at", f"{groups.mount}: no groups")
    return note(name, "not there: a group is frozen and killed one process at a time", f"{below[0]}: no cgroup.kill")


CHECKS = (hierarchy, delegation, user_manager, kill_file)
