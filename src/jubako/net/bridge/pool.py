"""The addresses of one subnet: given out one after the other, and not again before all others have had their turn.

So whoever still knows a container by an address that has gone does not soon meet another one there.
"""

from __future__ import annotations

import ipaddress

from jubako.errors import JubakoError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.bridge.network import Subnet


class Pool:
    """Which addresses of a subnet are taken."""

    def __init__(self, subnet: Subnet) -> None:
        self.subnet = subnet
        self.network = ipaddress.ip_network(subnet.cidr)
        self.gateway = int(ipaddress.ip_address(subnet.gateway))
        self.low = int(self.network[0]) + 1
        self.high = int(self.network[-1]) - (1 if self.network.version == 4 else 0)
        self.first = max(int(ipaddress.ip_address(subnet.first)), self.low) if subnet.first else self.low
        self.last = min(int(ipaddress.ip_address(subnet.last)), self.high) if subnet.last else self.high
        self.next = self.first
        self.taken: set[int] = {self.gateway}

    def holds(self, address: str) -> bool:
        """Whether the address is one of this subnet."""
        return ipaddress.ip_address(address) in self.network

    def take(self) -> str:
        """The next free address. Raises `JubakoError` when there is none."""
        size = self.last - self.first + 1
        for _ in range(min(size, len(self.taken) + 1)):
            number = self.next
            self.next = self.first if number >= self.last else number + 1
            if number not in self.taken:
                self.taken.add(number)
                return self._text(number)
        raise JubakoError("take an address", f"of {self.subnet.cidr}", reason="all are taken")

    def claim(self, address: str) -> str:
        """This very address. Raises `UsageError` if nobody may have it, or somebody has."""
        number = int(ipaddress.ip_address(address))
        if not self.low <= number <= self.high or number == self.gateway:
            raise UsageError("take the address", address, reason=f"no container of {self.subnet.cidr} may have it")
        if number in self.taken:
            raise UsageError("take the address", address, reason="another container has it")
        self.taken.add(number)
        return self._text(number)

    def give_back(self, address: str) -> None:
        """It is free again."""
        number = int(ipaddress.ip_address(address))
        if number != self.gateway:
            self.taken.discard(number)

    def with_prefix(self, address: str) -> str:
        """`ADDRESS/PREFIX` as a device gets it."""
        return f"{address}/{self.network.prefixlen}"

    def _text(self, number: int) -> str:
        if self.network.version == 4:
            return str(ipaddress.IPv4Address(number))
        return str(ipaddress.IPv6Address(number))
