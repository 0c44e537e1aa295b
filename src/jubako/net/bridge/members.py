"""The containers on the bridge networks, as the router knows them."""

from __future__ import annotations

import os

from jubako.errors import UsageError
from jubako.linux.rtlinks import hardware_text, parse_hardware, random_hardware
from jubako.net.bridge.network import load_network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.net.bridge.pool import Pool
    from jubako.net.bridge.switch import Bridge, Switch


class Port:
    """A container's place on one network: its device there, its addresses, and once it is plugged in our end of it."""

    def __init__(self, bridge: Bridge, device: str, hardware: bytes, aliases: list[str], metric: int) -> None:
        self.bridge = bridge
        self.device = device
        self.hardware = hardware
        self.aliases = aliases
        self.metric = metric
        self.addresses: list[tuple[str, Pool]] = []
        self.index = 0

    def with_prefixes(self) -> list[str]:
        """The addresses as a device gets them."""
        return [pool.with_prefix(address) for address, pool in self.addresses]

    def describe(self) -> dict[str, Any]:
        """What the container gets here."""
        network = self.bridge.network
        return {
            "network": network.name,
            "device": self.device,
            "addresses": self.with_prefixes(),
            "gateways": [] if network.internal else [subnet.gateway for subnet in network.subnets],
            "hardware": hardware_text(self.hardware),
            "aliases": self.aliases,
            "mtu": self.bridge.mtu,
        }


class Member:
    """One container. `connection` is its supervisor's, -1 when that has ended and `life`, a pidfd, counts instead;
    `namespace` is its network namespace, -1 before it was attached."""

    def __init__(self, identifier: str, name: str, connection: int) -> None:
        self.id = identifier
        self.name = name
        self.connection = connection
        self.life = -1
        self.namespace = -1
        self.ports: dict[str, Port] = {}

    def describe(self) -> dict[str, Any]:
        """Who it is and where."""
        return {"id": self.id, "name": self.name, "ports": [port.describe() for port in self.ports.values()]}

    def join(self, switch: Switch, wish: dict[str, Any]) -> str:
        """Take a place on a network, with the addresses that are wished for or the next ones; the network's name."""
        network = load_network(wish["network"])
        if network.name in self.ports:
            raise UsageError("connect", self._called(), reason=f"it is on the network {network.name} already")
        hardware = parse_hardware(wish["hardware"]) if wish.get("hardware") else random_hardware()
        device = wish.get("device") or self._free_device()
        if any(port.device == device for port in self.ports.values()):
            raise UsageError("connect", self._called(), reason=f"two of its devices cannot be {device}")
        bridge = switch.open(network)
        port = Port(bridge, device, hardware, list(wish.get("aliases", ())), 100 + len(self.ports))
        try:
            if any(other.hardware == hardware for other in bridge.ports.values()):
                raise UsageError("connect", self._called(), reason=f"another container has {hardware_text(hardware)}")
            self._take_addresses(port, list(wish.get("addresses", ())))
        except BaseException:
            port_back(port)
            switch.close_if_unused(bridge)
            raise
        bridge.ports[self.id] = port
        self.ports[network.name] = port
        names = [self.name, *port.aliases, self.id[:12]]
        switch.names.put(network.name, self.id, _distinct(names), [address for address, _ in port.addresses])
        return network.name

    def hold(self, switch: Switch, descriptors: list[int]) -> None:
        """Take the network namespace, and perhaps a pidfd, in place of those before. The list is emptied of them."""
        for port in self.ports.values():
            switch.unplug(port)
        self.close()
        self.namespace = descriptors.pop(0)
        if descriptors:
            self.life = descriptors.pop(0)

    def attach(self, switch: Switch) -> None:
        """Plug in what is not yet. Raises `JubakoError` or `OSError`, and then that is as it was."""
        switch.plug(self.namespace, [port for port in self.ports.values() if not port.index])

    def leave(self, switch: Switch, network: str) -> None:
        """Leave one network."""
        port = self.ports.pop(network)
        switch.unplug(port)
        switch.names.drop(network, self.id)
        port_back(port)
        port.bridge.ports.pop(self.id, None)
        switch.close_if_unused(port.bridge)

    def leave_all(self, switch: Switch) -> None:
        """Leave all networks, for good."""
        for network in list(self.ports):
            self.leave(switch, network)
        self.close()

    def close(self) -> None:
        """Let go of the descriptors."""
        for fd in (self.namespace, self.life):
            if fd >= 0:
                os.close(fd)
        self.namespace = self.life = -1

    def name_servers(self, switch: Switch) -> list[str]:
        """What its resolv.conf names: each network's own name server; where no network has one, those outside."""
        own = [subnet.gateway for port in self.ports.values() if port.bridge.network.dns
               for subnet in port.bridge.network.subnets[:1]]  # fmt: skip
        if own:
            return own
        chosen = [server for port in self.ports.values() for server in port.bridge.network.servers]
        return chosen or (switch.outer_servers if switch.leads_outside(self.ports) else [])

    def _take_addresses(self, port: Port, wanted: list[str]) -> None:
        pools = list(port.bridge.pools)
        for address in wanted:
            pool = next((one for one in pools if one.holds(address)), None)
            if pool is None:
                cidrs = " or ".join(one.subnet.cidr for one in pools)
                raise UsageError("take the address", address, reason=f"it is not in {cidrs or 'another subnet'}")
            pools.remove(pool)
            port.addresses.append((pool.claim(address), pool))
        port.addresses += [(pool.take(), pool) for pool in pools]

    def _called(self) -> str:
        return self.name or self.id[:12]

    def _free_device(self) -> str:
        taken = {port.device for port in self.ports.values()}
        return next(f"eth{number}" for number in range(len(taken) + 1) if f"eth{number}" not in taken)


def port_back(port: Port) -> None:
    """Give the port's addresses back."""
    for address, pool in port.addresses:
        pool.give_back(address)
    port.addresses = []


def _distinct(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name))
