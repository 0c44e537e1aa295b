"""Bridge networks as a network driver: a place that the keeper has reserved, and the container plugged in there.

The reservation is made before there is anything of the container, by whoever has the network's documents and may make
the keeper (`engine.networks.reserve_places`), and given to the driver (`take`).
"""

from __future__ import annotations

from jubako.errors import JubakoError
from jubako.net.layout import refuse
from jubako.net.link import Connection, Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.bridge.client import Reservation
    from jubako.net.link import NetworkOptions, Where


class Bridge:
    """Places on bridge networks."""

    name = "bridge"
    ports: tuple[str, ...] = ("builtin",)

    def __init__(self, options: NetworkOptions) -> None:
        others = ("cidr", "rules", "program", "arguments", "host_loopback", "sandbox", "seccomp")
        refuse(self.name, options, others, self.ports)
        self._options = options
        self._reservation: Reservation | None = None

    def take(self, reservation: Reservation) -> None:
        """The places that it is to connect."""
        self._reservation = reservation

    def plan(self) -> Link:
        """What was reserved; before that only what is known of every place."""
        if self._reservation is None:
            return Link(self.name, device=self._options.device or "eth0")
        return self._reservation.link()

    def explain(self) -> tuple[str, ...]:
        network = self._options.bridge or "jubako"
        return (
            f"connect(RUN/bridge-*/keeper): reserve an address on {network}; the keeper is made if there is none",
            "sendmsg(SCM_RIGHTS): the keeper makes a pair of devices, one end in the container, one at the bridge",
        )

    def connect(self, where: Where) -> Connection:
        if self._reservation is None:
            raise JubakoError("connect to the bridge network", reason="nothing was reserved there")
        self._reservation.attach(where.network)
        return Connection(self._reservation.link(), keeper=self._reservation)
