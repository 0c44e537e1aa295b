"""Remedies that several checks share: settings that last, packages by distribution, flags for a container around us.

Every text is for a shell: comments explain, the other lines can be pasted as they are.
"""

from __future__ import annotations

from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.doctor.host import Host


@record
class Packages:
    """The package that has a program, by package manager; empty where that distribution has none."""

    apt: str = ""
    dnf: str = ""
    pacman: str = ""
    apk: str = ""


def same(name: str) -> Packages:
    """A package that all distributions call the same."""
    return Packages(name, name, name, name)


MANAGERS = (
    ("apt", "apt-get", "apt-get install -y {}"),
    ("dnf", "dnf", "dnf install -y {}"),
    ("pacman", "pacman", "pacman -S --needed {}"),
    ("apk", "apk", "apk add {}"),
)
"""(field of `Packages`, program, command)."""

APPARMOR_INTERPRETER = "/opt/jubako/bin/python3"

APPARMOR_PROFILE = """\
abi <abi/4.0>,
include <tunables/global>

profile jubako /opt/jubako/bin/python3* flags=(unconfined) {
  userns,
  include if exists <local/jubako>
}
"""
"""The right to make user namespaces for jubako's own copy of the interpreter, and for no other program."""


def install(host: Host, packages: Packages) -> str:
    """How to install: this machine's package manager first, the others as comments."""
    present, others = [], []
    for field, program, command in MANAGERS:
        name = getattr(packages, field)
        if not name:
            continue
        if host.which(program):
            present.append(host.sudo + command.format(name))
        else:
            others.append(f"# {field}: {command.format(name)}")
    return "\n".join([*present[:1], *(["# elsewhere:"] if present and others else []), *others])


def set_sysctl(host: Host, name: str, value: str) -> str:
    """Set a sysctl now and for every later boot."""
    return (
        f"{host.sudo}sysctl -w {name}='{value}'\n"
        f"echo '{name} = {value}' | {host.sudo}tee -a /etc/sysctl.d/50-jubako.conf"
    )


def apparmor(host: Host) -> str:
    """Ubuntu 23.10 and later: a profile for a copied interpreter; the system's python3 stays as confined as it is."""
    sudo = host.sudo
    return (
        "# Give the right to jubako's own copy of the interpreter only. A profile for /usr/bin/python3 would\n"
        "# hand it to every Python script on the machine.\n"
        f"{sudo}python3 -m venv --copies /opt/jubako\n"
        f"{sudo}/opt/jubako/bin/pip install jubako   # or the path of a clone or a wheel\n"
        f"{sudo}tee /etc/apparmor.d/jubako <<'EOF'\n{APPARMOR_PROFILE}EOF\n"
        f"{sudo}apparmor_parser -r /etc/apparmor.d/jubako\n"
        f"{sudo}ln -sf /opt/jubako/bin/jubako /usr/local/bin/jubako\n"
        "# Whoever may run that copy may make user namespaces with it: keep it owned by root, and to\n"
        "# narrow it to a group:\n"
        f"# {sudo}chgrp -R GROUP /opt/jubako/bin && {sudo}chmod -R o-rwx /opt/jubako/bin\n"
        "# Or lift the restriction for every program on the machine (less safe):\n"
        f"# {sudo}sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    )


def outer_container(host: Host) -> str:
    """What to tell the engine that runs the container we are in."""
    return (
        "# Start the container around jubako so that it may make containers of its own:\n"
        "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \\\n"
        "  --security-opt systempaths=unconfined --device /dev/fuse --device /dev/net/tun IMAGE\n"
        "# podman: podman run --security-opt seccomp=unconfined --security-opt unmask=ALL \\\n"
        "#   --security-opt label=disable --device /dev/fuse --device /dev/net/tun IMAGE\n"
        "# Kubernetes, in the container's securityContext: procMount: Unmasked,\n"
        "#   seccompProfile: {type: Unconfined}; and in the pod's spec: hostUsers: false"
    )


def around(host: Host) -> str:
    """The kind of container that this machine is, as far as it shows; empty when nothing speaks for one."""
    if host.exists("/run/.containerenv"):
        return "podman"
    named = host.environ.get("container", "")
    group = host.read("/proc/1/cgroup") or ""
    for word in ("docker", "kubepods", "containerd", "libpod", "lxc", "garden"):
        if f"/{word}" in group:
            return word
    if host.exists("/.dockerenv"):
        return "docker"
    return named
