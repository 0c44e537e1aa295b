"""Bridges and what is plugged into them: the keeper's network namespace, done with netlink messages and firewall rules.

A bridge is there as long as a container is on it. Before the first one is plugged in, the rules that keep the networks
apart are set, and the name server listens.
"""

from __future__ import annotations

import time

from jubako.errors import JubakoError, UsageError
from jubako.linux.rtlinks import Links, open_socket, random_hardware
from jubako.net.bridge.firewall import Firewall, Gate, Uplink
from jubako.net.bridge.pool import Pool
from jubako.net.enter import inside
from jubako.net.link import Where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from jubako.net.bridge.members import Member, Port
    from jubako.net.bridge.names import NameServer
    from jubako.net.bridge.network import Network
    from jubako.net.bridge.sysctl import Sysctl

LARGEST_MTU = 65520
_LOOPBACK = 1
_GONE_SECONDS = 2.0


class Bridge:
    """One network that is in use: its device, the addresses that are free, the ports by container."""

    def __init__(self, network: Network, device: str, mtu: int) -> None:
        self.network = network
        self.device = device
        self.mtu = mtu
        self.index = 0
        self.pools = [Pool(subnet) for subnet in network.subnets]
        self.ports: dict[str, Port] = {}

    def gate(self) -> Gate:
        """What the firewall is to know of it."""
        subnets = tuple((subnet.cidr, subnet.gateway) for subnet in self.network.subnets)
        return Gate(self.device, subnets, not self.network.internal)


class Switch:
    """All bridges."""

    def __init__(self, directory: str, sysctl: Sysctl, names: NameServer) -> None:
        self.directory = directory
        self.sysctl = sysctl
        self.names = names
        self.links = Links()
        self.firewall: Firewall | None = None
        self.bridges: dict[str, Bridge] = {}
        self.uplink: Uplink | None = None
        self.uplink_mtu = 0
        self.outer_servers: list[str] = []
        self.outer_host = ""
        self.counter = 0

    def open(self, network: Network) -> Bridge:
        """The network's bridge, made if nobody is on it yet."""
        bridge = self.bridges.get(network.name)
        if bridge is not None:
            if _essence(bridge.network) != _essence(network):
                raise UsageError(
                    "connect to the network",
                    network.name,
                    reason="it was removed and made anew while containers are on it",
                    hint="stop those first",
                )
            return bridge
        self.counter += 1
        mtu = network.mtu or (self.uplink_mtu if not network.internal else 0) or LARGEST_MTU
        bridge = Bridge(network, f"jb{self.counter}", mtu)
        try:
            self._make(bridge)
        except BaseException:
            self._unmake(bridge)
            raise
        return bridge

    def _make(self, bridge: Bridge) -> None:
        network = bridge.network
        if self.firewall is None:
            self.firewall = Firewall(self.directory)
        self.bridges[network.name] = bridge
        self._set_rules()
        bridge.index = self.links.add_bridge(bridge.device, random_hardware(), bridge.mtu)
        if not network.ipv6:
            self.sysctl.try_to_set(f"net/ipv6/conf/{bridge.device}/disable_ipv6", "1")
        for pool in bridge.pools:
            self.links.give_address(bridge.index, pool.with_prefix(pool.subnet.gateway))
        if network.dns:
            self.names.open(
                network.name,
                [subnet.cidr for subnet in network.subnets],
                [subnet.gateway for subnet in network.subnets],
                bridge.device,
                outside=not network.internal,
                servers=list(network.servers),
            )

    def close_if_unused(self, bridge: Bridge) -> None:
        """Take the bridge away if nobody is on it."""
        if not bridge.ports and self.bridges.get(bridge.network.name) is bridge:
            self._unmake(bridge)
            try:
                self._set_rules()
            except JubakoError:  # rules for a device that is no more do no harm
                pass

    def _unmake(self, bridge: Bridge) -> None:
        self.names.close(bridge.network.name)
        if bridge.index:
            self.links.remove(bridge.index)
        self.bridges.pop(bridge.network.name, None)

    def plug(self, namespace: int, ports: list[Port]) -> None:
        """Make the devices of the ports in a container's network namespace. On failure none of them is left."""
        if not ports:
            return

        def enter() -> tuple[bytes, tuple[int, ...]]:
            # No container's router advertisement may become another one's way out: CVE-2020-10749.
            self.sysctl.try_to_set("net/ipv6/conf/default/accept_ra", "0")
            return b"", (open_socket(),)

        _, (fd,) = inside(Where(namespace, self.directory), enter, "connect to the network")
        with Links(fd) as there:
            try:
                for port in ports:
                    self._plug(namespace, port, there)
                there.set_up(_LOOPBACK)
            except BaseException:
                for port in ports:
                    self.unplug(port)
                raise

    def _plug(self, namespace: int, port: Port, there: Links) -> None:
        bridge = port.bridge
        self.counter += 1
        name = f"jv{self.counter}"
        deadline = time.monotonic() + _GONE_SECONDS
        while there.has(port.device):  # perhaps one of a keeper that was killed, which the kernel takes away meanwhile
            if time.monotonic() > deadline:
                raise JubakoError("make the device", port.device, reason="the container has one of this name")
            time.sleep(0.01)
        port.index = self.links.add_pair(name, bridge.index, namespace, port.device, port.hardware, bridge.mtu)
        self.links.pin(port.index, port.hardware)
        self.sysctl.try_to_set(f"net/ipv6/conf/{name}/disable_ipv6", "1")
        index = there.find(port.device)
        for address in port.with_prefixes():
            there.give_address(index, address)
        there.set_up(index)
        if not bridge.network.internal:
            for subnet in bridge.network.subnets:
                there.route_default(index, subnet.gateway, port.metric)

    def unplug(self, port: Port) -> None:
        """Take the port's device away, at both ends."""
        if port.index:
            self.links.remove(port.index)
            port.index = 0

    def set_uplink(self, link: dict[str, Any]) -> None:
        """Where the way out leads. Its router's own address stands for the host, and is barred unless that was asked
        for."""
        self.outer_host = str(link["host"])
        self.uplink_mtu = int(link["mtu"])
        self.outer_servers = [str(server) for server in link["dns"]]
        barred = tuple(str(gateway) for gateway in link["gateways"] if not self.outer_host)
        uplink = Uplink(str(link["device"]), barred)
        if uplink != self.uplink:
            self.uplink = uplink
            if self.bridges:
                self._set_rules()
        self.names.set_uplink(self.outer_servers, [self.outer_host] if self.outer_host else [])

    def leads_outside(self, networks: Iterable[str]) -> bool:
        """Whether one of the networks has a way out."""
        return any(not self.bridges[name].network.internal for name in networks)

    def host(self, member: Member) -> str:
        """The address at which the member reaches the host; empty where it does not."""
        return self.outer_host if self.leads_outside(member.ports) else ""

    def _set_rules(self) -> None:
        if self.firewall is not None:
            self.firewall.apply((bridge.gate() for bridge in self.bridges.values()), self.uplink)


def _essence(network: Network) -> tuple[object, ...]:
    return network.id, network.subnets, network.internal, network.dns, network.options
