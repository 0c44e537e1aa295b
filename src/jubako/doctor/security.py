"""What keeps processes apart here: seccomp, AppArmor, SELinux, Yama, Landlock, and what the caller itself lost."""

from __future__ import annotations

import errno

from jubako.doctor.finding import Finding, note, ok, problem, warning
from jubako.doctor.remedies import APPARMOR_INTERPRETER, Packages, install

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.doctor.host import Host

LIBSECCOMP = Packages("libseccomp2", "libseccomp", "libseccomp", "libseccomp")
_LIBRARY = "libseccomp.so.2"


def no_new_privileges(host: Host) -> Finding:
    """Has the caller given up set-uid programs (PR_SET_NO_NEW_PRIVS)? Then newuidmap is powerless."""
    name = "no new privileges"
    value = host.status("NoNewPrivs")
    evidence = f"/proc/self/status: NoNewPrivs: {value}"
    if value != "1":
        return ok(name, "not set on the caller", evidence)
    if host.uid == 0:
        return note(name, "set on the caller, but root needs no set-uid program", evidence)
    return warning(
        name,
        "set on the caller: newuidmap has no power, so containers have a single id",
        evidence,
        remedy=(
            "# The bit cannot be taken back: start jubako from a process without it.\n"
            "# In a systemd unit:\n"
            f"{host.sudo}systemctl edit UNIT      # [Service] NoNewPrivileges=no\n"
            "# In a docker container: leave out --security-opt no-new-privileges\n"
            "# In Kubernetes: securityContext.allowPrivilegeEscalation: true"
        ),
    )


def seccomp(host: Host) -> Finding:
    """Can the kernel filter system calls (seccomp(2))?"""
    name = "seccomp"
    trial = host.attempt("system_call", "seccomp")
    evidence = f"tried seccomp(SECCOMP_GET_ACTION_AVAIL): {trial}"
    if trial.ok:
        return ok(name, "filters can be installed", evidence)
    return problem(
        name,
        "not in this kernel: only --security-opt seccomp=unconfined works",
        evidence,
        remedy=(
            "# Boot a kernel built with CONFIG_SECCOMP_FILTER=y; or, without the protection:\n"
            "jubako run --security-opt seccomp=unconfined …"
        ),
    )


def libseccomp(host: Host) -> Finding:
    """Is libseccomp there? The default profile ships compiled; only profiles of one's own need it."""
    name = "libseccomp"
    trial = host.attempt("libseccomp", _LIBRARY)
    if trial.ok:
        return ok(name, trial.detail or "there", f"{_LIBRARY}: loads")
    return warning(
        name,
        "missing: --security-opt seccomp=FILE cannot be compiled",
        f"{_LIBRARY}: {trial}",
        remedy=install(host, LIBSECCOMP),
    )


def inherited_filter(host: Host) -> Finding:
    """Does the caller run under somebody's seccomp filter? It holds for all its containers too."""
    name = "inherited filter"
    value = host.status("Seccomp")
    count = host.status("Seccomp_filters")
    evidence = f"/proc/self/status: Seccomp: {value}, Seccomp_filters: {count}"
    if value == "2":
        return note(name, "a seccomp filter of whatever started this process holds for containers too", evidence)
    return ok(name, "none", evidence)


def app_armor(host: Host) -> Finding:
    """Does AppArmor (on Ubuntu since 23.10) keep this interpreter from user namespaces?"""
    name = "AppArmor"
    if (host.read("/sys/module/apparmor/parameters/enabled") or "N").strip() != "Y":
        return ok(name, "not active", "/sys/module/apparmor/parameters/enabled: not Y")
    profile = (host.read("/proc/self/attr/current") or "").strip("\n\0 ") or "unknown"
    restricted = host.sysctl("kernel.apparmor_restrict_unprivileged_userns")
    evidence = (
        f"kernel.apparmor_restrict_unprivileged_userns = {restricted}",
        f"profile of this process: {profile}",
    )
    if restricted != "1" or host.uid == 0:
        return ok(name, "active, does not restrict user namespaces here", *evidence)
    if host.attempt("user_namespace").ok:
        return ok(name, f"active, and this process's profile allows user namespaces ({profile})", *evidence)
    return problem(
        name,
        f"keeps this interpreter from user namespaces: {APPARMOR_INTERPRETER} could have a profile of its own",
        *evidence,
        remedy=(
            "# As for user namespaces: a profile for jubako's own copy of the interpreter.\n"
            "jubako doctor 'user namespaces'"
        ),
    )


def selinux(host: Host) -> Finding:
    """Is SELinux enforcing? Then bind mounts want a label (-v …:z) that containers may read."""
    name = "SELinux"
    value = (host.read("/sys/fs/selinux/enforce") or "").strip()
    if value == "":
        return ok(name, "not active", "/sys/fs/selinux/enforce: not there")
    if value == "0":
        return ok(name, "permissive", "/sys/fs/selinux/enforce: 0")
    evidence = "/sys/fs/selinux/enforce: 1"
    if host.exists("/usr/share/selinux/packages/container.pp.bz2") or host.exists(
        "/etc/selinux/targeted/contexts/lxc_contexts"
    ):
        return note(name, "enforcing: give bind mounts a label with -v SRC:DST:z", evidence)
    return note(
        name,
        "enforcing, without the policy for containers",
        evidence,
        remedy=install(host, Packages(apt="", dnf="container-selinux")),
    )


def yama(host: Host) -> Finding:
    """Does Yama restrict ptrace (Documentation/admin-guide/LSM/Yama.rst)?"""
    name = "Yama"
    value = host.sysctl("kernel.yama.ptrace_scope")
    evidence = f"kernel.yama.ptrace_scope = {value}"
    if value in (None, "0", "1"):
        return ok(name, "debuggers work as usual", evidence)
    return note(
        name,
        "only the administrator may trace: debuggers and strace fail, in containers too",
        evidence,
        remedy=f"{host.sudo}sysctl -w kernel.yama.ptrace_scope=1" if value == "2" else "# 3 holds until the next boot",
    )


def landlock(host: Host) -> Finding:
    """Is Landlock there, and which version of its interface (landlock(7))?"""
    name = "Landlock"
    trial = host.attempt("system_call", "landlock_create_ruleset")
    if trial.ok and "version" in trial.detail:
        return ok(name, trial.detail.removeprefix("there ").strip("()"), f"tried landlock_create_ruleset: {trial}")
    if trial.ok:
        return note(
            name,
            "built in, but not switched on",
            "landlock_create_ruleset: EOPNOTSUPP",
            remedy="# Add landlock to the kernel's lsm= argument",
        )
    return note(name, "not there (Linux 5.13): sandboxes do without it", f"tried landlock_create_ruleset: {trial}")


def capabilities(host: Host) -> Finding:
    """Which capabilities may the caller still have? root in a container of somebody else's often lacks some."""
    name = "capabilities"
    effective = int(host.status("CapEff") or "0", 16)
    bounding = int(host.status("CapBnd") or "0", 16)
    evidence = f"/proc/self/status: CapEff {effective:#x}, CapBnd {bounding:#x}"
    if host.uid == 0 and not effective >> 21 & 1:
        return note(name, "root without CAP_SYS_ADMIN: treated like an ordinary account", evidence)
    if host.uid and bounding and (bounding >> 6 & 3) != 3:
        return warning(
            name,
            "the bounding set lacks CAP_SETUID or CAP_SETGID: newuidmap has no power, so containers have a single id",
            evidence,
            remedy="# In a docker container:\ndocker run --cap-add SETUID --cap-add SETGID IMAGE",
        )
    if host.uid == 0:
        return ok(name, "root", evidence)
    return ok(name, "an ordinary account" + (" with some capabilities" if effective else ""), evidence)


def session_keyrings(host: Host) -> Finding:
    """Is keyctl(2) allowed? Every container gets a session keyring of its own."""
    trial = host.attempt("system_call", "keyctl")
    if trial.ok:
        return ok("keyrings", "can be made", f"tried keyctl: {trial}")
    lost = "not in this kernel" if trial.errno == errno.ENOSYS else "forbidden here"
    return note("keyrings", f"{lost}: containers share the caller's session keyring", f"tried keyctl: {trial}")


CHECKS = (
    no_new_privileges,
    capabilities,
    seccomp,
    libseccomp,
    inherited_filter,
    app_armor,
    selinux,
    yama,
    landlock,
    session_keyrings,
)
