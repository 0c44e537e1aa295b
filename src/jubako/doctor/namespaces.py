"""User namespaces and all that is made below them: namespaces(7), user_namespaces(7).

The first check is the one that matters most, so when it fails it looks for the reason in the order of likelihood:
sysctls, AppArmor, a limit, a filter of a container around us, a chroot.
"""

from __future__ import annotations

import errno

from jubako.doctor.finding import Finding, note, ok, problem, warning
from jubako.doctor.remedies import apparmor, around, outer_container, set_sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.doctor.host import Host

NEEDED = ("mount", "pid", "ipc", "uts", "network", "cgroup")
"""What every default container has; "time" is only for those who ask for it."""

_FIRST = "# Help user namespaces first, see there."


def user_namespaces(host: Host) -> Finding:
    """May this account make a user namespace and be root in it?"""
    name = "user namespaces"
    trial = host.attempt("user_namespace")
    tried = f"tried a user namespace with a mount in it: {trial}"
    if trial.ok:
        return ok(name, "can be made, and hold real powers", tried)
    for setting, fixed in (("kernel.unprivileged_userns_clone", "1"), ("user.max_user_namespaces", "28633")):
        if host.sysctl(setting) == "0":
            return problem(
                name, f"switched off by {setting}", f"{setting} = 0", tried, remedy=set_sysctl(host, setting, fixed)
            )
    if host.sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1" and trial.errno in (
        errno.EPERM,
        errno.EACCES,
    ):
        return problem(
            name,
            "AppArmor lets only programs with a profile make them",
            "kernel.apparmor_restrict_unprivileged_userns = 1",
            f"profile of this process: {(host.read('/proc/self/attr/current') or 'none').strip()}",
            tried,
            remedy=apparmor(host),
        )
    return _other_reason(host, name, trial.errno, tried)


def _other_reason(host: Host, name: str, number: int, tried: str) -> Finding:
    if number in (errno.ENOSPC, errno.EUSERS):
        limit = host.sysctl("user.max_user_namespaces") or "?"
        return problem(
            name,
            "the limit on their number or depth is used up",
            f"user.max_user_namespaces = {limit}",
            tried,
            remedy=set_sysctl(host, "user.max_user_namespaces", "28633"),
        )
    if number == errno.EPERM and host.mounts() and not any(mount.path == "/" for mount in host.mounts()):
        return problem(
            name, "a process in a chroot may not make them", "no mount at / in /proc/self/mountinfo", tried,
            remedy=_LEAVE_CHROOT,
        )  # fmt: skip
    engine = around(host)
    filtered = host.status("Seccomp") == "2"
    if filtered or (engine and "unshare" not in tried):
        where = f"the container around us ({engine})" if engine else "the filter of whatever started this process"
        seccomp = f"/proc/self/status: Seccomp: {host.status('Seccomp')}"
        return problem(name, f"refused by {where}", seccomp, tried, remedy=outer_container(host))
    if number in (errno.EINVAL, errno.ENOSYS):
        return problem(
            name, "not in this kernel", tried, remedy="# Boot a kernel built with CONFIG_USER_NS=y (5.10 or later)"
        )
    return problem(
        name,
        "refused, though no setting forbids them: by a chroot around this process, or by a security module",
        "no sysctl, no seccomp filter and no AppArmor restriction was found",
        tried,
        remedy=f"{_LEAVE_CHROOT}\n# or look for the module that refused:\n{host.sudo}dmesg | grep -i denied | tail",
    )


_LEAVE_CHROOT = (
    "# user_namespaces(7): EPERM for a caller in a chroot. Enter the directory with pivot_root instead:\n"
    "jubako run --rootfs DIR"
)


def nested_user_namespaces(host: Host) -> Finding:
    """May a user namespace be made below another one? Each container has its own, below the user's base namespace."""
    name = "nested user namespaces"
    trial = host.attempt("nested_user_namespace")
    tried = f"tried a user namespace in a user namespace: {trial}"
    if trial.ok:
        return ok(name, "can be made", tried)
    if not host.attempt("user_namespace").ok:
        return problem(name, "cannot be made, as the first one cannot", tried, remedy=_FIRST)
    if trial.errno in (errno.ENOSPC, errno.EUSERS):
        return problem(
            name,
            "the limit on their number or depth is used up (the kernel allows 32 levels)",
            tried,
            remedy=set_sysctl(host, "user.max_user_namespaces", "28633"),
        )
    return problem(name, "refused", tried, remedy=outer_container(host))


def namespace_kinds(host: Host) -> Finding:
    """Which of the other namespaces can be made below a user namespace?"""
    name = "namespaces"
    failed = {kind: trial for kind in NEEDED if not (trial := host.attempt("namespace", kind)).ok}
    if not failed:
        return ok(name, "all kinds a container needs can be made", f"tried: {', '.join(NEEDED)}")
    evidence = tuple(f"{kind}: {trial}" for kind, trial in failed.items())
    if not host.attempt("user_namespace").ok:
        return problem(name, "cannot be made without a user namespace", evidence[0], remedy=_FIRST)
    full = [kind for kind, trial in failed.items() if trial.errno == errno.ENOSPC]
    words = {"mount": "mnt", "network": "net"}
    remedy = "\n".join(set_sysctl(host, f"user.max_{words.get(kind, kind)}_namespaces", "28633") for kind in full)
    leave = " ".join(f"--{kind} host" for kind in failed if kind in ("network", "ipc", "uts", "pid"))
    summary = f"not available: {', '.join(failed)}"
    return problem(name, summary, *evidence, remedy=remedy or f"# Leave them out: jubako run {leave} …".rstrip())


def time_namespaces(host: Host) -> Finding:
    """Time namespaces (Linux 5.6) are made on request only."""
    name = "time namespaces"
    trial = host.attempt("namespace", "time")
    if trial.ok:
        return ok(name, "can be made (--time-offset)", "tried: works")
    return note(name, "not available: --time-offset is refused", f"tried: {trial}")


def new_proc(host: Host) -> Finding:
    """A container mounts a /proc of its own; the kernel refuses where the existing one is partly covered."""
    name = "a new /proc"
    trial = host.attempt("fresh_mount", "proc")
    tried = f"tried to mount proc in new user, pid and mount namespaces: {trial}"
    if trial.ok:
        return ok(name, "can be mounted in a container", tried)
    if not host.attempt("user_namespace").ok:
        return problem(name, "cannot be mounted without a user namespace", tried, remedy=_FIRST)
    covered = sorted({mount.path for mount in host.mounts() if mount.path.startswith("/proc/")})
    if covered:
        return problem(
            name,
            "refused, since parts of the existing /proc are covered (as in a docker container)",
            f"mounts over it: {', '.join(covered[:8])}",
            tried,
            remedy=outer_container(host),
        )
    return problem(name, "refused", tried, remedy=outer_container(host))


def other_mounts(host: Host) -> Finding:
    """The other file systems of a container: /sys, /dev/pts, /dev/mqueue, and the control groups."""
    name = "container file systems"
    kinds = ("sysfs", "devpts", "mqueue", "cgroup2")
    failed = {kind: trial for kind in kinds if not (trial := host.attempt("fresh_mount", kind)).ok}
    if not failed:
        return ok(name, "sysfs, devpts, mqueue and cgroup2 can be mounted", "tried each in namespaces of its own")
    evidence = tuple(f"{kind}: {trial}" for kind, trial in failed.items())
    if not host.attempt("user_namespace").ok:
        return problem(name, "cannot be mounted without a user namespace", evidence[0], remedy=_FIRST)
    if "devpts" in failed:
        return problem(name, f"cannot be mounted: {', '.join(failed)}", *evidence, remedy=outer_container(host))
    return warning(
        name,
        f"cannot be mounted anew, the host's is shown instead: {', '.join(failed)}",
        *evidence,
        remedy=outer_container(host) if around(host) else "",
    )


CHECKS = (user_namespaces, nested_user_namespaces, namespace_kinds, new_proc, other_mounts, time_namespaces)
