"""A published port, as every part of the code knows it."""

from __future__ import annotations

from jubako.record import record


@record
class PortSpec:
    """One port of the host that leads to one inside.

    `protocol` is tcp, udp or one of them with 4 or 6 behind it (that family only). `host_address` and `address` are
    numeric, without brackets; empty means all addresses of the host, and the one that the link has inside.
    """

    host_address: str
    host_port: int
    address: str
    port: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        host = f"[{self.host_address}]" if ":" in self.host_address else self.host_address or "0.0.0.0"
        return f"{host}:{self.host_port}->{self.port}/{self.protocol}"
