"""Several ports at once: all of them or none."""

from __future__ import annotations

from jubako.errors import JubakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from jubako.net.link import PortForwarder
    from jubako.net.ports.spec import PortSpec


def publish(forwarder: PortForwarder, ports: Iterable[PortSpec]) -> tuple[PortSpec, ...]:
    """Forward all of `ports`; as they are published. Raises `JubakoError`, and then none of them is."""
    published: list[PortSpec] = []
    try:
        for port in ports:
            published.append(forwarder.add(port))
    except JubakoError:
        for port in published:
            try:
                forwarder.remove(port)
            except JubakoError:  # the forwarder itself has ended, and with it all of its ports
                pass
        raise
    return tuple(published)
