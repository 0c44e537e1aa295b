"""Which port driver: the module that has the one that was asked for."""

from __future__ import annotations

from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.link import Connection, PortForwarder, Where
    from jubako.net.ports.spec import PortSpec

PORT_DRIVERS = ("builtin", "slirp4netns", "implicit")


def open_forwarder(
    name: str, where: Where, connection: Connection, given: tuple[PortSpec, ...] = (), *, transparent: bool = True
) -> PortForwarder:
    """The forwarder `name` for a network that is connected; it forwards nothing yet. `given` are the ports that pasta
    was started with; `transparent` keeps the clients' addresses, where the driver can."""
    if name == "builtin":
        from jubako.net.ports.builtin import open_builtin

        return open_builtin(where, connection.link, transparent=transparent)
    if name == "slirp4netns":
        from jubako.net.ports.slirp4netns import open_slirp4netns

        return open_slirp4netns(connection.api, connection.link)
    if name == "implicit":
        from jubako.net.ports.implicit import open_implicit

        return open_implicit(given)
    raise UsageError("use the port driver", name, reason="there is none of this name", hint=", ".join(PORT_DRIVERS))
