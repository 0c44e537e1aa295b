"""Which port driver: the module that has the one that was asked for."""

from __future__ import annotations

from jubako.errors import JubakoError
from jubako.rootless.options import BUILTIN, SLIRP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.link import Connection, PortForwarder, Where


def open_forwarder(name: str, where: Where, connection: Connection, *, transparent: bool) -> PortForwarder:
    """The port driver `name` for the network that is connected."""
    raise JubakoError("forward ports", name, reason="there is no such port driver")
