"""What is published of a running container, and how that is changed while it runs: its supervisor is asked."""

from __future__ import annotations

import os

from jubako.engine import store
from jubako.engine.launch import connect, not_running
from jubako.errors import JubakoError
from jubako.net.attendant import LOG, PORTS_FILE, PUBLISH, RELOAD, STATUS, UNPUBLISH, parse_lines, write_lines
from jubako.net.ports.spec import PortSpec
from jubako.paths import Paths
from jubako.runtime.messages import Answer, Ask, Failed, receive, send


def published_ports(paths: Paths, container: store.Container) -> tuple[PortSpec, ...]:
    """The ports of the host that lead into the container now; none where it does not run."""
    if not container.running:
        return ()
    try:
        with open(f"{store.run_directory(paths, container.id)}/{PORTS_FILE}", encoding="utf-8") as file:
            return parse_lines(file.read())
    except FileNotFoundError:
        return ()


def publish_ports(paths: Paths, container: store.Container, ports: tuple[PortSpec, ...]) -> tuple[PortSpec, ...]:
    """Publish them while it runs: all or none; a host port of 0 becomes a free one."""
    return parse_lines(_ask(paths, container, PUBLISH, write_lines(ports)))


def unpublish_ports(paths: Paths, container: store.Container, ports: tuple[PortSpec, ...]) -> None:
    """Take no new connections at these; those that there are go on."""
    _ask(paths, container, UNPUBLISH, write_lines(ports))


def reload_network(paths: Paths, container: store.Container) -> None:
    """Connect the container's network anew, after a helper of it was lost."""
    _ask(paths, container, RELOAD, "")


def network_status(paths: Paths, container: store.Container) -> dict[str, object]:
    """The link as it is, and the helpers that were lost."""
    lines = dict(line.split(" ", 1) for line in _ask(paths, container, STATUS, "").splitlines())
    addresses = [address.partition("/") for address in lines["addresses"].split()]
    four = next((one for one in addresses if ":" not in one[0]), ("", "", "0"))
    six = next((one for one in addresses if ":" in one[0]), ("", "", "0"))
    gateways = lines["gateways"].split()
    return {
        "Driver": lines["driver"],
        "Interface": lines["device"],
        "MTU": int(lines["mtu"]),
        "IPAddress": four[0],
        "IPPrefixLen": int(four[2]),
        "Gateway": next((one for one in gateways if ":" not in one), ""),
        "GlobalIPv6Address": six[0],
        "GlobalIPv6PrefixLen": int(six[2]),
        "IPv6Gateway": next((one for one in gateways if ":" in one), ""),
        "DNS": lines["dns"].split(),
        "Lost": [name for name in lines["lost"].split(",") if name],
    }


def network_log(container: store.Container) -> str:
    """What the network's helpers have written, and which ended; empty where nothing did."""
    try:
        with open(f"{container.directory}/{LOG}", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _ask(paths: Paths, container: store.Container, verb: str, text: str) -> str:
    link = connect(paths, container)
    try:
        send(link, Ask(verb, text))
        message, descriptors = receive(link)
    finally:
        link.close()
    for fd in descriptors:
        os.close(fd)
    if isinstance(message, Answer):
        return message.text
    if isinstance(message, Failed):
        raise message.error()
    if message is None:
        raise not_running(container.name)
    raise JubakoError("ask the supervisor of container", container.name, reason="it answered something else")
