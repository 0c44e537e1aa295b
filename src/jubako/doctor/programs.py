"""Programs that jubako uses where they are present, and the packages that have them."""

from __future__ import annotations

from jubako.doctor.finding import NOTE, Finding, ok
from jubako.doctor.remedies import Packages, install, same
from jubako.net.programs import OFF_PATH
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.doctor.host import Host

SHADOW = Packages("uidmap", "shadow-utils", "shadow", "shadow-uidmap")
"""newuidmap and newgidmap."""
GETSUBIDS = Packages("uidmap", "shadow-utils-subid", "shadow", "shadow-subids")
IPTABLES = Packages("iptables", "iptables-nft", "iptables", "iptables")
FUSE_OVERLAYFS = same("fuse-overlayfs")


@record
class Program:
    """One helper: what it is for, what is lost without it, and where it comes from.

    `others` do the same work: when one of them is there, a missing program is a note.
    """

    name: str
    purpose: str
    packages: Packages
    status: str = NOTE
    others: tuple[str, ...] = ()


PROGRAMS = (
    Program("pasta", "connects a network namespace to the outside without root", same("passt"), NOTE, ("slirp4netns",)),
    Program("slirp4netns", "the same, the older way", same("slirp4netns"), NOTE, ("pasta",)),
    Program("fuse-overlayfs", "layers without the kernel's overlay, and host:rw", FUSE_OVERLAYFS),
    Program("getsubids", "subordinate ids that come from a directory service", GETSUBIDS),
    Program("nft", "firewall rules of bridge networks", same("nftables"), NOTE, ("iptables",)),
    Program("iptables", "firewall rules of bridge networks, the older way", IPTABLES, NOTE, ("nft",)),
    Program("lxc-user-nic", "connects a network namespace to a bridge of the host", same("lxc")),
    Program("loginctl", "containers that outlive the login session", Packages("systemd", "systemd", "systemd")),
)
"""newuidmap and newgidmap have checks of their own (`jubako.doctor.ids`)."""


def find(host: Host, name: str) -> str | None:
    """The program's path, also where it lies off PATH."""
    for path in OFF_PATH.get(name, ()):
        if host.exists(path):
            return path
    return host.which(name)


def _check(program: Program) -> Callable[[Host], Finding]:
    def check(host: Host) -> Finding:
        path = find(host, program.name)
        if path:
            return ok(program.name, program.purpose, path)
        instead = next((other for other in program.others if find(host, other)), "")
        status = NOTE if instead else program.status
        summary = f"missing: {program.purpose}" + (f"; {instead} does it instead" if instead else "")
        looked = f"looked for it in PATH={host.environ.get('PATH', '')} and the system's directories"
        return Finding(program.name, status, summary, (looked,), install(host, program.packages))

    check.__name__ = program.name.replace("-", "_")
    check.__doc__ = f"Is {program.name} there? It is for: {program.purpose}."
    return check


CHECKS: tuple[Callable[[Host], Finding], ...] = tuple(_check(program) for program in PROGRAMS)
