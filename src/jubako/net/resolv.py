"""Names in a container: resolv.conf(5) and hosts(5) as they follow from its link and from the host's own files.

Only the name servers change, since the host's may be out of reach from inside (a resolver on 127.0.0.53); `search` and
`options` mean the same there and stay. What is asked for explicitly replaces what the host says. Pure functions but
for `own_addresses`.
"""

from __future__ import annotations

import _socket

from jubako.errors import JubakoError
from jubako.linux import rtnetlink
from jubako.net.addresses import is_address, is_address6, is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.link import Link

HOST_GATEWAY = "host-gateway"
"""What `--add-host NAME:host-gateway` calls the host."""
HOST_NAMES = ("host.containers.internal", "host.docker.internal")
"""As which podman and docker know the host inside."""

_NO_SEARCH = "."
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_LOCALHOST = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_ELSEWHERE = (("192.0.2.1", _socket.AF_INET), ("2001:db8::1", _socket.AF_INET6))
"""Addresses of the documentation's (RFC 5737, RFC 3849): nothing is sent there, only the route is looked up."""


def resolv_conf(
    link: Link, host: str, *, dns: tuple[str, ...] = (), search: tuple[str, ...] = (), options: tuple[str, ...] = ()
) -> str:
    """The text of /etc/resolv.conf inside; `host` is that of the host's. `search` of `.` alone means none."""
    if link.shared and not (dns or search or options):
        return host
    theirs = _Read(host if link.dns or link.shared else "")
    servers = dns or link.dns or (theirs.servers if link.shared else ())
    domains = tuple(name for name in search if name != _NO_SEARCH) if search else theirs.search
    lines = [f"nameserver {address}" for address in servers]
    if domains:
        lines.append("search " + " ".join(domains))
    if options or theirs.options:
        lines.append("options " + " ".join(options or theirs.options))
    return "".join(line + "\n" for line in lines)


def hosts(
    link: Link,
    host: str,
    *,
    name: str = "",
    added: tuple[tuple[str, tuple[str, ...]], ...] = (),
    host_address: str = "",
) -> str:
    """The text of /etc/hosts inside: `host` is that of the host's, `name` the container's, `added` addresses with
    their names, where `host-gateway` stands for the host (see `host_address_for`). With `host_address` the host
    has its usual names."""
    text = (host or _LOCALHOST) if link.shared else _LOCALHOST
    if text and not text.endswith("\n"):
        text += "\n"
    if name and not link.shared:
        own = link.addresses[0].partition("/")[0] if link.addresses else "127.0.1.1"
        text += f"{own}\t{name}\n"
    given = {each for _address, names in added for each in names}
    usual = tuple(each for each in HOST_NAMES if each not in given)
    if host_address and usual and not link.shared:
        added = (*added, (host_address, usual))
    return text + "".join(f"{address}\t{' '.join(names)}\n" for address, names in added)


def with_host_gateway(
    added: tuple[tuple[str, tuple[str, ...]], ...], address: str
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """`added` with the host's address in the place of `host-gateway`. Raises `JubakoError` where `address` is empty."""
    for given, names in added:
        if given == HOST_GATEWAY and not address:
            raise JubakoError(
                "add the host",
                f"{names[0]}:{HOST_GATEWAY}",
                reason="this network does not lead to the host, or the host has only loopback addresses",
                hint="choose a network that leads there (pasta, slirp4netns, bridge, host), or name an address",
            )
    return tuple((address if given == HOST_GATEWAY else given, names) for given, names in added)


def host_address_for(link: Link, own: tuple[str, ...]) -> str:
    """At which address what is inside reaches the host; empty where it does not. `own` are the host's addresses."""
    if link.host:
        return link.host
    if not link.addresses:
        return ""
    six = any(":" in address for address in link.addresses)
    four = any(":" not in address for address in link.addresses)
    for address in own:
        usable = four if is_address(address) else six and is_address6(address)
        if usable and not is_loopback(address):
            return address
    return ""


def own_addresses() -> tuple[str, ...]:
    """The addresses from which this host would send to the world, IPv4 first, then all others of its devices."""
    found = []
    for address, family in _ELSEWHERE:
        socket = _socket.socket(family, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            socket.connect((address, 9))
            found.append(socket.getsockname()[0])
        except OSError:  # no route, or no such family
            pass
        finally:
            socket.close()
    for index, _name in _socket.if_nameindex():
        for given in rtnetlink.list_addresses(index):
            texts = [value for kind, value in given.attributes if kind == _IFA_ADDRESS]
            local = [value for kind, value in given.attributes if kind == _IFA_LOCAL]
            found += [_socket.inet_ntop(given.family, value) for value in (local or texts)]
    return tuple(dict.fromkeys(found))


class _Read:
    """What a resolv.conf says: the last `search` or `domain`, and all options, as resolv.conf(5) has it."""

    def __init__(self, text: str) -> None:
        self.servers: tuple[str, ...] = ()
        self.search: tuple[str, ...] = ()
        self.options: tuple[str, ...] = ()
        for line in text.splitlines():
            if line[:1] in "#;":
                continue
            key, *values = line.split() or [""]
            if key == "nameserver" and values:
                self.servers += (values[0],)
            elif key == "search" or (key == "domain" and values):
                self.search = tuple(values if key == "search" else values[:1])
            elif key == "options":
                self.options += tuple(values)
