"""Numbers that run out: namespaces, keyrings, watches, descriptors; and ports that ordinary accounts may use."""

from __future__ import annotations

from jubako.doctor.finding import Finding, note, ok, problem, warning
from jubako.doctor.remedies import set_sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.doctor.host import Host

_KINDS = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time")
_MANY = 256
_KEYS_WANTED = 1000


def namespace_counts(host: Host) -> Finding:
    """How many namespaces may an account have (namespaces(7), /proc/sys/user)?"""
    name = "namespace limits"
    limits = {kind: host.number(f"user.max_{kind}_namespaces") for kind in _KINDS}
    low = {kind: limit for kind, limit in limits.items() if limit is not None and limit < _MANY}
    evidence = " ".join(f"{kind}={limit}" for kind, limit in limits.items() if limit is not None)
    if not low:
        return ok(name, "ample", f"user.max_*_namespaces: {evidence}")
    remedy = "\n".join(set_sysctl(host, f"user.max_{kind}_namespaces", "28633") for kind in low)
    none = [kind for kind, limit in low.items() if limit == 0 and kind != "time"]
    if none:
        return problem(
            name, f"none of these may be made: {', '.join(none)}", f"user.max_*_namespaces: {evidence}", remedy=remedy
        )
    few = ", ".join(f"{kind} {limit}" for kind, limit in low.items())
    return warning(name, f"only a few containers at a time: {few}", f"user.max_*_namespaces: {evidence}", remedy=remedy)


def keyrings(host: Host) -> Finding:
    """How many keys may an account have (keyrings(7))? Each container's session keyring is one."""
    name = "key quota"
    limit = host.number("kernel.keys.root_maxkeys" if host.uid == 0 else "kernel.keys.maxkeys")
    used = _keys_used(host)
    evidence = f"kernel.keys.maxkeys = {limit}, used {used}"
    if limit is None:
        return note(name, "not known", evidence)
    if used is not None and limit - used < 20:
        return warning(
            name, "nearly used up: no session keyring for new containers", evidence,
            remedy=set_sysctl(host, "kernel.keys.maxkeys", "2000"),
        )  # fmt: skip
    if limit < _KEYS_WANTED:
        return note(
            name, f"{limit} keys: enough for about {limit} containers at a time", evidence,
            remedy=set_sysctl(host, "kernel.keys.maxkeys", "2000"),
        )  # fmt: skip
    return ok(name, f"{limit} keys", evidence)


def _keys_used(host: Host) -> int | None:
    """What /proc/key-users says about the account: "1001:     3 2/2 2/200 40/20000"."""
    for line in (host.read("/proc/key-users") or "").splitlines():
        owner, _, rest = line.partition(":")
        fields = rest.split()
        if owner.strip() == str(host.uid) and len(fields) >= 3:
            return int(fields[2].split("/")[0])
    return None


def inotify(host: Host) -> Finding:
    """How many inotify instances may an account have (inotify(7))? A full distribution in a container wants dozens."""
    name = "inotify"
    limit = host.number("fs.inotify.max_user_instances")
    evidence = f"fs.inotify.max_user_instances = {limit}"
    if limit is None or limit >= 256:
        return ok(name, "ample" if limit else "not known", evidence)
    return note(
        name, f"{limit} instances: a few system containers use them up", evidence,
        remedy=set_sysctl(host, "fs.inotify.max_user_instances", "1024"),
    )  # fmt: skip


def open_files(host: Host) -> Finding:
    """How many descriptors may the caller open?"""
    import resource

    name = "open files"
    if host.root != "/":
        soft, hard = 1024, 4096
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    evidence = f"RLIMIT_NOFILE: soft {soft}, hard {hard}"
    if soft < 256 and soft != resource.RLIM_INFINITY:
        return warning(name, f"only {soft} descriptors", evidence, remedy=f"ulimit -n {min(hard, 4096)}")
    return ok(name, f"{soft}", evidence)


def low_ports(host: Host) -> Finding:
    """From which port on may an ordinary account listen (ip(7))?"""
    name = "unprivileged ports"
    start = host.number("net.ipv4.ip_unprivileged_port_start")
    evidence = f"net.ipv4.ip_unprivileged_port_start = {start}"
    if host.uid == 0 or (start is not None and start <= 80):
        return ok(name, "80 and 443 can be published", evidence)
    return note(
        name, f"ports below {start or 1024} cannot be published (-p 80:80)", evidence,
        remedy=set_sysctl(host, "net.ipv4.ip_unprivileged_port_start", "80"),
    )  # fmt: skip


def ping(host: Host) -> Finding:
    """May ordinary accounts ping (icmp(7), ping_group_range)?"""
    name = "ping"
    text = host.sysctl("net.ipv4.ping_group_range")
    evidence = f"net.ipv4.ping_group_range = {text}"
    try:
        low, high = (int(number) for number in (text or "").split())
    except ValueError:
        return note(name, "not known", evidence)
    if low <= host.gid <= high:
        return ok(name, "allowed for the account's group", evidence)
    return note(
        name, "ping to other machines fails in containers", evidence,
        remedy=set_sysctl(host, "net.ipv4.ping_group_range", "0 2147483647"),
    )  # fmt: skip


CHECKS = (namespace_counts, keyrings, inotify, open_files, low_ports, ping)
