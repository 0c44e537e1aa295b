"""A container's network: from `--network` and `-p` to the driver that connects it on this machine, at each start anew.

What is kept with a container is what was asked for (`NetworkRequest`); which driver that means, and the addresses that
it gives, may be different next time. Nothing here is imported for a container without a network.
"""

from __future__ import annotations

from jubako.engine.extras import ContainerExtras, NetworkRequest
from jubako.engine.parse.sizes import refuse
from jubako.errors import UsageError
from jubako.net.choose import DRIVERS, default_driver, find_driver
from jubako.net.link import Link, NetworkOptions
from jubako.net.parse import parse_network
from jubako.net.ports.parse import parse_publish
from jubako.net.ports.spec import PortSpec
from jubako.net.step import ConnectNetwork
from jubako.record import record, replace
from jubako.spec.types import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.engine.options import RunOptions
    from jubako.net.bridge.asked import Asked
    from jubako.net.link import Driver
    from jubako.net.outside import Outside

DEFAULT, BRIDGE = "default", "bridge"


@record
class Network:
    """A network that is ready to be connected: the driver, and what it will give."""

    driver: Driver
    link: Link
    ports: tuple[PortSpec, ...]
    port_driver: str
    learned: Callable[[Link], None] | None = None
    """Told of a link that is not as it was planned; in the supervisor, before the program starts."""

    def outside(self) -> Outside | None:
        """A process that stays in the host's user namespace, for a driver whose program is set-uid; None for others."""
        request = getattr(self.driver, "request", None)
        if request is None:
            return None
        from jubako.net import outside

        return outside.start(request())

    def step(self, directory: str, log: str) -> ConnectNetwork:
        """The plan's step; `directory` is the container's run directory, `log` where the log goes."""
        return ConnectNetwork(self.driver, directory, self.ports, self.port_driver, log, self.learned)


def build_network(
    asked: RunOptions, values: tuple[str, ...], exposed: tuple[str, ...] = ()
) -> tuple[NetworkRequest, tuple[Asked, ...]]:
    """What `--network` (`values`), `-p` and `--allow` ask for, and the places on bridge networks; `exposed` ports are
    published at any free one. Raises `UsageError` naming flag and value."""
    places = _places(asked, values)
    options = NetworkOptions(driver=BRIDGE) if places else _options(values)
    rules = asked.allow
    if rules:
        if options.driver not in ("proxy", DEFAULT):
            raise refuse("allow", rules[0], f"the network {options.driver!r} keeps no rules", "--network proxy")
        from jubako.net.proxy.rules import parse_rules

        parse_rules(rules)
        options = replace(options, driver="proxy", rules=rules)
    ports = [port for each in (*asked.publish, *exposed) for port in parse_publish(each)]
    _check_twice(ports)
    return NetworkRequest(options, tuple(ports)), places


def _options(values: tuple[str, ...]) -> NetworkOptions:
    if len(values) > 1:
        raise refuse("network", values[1], f"{values[0]} stands alone: only bridge networks may be several")
    name, colon, _ = values[0].partition(":")
    if name == DEFAULT:
        if colon:
            raise refuse("network", values[0], "the default network takes no options")
        return NetworkOptions(driver=DEFAULT)
    return parse_network(values[0])


def _places(asked: RunOptions, values: tuple[str, ...]) -> tuple[Asked, ...]:
    """Places on bridge networks, which are called by their names; nothing where another driver is asked for."""
    names = [value.partition(":")[0].partition(",")[0] for value in values]
    own = [name not in (*DRIVERS, DEFAULT, "private") or name == BRIDGE for name in names]
    beside = {
        "ip": asked.ip, "ip6": asked.ip6, "mac-address": asked.mac_address,
        "network-alias": next(iter(asked.network_alias), ""),
    }  # fmt: skip
    if not any(own):
        flag = next((flag for flag, value in beside.items() if value), "")
        if flag:
            raise refuse(flag, beside[flag], "needs a bridge network", "--network bridge, or one of 'network create'")
        return ()
    if not all(own):
        other = names[own.index(False)]
        raise refuse("network", other, "it stands alone: only bridge networks may be several")
    from jubako.net.bridge.asked import parse_places

    # podman has `bridge:OPTIONS`; `bridge:NAME` is the network of that name
    spelled = [
        value.partition(":")[2] if value.startswith("bridge:") and "=" not in value else value for value in values
    ]
    return parse_places(
        tuple(spelled), ip=asked.ip, ip6=asked.ip6, hardware=asked.mac_address, aliases=asked.network_alias
    )


def find_network(extras: ContainerExtras) -> Network | None:
    """The network of a container on this machine; None where it has none to connect. Raises `JubakoError` where the
    driver cannot be had."""
    if extras.network is None:
        return None
    options, ports = extras.network.options, extras.network.ports
    if options.driver == DEFAULT:
        options = replace(options, driver=default_driver()[0])
    asked = options.ports
    if asked == "implicit":  # pasta knows of its ports from its start on; by itself it would open all that are bound
        from jubako.net.ports.implicit import choose_ports, pasta_arguments

        ports = choose_ports(ports)
        options = replace(options, arguments=(*options.arguments, *pasta_arguments(ports)), ports="")
    driver = find_driver(options)
    port_driver = asked or (driver.ports[0] if driver.ports else "")
    if ports and port_driver not in driver.ports:
        have = f"the network {driver.name} has {', '.join(driver.ports) or 'none'}"
        raise UsageError("publish", str(ports[0]), reason=f"by the port driver {port_driver!r}: {have}")
    return Network(driver, driver.plan(), ports, port_driver)


def with_environment(spec: Spec, link: Link) -> Spec:
    """The document with the variables that the network wants the program to have; what was said stays."""
    said = {entry.partition("=")[0] for entry in spec.process.env}
    added = tuple(f"{name}={value}" for name, value in link.environment if name not in said)
    return replace(spec, process=replace(spec.process, env=(*spec.process.env, *added))) if added else spec


def _check_twice(ports: list[PortSpec]) -> None:
    seen: set[tuple[str, int, str]] = set()
    for port in ports:
        key = (port.host_address, port.host_port, port.protocol)
        if port.host_port and key in seen:
            raise UsageError("publish", str(port), reason="this port of the host is published twice")
        seen.add(key)
