"""A container's request, kept between its making and each of its starts: `container.json`."""

from __future__ import annotations

from jubako.engine.extras import ContainerExtras, HostsFiles, Join, NetworkRequest, Restart, RootSource
from jubako.ids.modes import Userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def dump_extras(extras: ContainerExtras) -> dict[str, Any]:
    """`extras` as a JSON object."""
    return {name: _plain(value) for name, value in extras.__dict__.items() if name != "places"}


def load_extras(document: dict[str, Any]) -> ContainerExtras:
    """What `dump_extras` wrote."""
    values = {name: _tuples(value) for name, value in document.items()}
    return ContainerExtras(
        **{
            **values,
            "root": RootSource(**document["root"]),
            "userns": Userns(**{name: _tuples(value) for name, value in document["userns"].items()}),
            "joins": tuple(Join(**join) for join in document["joins"]),
            "hosts": HostsFiles(**{name: _tuples(value) for name, value in document["hosts"].items()}),
            "restart": Restart(**document["restart"]),
            "network": _load_network(document.get("network")),
        }
    )


def _load_network(document: dict[str, Any] | None) -> NetworkRequest | None:
    if document is None:
        return None
    from jubako.net.link import NetworkOptions
    from jubako.net.ports.spec import PortSpec

    options = NetworkOptions(**{name: _tuples(value) for name, value in document["options"].items()})
    ports = tuple(PortSpec(**port) for port in document["ports"])
    return NetworkRequest(options, ports)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(type(value), "FIELDS"):
        return {name: _plain(item) for name, item in value.__dict__.items()}
    return value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
