"""What opens each port driver in a world of `two_networks`; runs in its supervisor."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

from jubako.linux.pidfd import host_pid
from jubako.net.link import Link, Where
from jubako.net.ports.spec import PortSpec
from world import two_networks

if TYPE_CHECKING:
    from jubako.net.link import PortForwarder

_LINKS = {
    "veth": Link("test", "tap0", tuple(f"{address}/{64 if ':' in address else 24}" for address in two_networks.INSIDE)),
    "lo": Link("none"),
}


class Supervisor:
    """Holds one forwarder; each method is a request of the test's, and what it returns goes through JSON."""

    def __init__(self, namespace: int, network: str) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="jubako-ports-")
        self.where = Where(namespace, self.directory.name)
        self.network = network
        self.forwarder: PortForwarder | None = None

    def open(self, driver: str, options: dict[str, Any]) -> None:
        from jubako.net.ports.builtin import open_builtin

        assert driver == "builtin"
        self.forwarder = open_builtin(self.where, _LINKS[self.network], **options)

    def add(self, *port: Any) -> list[Any]:
        assert self.forwarder
        done = self.forwarder.add(PortSpec(*port))
        return [done.host_address, done.host_port, done.address, done.port, done.protocol]

    def remove(self, *port: Any) -> None:
        assert self.forwarder
        self.forwarder.remove(PortSpec(*port))

    def helpers(self) -> list[int]:
        assert self.forwarder
        return [0 if helper.is_over() else host_pid(helper.pidfd) for helper in self.forwarder.helpers]

    def words(self) -> str:
        assert self.forwarder
        return "".join(helper.read().decode(errors="replace") for helper in self.forwarder.helpers)

    def close(self) -> None:
        if self.forwarder:
            self.forwarder.close()
        self.forwarder = None
        self.directory.cleanup()
