"""Which port driver of a fake root: the module that has the one that was asked for."""

from __future__ import annotations

from jubako.rootless.options import SLIRP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.link import Connection, PortForwarder, Where


def open_forwarder(name: str, where: Where, connection: Connection, *, transparent: bool) -> PortForwarder:
    """The port driver `name` for the network that is connected; it forwards nothing yet."""
    if name == SLIRP:
        from jubako.net.ports.slirp4netns import open_slirp4netns

        return open_slirp4netns(connection.api, connection.link)
    from jubako.net.ports.builtin import open_builtin

    return open_builtin(where, connection.link, transparent=transparent)
