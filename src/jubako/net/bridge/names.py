"""The name server as the router sees it: a child without rights that is told of networks and containers."""

from __future__ import annotations

import os
import socket

from jubako.linux import caps, prctl, scm
from jubako.linux.rlimit import get_rlimit, set_rlimit
from jubako.linux.title import set_title
from jubako.net.bridge import wire
from jubako.net.helper import start_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.net.helper import Helper

_NOBODY = 65534
_PORT = 53
_FILES = 4096
_MEMORY = 1 << 29
_BACKLOG = 64
_LONGEST_LABEL, _LONGEST_NAME = 63, 253


class NameServer:
    """The process and what it has been told, so that another one can be told the same."""

    def __init__(self, empty: str) -> None:
        self.empty = empty
        self.opened: dict[str, tuple[dict[str, Any], list[socket.socket]]] = {}
        self.members: dict[tuple[str, str], dict[str, Any]] = {}
        self.uplink: dict[str, Any] = {}
        self.helper, self.control = self._start()

    def open(
        self, network: str, subnets: list[str], addresses: list[str], device: str, *, outside: bool, servers: list[str]
    ) -> None:
        """Serve a network at its bridge's addresses."""
        document = {"what": "open", "network": network, "subnets": subnets, "outside": outside, "servers": servers}
        sockets: list[socket.socket] = []
        try:
            for address in addresses:
                sockets += [_bound(address, device, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
        except OSError:
            for each in sockets:
                each.close()
            raise
        self.opened[network] = document, sockets
        self._tell(document, tuple(each.fileno() for each in sockets))

    def close(self, network: str) -> None:
        """Serve it no longer."""
        if network in self.opened:
            _, sockets = self.opened.pop(network)
            for each in sockets:
                each.close()
            self._tell({"what": "close", "network": network})

    def put(self, network: str, identifier: str, names: list[str], addresses: list[str]) -> None:
        """A container has these names and addresses on the network; what cannot be a name there is left out."""
        known = [name for name in names if is_host_name(name)]
        document = {"what": "member", "network": network, "id": identifier, "names": known, "addresses": addresses}
        self.members[network, identifier] = document
        if network in self.opened:
            self._tell(document)

    def drop(self, network: str, identifier: str) -> None:
        """It has gone."""
        self.members.pop((network, identifier), None)
        if network in self.opened:
            self._tell({"what": "gone", "network": network, "id": identifier})

    def set_uplink(self, servers: list[str], host: list[str]) -> None:
        """Who answers outside, and at which addresses the host is reached."""
        self.uplink = {"what": "uplink", "servers": servers, "host": host}
        self._tell(self.uplink)

    def revive(self) -> str:
        """Start it anew after its end; how that came, and what the old one had to say."""
        end = os.waitid(os.P_PID, self.helper.pid, os.WEXITED | os.WNOWAIT)
        way = "with code" if end is None or end.si_code == os.CLD_EXITED else "by signal"
        words = f"{way} {end.si_status if end else 0} {self.helper.read().decode(errors='replace')}".strip()
        self.helper.end()
        self.control.close()
        self.helper, self.control = self._start()
        if self.uplink:
            self._tell(self.uplink)
        for document, sockets in self.opened.values():
            self._tell(document, tuple(each.fileno() for each in sockets))
        for (network, _), document in self.members.items():
            if network in self.opened:
                self._tell(document)
        return words

    def _start(self) -> tuple[Helper, scm.Socket]:
        # What it needs is loaded before it gives up its rights and all files.
        from jubako.net.bridge import dns_server
        from jubako.net.bridge.keeper import ignore_signals

        ours, theirs = scm.pair()

        def work() -> int:
            ignore_signals()
            set_title("jubako: name server of bridge networks")
            _harden(self.empty)
            dns_server.serve(theirs, lambda text: print(text, flush=True))
            return 0

        helper = start_function("the name server", work, keep=(theirs.fileno(),))
        theirs.close()
        ours.settimeout(5.0)  # it is killed rather than waited for
        return helper, ours

    def _tell(self, document: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        try:
            wire.send(self.control, document, descriptors)
        except TimeoutError:
            os.kill(self.helper.pid, 9)
        except OSError:  # its end is heard by the router, which starts another and tells it all
            pass


def is_host_name(name: str) -> bool:
    """Whether the domain name system can carry it: labels of at most 63 bytes."""
    labels = name.split(".")
    return (
        name.isascii() and 0 < len(name) <= _LONGEST_NAME and all(0 < len(label) <= _LONGEST_LABEL for label in labels)
    )


def _bound(address: str, device: str, kind: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
        made.bind((address, _PORT))
        if kind == socket.SOCK_STREAM:
            made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _harden(empty: str) -> None:
    """No files, no rights, and where the user has subordinate ids, no identity of the user's either."""
    for name, most in (("RLIMIT_NOFILE", _FILES), ("RLIMIT_AS", _MEMORY)):
        _, hard = get_rlimit(name)
        limit = min(most, hard) if hard >= 0 else most
        set_rlimit(name, limit, limit)
    caps.limit_bounding(0)
    os.chroot(empty)
    os.chdir("/")
    try:
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError:  # it is not mapped: a base of one id
        pass
    caps.capset(0, 0, 0)
    prctl.set_no_new_privs()
    prctl.set_dumpable(False)
