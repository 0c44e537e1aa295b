"""resolv.conf and hosts for a network of one's own: resolv.conf(5), hosts(5).

The name servers are the network's, what the host says of search domains and options stays.
"""

from __future__ import annotations

import os

_KEPT = ("search", "domain", "options", "sortlist")


def resolv_conf(servers: tuple[str, ...], hosts: str = "/etc/resolv.conf") -> str:
    """A resolv.conf with the name servers `servers`, and all else as the file `hosts` has it."""
    lines = [f"nameserver {server}" for server in servers]
    for line in _read(hosts).splitlines():
        words = line.split()
        if words and words[0] in _KEPT:
            lines.append(line.rstrip())
    return "".join(line + "\n" for line in lines)


def hosts_file(name: str, hosts: str = "/etc/hosts") -> str:
    """The host's file; the host's own name leads to the loopback addresses, since its others are not in here."""
    text = _read(hosts)
    if text and not text.endswith("\n"):
        text += "\n"
    known: set[tuple[str, str]] = set()
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        known.update((words[0], word) for word in words[1:])
    for address in ("127.0.0.1", "::1"):
        if (address, name) not in known:
            text += f"{address} {name}\n"
    return text


def host_name() -> str:
    """This machine's name."""
    return os.uname().nodename


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
