"""The step that connects a container's network namespace with the outside."""

from __future__ import annotations

from jubako.linux.clone import open_namespace
from jubako.net.attendant import LOG, Attendant
from jubako.net.link import Where
from jubako.plan.step import SUPERVISOR, Slots, Step, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.net.link import Driver, Link
    from jubako.net.ports.spec import PortSpec


@step(actor=SUPERVISOR)
class ConnectNetwork(Step):
    """A new network namespace leads nowhere: a helper outside of it carries its packets, as an ordinary program."""

    driver: Driver
    directory: str
    """A private one, for sockets."""
    ports: tuple[PortSpec, ...] = ()
    port_driver: str = ""
    log: str = ""
    """The directory of the log; empty for none."""
    learned: Callable[[Link], None] | None = None
    """Told of a link that turned out to be another than the planned one: its addresses came from a server."""

    needs = ("init_pid",)
    produces = ("network",)

    def apply(self, slots: Slots) -> None:
        namespace = open_namespace(slots["init_pid"], "network")
        log = f"{self.log}/{LOG}" if self.log else ""
        where = Where(namespace, self.directory, outside=slots.values.get("outside", -1))
        planned = self.driver.plan()
        made = Attendant(self.driver, where, self.ports, self.port_driver, log)
        slots["network"] = made
        if self.learned is not None and made.connection.link != planned:
            self.learned(made.connection.link)

    def call(self) -> str:
        lines = [*self.driver.explain(), *(f"forward {port}" for port in self.ports)]
        return "; ".join(('open("/proc/PID/ns/net", O_RDONLY|O_CLOEXEC)', *lines))

    def operation(self) -> str:
        return "connect the network"

    def subject(self) -> str:
        return self.driver.name
