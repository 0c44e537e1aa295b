"""What opens each port driver in a world of `two_networks`; runs in its supervisor."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

from jubako.errors import JubakoError
from jubako.linux import caps
from jubako.linux.clone import owner_namespace
from jubako.linux.pidfd import host_pid
from jubako.net.helper import Helper, await_ready, await_true, start_program
from jubako.net.link import Link, Where
from jubako.net.ports.spec import PortSpec
from jubako.net.programs import find_program
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
        self.program: Helper | None = None

    def open(self, driver: str, options: dict[str, Any]) -> None:
        getattr(self, f"_open_{driver}")(**options)

    def _open_builtin(self, through_its_owner: bool = False, **options: Any) -> None:
        from jubako.net.ports.builtin import open_builtin

        where = self.where
        if through_its_owner:
            where = Where(where.network, where.directory, owner_namespace(where.network))
        self.forwarder = open_builtin(where, _LINKS[self.network], **options)

    def _open_slirp4netns(self) -> None:
        from jubako.net.ports.slirp4netns import open_slirp4netns

        api, namespace = f"{self.directory.name}/api", self.where.network
        ready, tell = os.pipe()
        argv = (
            *(find_program("slirp4netns"), "--configure", "--mtu=65520", f"--api-socket={api}"),
            *(f"--ready-fd={tell}", "--netns-type=path", f"/proc/self/fd/{namespace}", "tap0"),
        )
        self.program = start_program(argv, keep=(namespace, tell))
        os.close(tell)
        await_ready(self.program, ready)
        os.close(ready)
        self.forwarder = open_slirp4netns(api, _LINKS["veth"])

    def _open_pasta(self, ports: list[list[Any]]) -> None:
        from jubako.net.ports.implicit import choose_ports, open_implicit, pasta_arguments

        chosen = choose_ports([PortSpec(*port) for port in ports])
        namespace = self.where.network
        argv = (
            *(find_program("pasta"), "--foreground", "--config-net", "--ns-ifname=tap0", "--quiet", "--no-map-gw"),
            *("--ipv4-only", "--address=10.0.2.100", "--netmask=24", "--gateway=10.0.2.2"),
            *("--tcp-ns=none", "--udp-ns=none"),
            *(*pasta_arguments(chosen), "--netns-only", "--netns", f"/proc/self/fd/{namespace}"),
        )
        self.program = start_program(argv, keep=(namespace,))
        for port in chosen:
            await_true(self.program, lambda port=port: not _is_free(port))  # type: ignore[misc]
        self.forwarder = open_implicit(chosen)

    def give_up_low_ports(self) -> None:
        """Be as an ordinary user is on a real host, for whom a user namespace's rights are none over the network."""
        rest = caps.capget().permitted & ~caps.mask(("CAP_NET_BIND_SERVICE",))
        caps.capset(rest, rest, 0)

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
        if self.program:
            self.program.end()
        self.forwarder = self.program = None
        self.directory.cleanup()


def _is_free(port: PortSpec) -> bool:
    from jubako.net.ports.listening import check_free

    try:
        check_free(port)
    except JubakoError:
        return False
    return True
