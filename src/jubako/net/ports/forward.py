"""Which port driver: the module that has the one that was asked for."""

from __future__ import annotations

from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.link import Connection, PortForwarder, Where

PORT_DRIVERS = ("builtin", "slirp4netns", "implicit")


def open_forwarder(name: str, where: Where, connection: Connection) -> PortForwarder:
    """The forwarder `name` for a network that is connected; it forwards nothing yet."""
    if name == "builtin":
        from jubako.net.ports.builtin import open_builtin

        return open_builtin(where, connection.link)
    raise UsageError("use the port driver", name, reason="there is none of this name", hint=", ".join(PORT_DRIVERS))
