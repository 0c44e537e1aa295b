"""The published ports of a fake root: numbered, as they were asked for, and forwarded by a port driver.

The names of fields are those of RootlessKit's REST API, and so are the answers to what cannot be.
"""

from __future__ import annotations

from jubako.errors import JubakoError, UsageError
from jubako.net.ports.spec import PortSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.net.link import PortForwarder

PROTOCOLS = ("tcp", "tcp4", "tcp6", "udp", "udp4", "udp6")
_FIELDS = (("proto", str), ("parentIP", str), ("parentPort", int), ("childIP", str), ("childPort", int))
_PUBLISH = "publish a port"
MOST_PORTS = 8192


class Ports:
    """The table. `forwarder` is None where the port driver is none or has no orders to take."""

    def __init__(self, driver: str, protocols: tuple[str, ...], forwarder: PortForwarder | None) -> None:
        self.driver = driver
        self.protocols = protocols
        self.forwarder = forwarder
        self.entries: dict[int, tuple[dict[str, object], PortSpec]] = {}
        self.next_id = 1

    def add(self, port: PortSpec) -> dict[str, object]:
        """Forward the port; its entry. Raises `JubakoError`."""
        forwarder = self._forwarder()
        if port.protocol not in self.protocols:
            known = ", ".join(self.protocols)
            raise UsageError(_PUBLISH, str(port), reason=f"the port driver {self.driver} forwards {known} only")
        for number, (_spec, other) in self.entries.items():
            if _occupied(other) == _occupied(port):
                raise UsageError(_PUBLISH, str(port), reason=f"conflict with ID {number}")
        if len(self.entries) >= MOST_PORTS:
            raise UsageError(_PUBLISH, str(port), reason=f"{MOST_PORTS} ports are forwarded already")
        forwarder.add(port)
        number = self.next_id
        self.next_id += 1
        self.entries[number] = (written(port), port)
        return self._shown(number)

    def remove(self, number: int) -> None:
        """Forward it no longer. Raises `JubakoError`."""
        forwarder = self._forwarder()
        if number not in self.entries:
            raise UsageError("remove a port", str(number), reason="there is no such ID")
        forwarder.remove(self.entries[number][1])
        del self.entries[number]

    def list(self) -> list[dict[str, object]]:
        """All entries, in the order in which they came."""
        self._forwarder()
        return [self._shown(number) for number in self.entries]

    def _shown(self, number: int) -> dict[str, object]:
        return {"id": number, "spec": self.entries[number][0]}

    def _forwarder(self) -> PortForwarder:
        if self.forwarder is None:
            raise UsageError("forward ports", reason="no PortDriver is available")
        return self.forwarder


def read_spec(document: Any) -> PortSpec:
    """The port that a JSON document asks for. Raises `UsageError` with what is wrong."""
    if not isinstance(document, dict):
        raise _wrong("the document is no object")
    given = {str(name).lower(): value for name, value in document.items()}
    values: dict[str, Any] = {}
    for name, kind in _FIELDS:
        value = given.get(name.lower())
        if value is None:
            value = kind()
        if type(value) is not kind:
            raise _wrong(f"{name} is {'no string' if kind is str else 'no whole number'}")
        values[name] = value
    protocol = values["proto"]
    if protocol not in PROTOCOLS:
        raise _wrong(f"unknown proto: {protocol[:40]!r}")
    for name in ("parentPort", "childPort"):
        if not 0 < values[name] < 65536:
            raise _wrong(f"{name} is not between 1 and 65535")
    from jubako.net.ports.parse import check_address

    for name in ("parentIP", "childIP"):
        if values[name]:
            values[name] = check_address(values[name][:80], values[name][:80], protocol)
    return PortSpec(values["parentIP"], values["parentPort"], values["childIP"], values["childPort"], protocol)


def written(port: PortSpec) -> dict[str, object]:
    """The port as the API writes it: what is empty is left out."""
    found = {
        "proto": port.protocol, "parentIP": port.host_address, "parentPort": port.host_port, "childPort": port.port,
        "childIP": port.address,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}


def _occupied(port: PortSpec) -> tuple[object, ...]:
    return port.protocol, port.host_address, port.host_port


def _wrong(reason: str) -> JubakoError:
    return UsageError("read a port", reason=reason)
