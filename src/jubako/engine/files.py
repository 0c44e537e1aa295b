"""The files that every container gets from its runtime: /etc/hosts, /etc/hostname, /etc/resolv.conf.

They are made anew at each start, in the container's run directory, and bound over the root's own: hosts(5),
hostname(5), resolv.conf(5). Where the root is read-only and has no such file, there is nothing to bind over: left out.
"""

from __future__ import annotations

import os

from jubako.engine.extras import HostsFiles
from jubako.spec.types import Mount, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.link import Link

_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def write_files(
    directory: str, spec: Spec, hosts: HostsFiles, link: Link | None = None, peer: str = ""
) -> tuple[Mount, ...]:
    """Write them into `directory`; the mounts that show them in the container, after all others. `link` is what its
    network will give, `peer` the run directory of the container whose network it shares."""
    planned = plan_files(directory, spec, hosts, link, peer)
    for mount, text in planned:
        fd = os.open(mount.source, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        os.write(fd, text.encode("utf-8", "surrogateescape"))
        os.close(fd)
    return tuple(mount for mount, _text in planned)


def plan_files(
    directory: str, spec: Spec, hosts: HostsFiles, link: Link | None = None, peer: str = ""
) -> tuple[tuple[Mount, str], ...]:
    """The mounts, each with the text of the file it shows; nothing is written."""
    taken = {mount.destination for mount in spec.mounts}
    own = not peer and any(namespace.type == "network" and not namespace.path for namespace in spec.linux.namespaces)
    files: list[tuple[str, str]] = []
    if not hosts.keep_hosts:
        files.append(("/etc/hosts", _hosts(spec.hostname, hosts, own, link, peer)))
    if spec.hostname:
        files.append(("/etc/hostname", spec.hostname + "\n"))
    if not hosts.keep_resolv_conf:
        files.append(("/etc/resolv.conf", _resolv_conf(hosts, own, link, peer)))
    options = ("bind", "nofail", "nosuid", "nodev", "noexec")
    return tuple(
        (Mount(target, "bind", f"{directory}/{os.path.basename(target)}", options), text)
        for target, text in files
        if target not in taken and "/etc" not in taken
    )


def _hosts(name: str, hosts: HostsFiles, own_network: bool, link: Link | None, peer: str) -> str:
    added = hosts.added
    if any(address == "host-gateway" for address, _names in added):
        added = _with_host_gateway(added, own_network, link)
    if link is not None:
        from jubako.net import resolv

        return resolv.hosts(link, _read("/etc/hosts"), name=name, added=added, host_address=link.host)
    text = _HOSTS if own_network else _read(f"{peer or '/etc'}/hosts") or _HOSTS
    if name and own_network:
        text += f"127.0.1.1\t{name}\n"
    return text + "".join(f"{address}\t{' '.join(names)}\n" for address, names in added)


def _with_host_gateway(
    added: tuple[tuple[str, tuple[str, ...]], ...], own_network: bool, link: Link | None
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """`added` with the host's address in the place of `host-gateway`; its devices are asked for it only here."""
    from jubako.net import resolv
    from jubako.net.link import Link

    known = link if link is not None else Link("none" if own_network else "host", shared=not own_network)
    own = resolv.own_addresses() if known.addresses or known.shared else ()
    gateway = resolv.host_address_for(known, own) or (next(iter(own), "") if known.shared else "")
    return resolv.with_host_gateway(added, gateway)


def _resolv_conf(hosts: HostsFiles, own_network: bool, link: Link | None, peer: str) -> str:
    if link is not None:
        from jubako.net.resolv import resolv_conf

        host = _read("/etc/resolv.conf")
        return resolv_conf(link, host, dns=hosts.dns, search=hosts.search, options=hosts.options)
    lines = [f"nameserver {address}" for address in hosts.dns]
    if hosts.search and hosts.search != (".",):
        lines.append("search " + " ".join(hosts.search))
    if hosts.options:
        lines.append("options " + " ".join(hosts.options))
    if lines or own_network:
        return "".join(line + "\n" for line in lines)
    return _read(f"{peer or '/etc'}/resolv.conf")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
