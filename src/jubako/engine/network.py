"""A container's network: from `--network` and `-p` to the driver that connects it on this machine, at each start anew.

What is kept with a container is what was asked for (`NetworkRequest`); which driver that means, and the addresses that
it gives, may be different next time. Nothing here is imported for a container without a network.
"""

from __future__ import annotations

from jubako.engine.extras import ContainerExtras, NetworkRequest
from jubako.engine.parse.sizes import refuse
from jubako.errors import UsageError
from jubako.net.choose import default_driver, find_driver
from jubako.net.link import Link, NetworkOptions
from jubako.net.parse import parse_network
from jubako.net.ports.parse import parse_publish
from jubako.net.ports.spec import PortSpec
from jubako.net.step import ConnectNetwork
from jubako.record import record, replace
from jubako.spec.types import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.link import Driver

DEFAULT = "default"


@record
class Network:
    """A network that is ready to be connected: the driver, and what it will give."""

    driver: Driver
    link: Link
    ports: tuple[PortSpec, ...]
    port_driver: str

    def step(self, directory: str, log: str) -> ConnectNetwork:
        """The plan's step; `directory` is the container's run directory, `log` where the log goes."""
        return ConnectNetwork(self.driver, directory, self.ports, self.port_driver, log)


def build_network(
    value: str, publish: tuple[str, ...], rules: tuple[str, ...], exposed: tuple[str, ...] = ()
) -> NetworkRequest:
    """What `--network`, `-p` and `--allow` ask for; `exposed` ports are published at any free one. Raises `UsageError`
    naming flag and value."""
    name, _, rest = value.partition(":")
    if name == DEFAULT and rest:
        raise refuse("network", value, "the default network takes no options")
    options = NetworkOptions(driver=DEFAULT) if name == DEFAULT else parse_network(value)
    if rules:
        if options.driver not in ("proxy", DEFAULT):
            raise refuse("allow", rules[0], f"the network {options.driver!r} keeps no rules", "--network proxy")
        from jubako.net.proxy.rules import parse_rules

        parse_rules(rules)
        options = replace(options, driver="proxy", rules=rules)
    ports = [port for each in publish for port in parse_publish(each)]
    ports += [port for each in exposed for port in parse_publish(each)]
    _check_twice(ports)
    return NetworkRequest(options, tuple(ports))


def find_network(extras: ContainerExtras) -> Network | None:
    """The network of a container on this machine; None where it has none to connect. Raises `JubakoError` where the
    driver cannot be had."""
    if extras.network is None:
        return None
    options = extras.network.options
    if options.driver == DEFAULT:
        options = replace(options, driver=default_driver()[0])
    driver = find_driver(options)
    port_driver = extras.network.port_driver or (driver.ports[0] if driver.ports else "")
    if extras.network.ports and not port_driver:
        raise UsageError("publish ports", str(extras.network.ports[0]), reason=f"the network {driver.name} has none")
    return Network(driver, driver.plan(), extras.network.ports, port_driver)


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
