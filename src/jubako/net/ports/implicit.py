"""pasta's own ports: it forwards what its command line says, or whatever is listened on inside (`auto`); pasta(1).

There is no way to tell a running pasta of another port. So the ports are known when it is started: its driver puts
`pasta_arguments` on the command line, and `open_implicit` then answers for them.
"""

from __future__ import annotations

from jubako.errors import JubakoError, UsageError
from jubako.net.ports.listening import check_free
from jubako.net.ports.spec import PortSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from jubako.net.helper import Helper
    from jubako.net.link import PortForwarder


def choose_ports(ports: Iterable[PortSpec]) -> tuple[PortSpec, ...]:
    """The same ports with a free number for each 0, after a look whether they can be had. Called where pasta will be.

    Raises `UsageError` for what pasta cannot do, `JubakoError` for a port that is in use or not allowed.
    """
    chosen = []
    for port in ports:
        if port.address:
            reason = "pasta forwards to the container's own address only"
            raise UsageError("publish", str(port), reason=reason, hint="choose the port driver builtin")
        if port.protocol[3:] and not port.host_address:
            host = "::" if port.protocol.endswith("6") else "0.0.0.0"
            port = PortSpec(host, port.host_port, "", port.port, port.protocol)
        chosen.append(PortSpec(port.host_address, check_free(port), "", port.port, port.protocol))
    return tuple(chosen)


def pasta_arguments(ports: Iterable[PortSpec], auto: bool = False) -> tuple[str, ...]:
    """The arguments that forward `ports`; with `auto` also whatever is listened on inside, under its own number.

    From the host to the container only: the other direction is none of the ports' business.
    """
    words: list[str] = []
    for option, kind in (("--tcp-ports", "tcp"), ("--udp-ports", "udp")):
        specs = [_spec(port) for port in ports if port.protocol.startswith(kind)]
        if auto and specs:
            reason = "pasta forwards either the ports that are named or all that are listened on"
            raise UsageError("publish", specs[0], reason=reason)
        for spec in specs or ["auto" if auto else "none"]:
            words += (option, spec)
    return tuple(words)


def open_implicit(ports: Iterable[PortSpec], auto: bool = False) -> PortForwarder:
    """The ports of a pasta that was started with `pasta_arguments(ports, auto)`."""
    return ImplicitForwarder(tuple(ports), auto)


class ImplicitForwarder:
    """Ports that pasta forwards from its start on."""

    helpers: tuple[Helper, ...] = ()
    descriptors: tuple[int, ...] = ()

    def __init__(self, ports: tuple[PortSpec, ...], auto: bool) -> None:
        self.ports = ports
        self.auto = auto

    def add(self, port: PortSpec) -> PortSpec:
        """A port that was known at the start, with its number. Raises `JubakoError` for any other."""
        for known in self.ports:
            same = (known.host_address, known.port, known.protocol) == (port.host_address, port.port, port.protocol)
            if same and port.host_port in (0, known.host_port) and not port.address:
                return known
        reason = "pasta learns its ports when it is started"
        if self.auto:
            reason = "pasta publishes whatever is listened on inside, by itself and under the same number"
        hint = "publish it from the start (-p), or choose the port driver builtin"
        raise JubakoError("publish", str(port), reason=reason, hint=hint)

    def remove(self, port: PortSpec) -> None:
        """Cannot be: raises `JubakoError`."""
        reason = "pasta keeps its ports until it ends"
        raise JubakoError("stop publishing", str(port), reason=reason, hint="choose the port driver builtin")

    def close(self) -> None:
        """Nothing to do: they end with pasta."""


def _spec(port: PortSpec) -> str:
    address = f"{port.host_address}/" if port.host_address else ""
    return f"{address}{port.host_port}:{port.port}"
