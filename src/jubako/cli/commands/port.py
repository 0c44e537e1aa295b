"""`jubako port`: which ports of the host lead into a container, and to have others while it runs."""

from __future__ import annotations

from jubako.cli.container_flags import find
from jubako.cli.flags import LIST, OPTIONAL, SWITCH, Argument, Command, Flag, Values
from jubako.cli.output import JSON_FLAG, print_json
from jubako.errors import NotFoundError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.ports.spec import PortSpec

COMMAND = Command(
    "port",
    "show or change the ports of the host that lead into containers",
    flags=(
        Flag(("-a", "--all"), "of all containers that run", SWITCH),
        Flag(
            ("--add",), "publish these too", LIST, metavar="[[IP:]HOST:]PORT[/PROTOCOL]", field="add", group="Changes"
        ),
        Flag(
            ("--remove",),
            "publish these no more; connections that there are go on",
            LIST,
            metavar="[IP:]HOST:PORT[/PROTOCOL]",
            field="remove",
            group="Changes",
        ),
        JSON_FLAG,
    ),
    arguments=(
        Argument("CONTAINER", "container", OPTIONAL, completes="container"),
        Argument("PORT", "port", OPTIONAL, help="only where this port inside is published, as PORT[/PROTOCOL]"),
    ),
    examples=(
        ("Where is port 80 of web?", "jubako port web 80"),
        ("One more, while it runs.", "jubako port --add 127.0.0.1:8443:443 web"),
    ),
)


def run(values: Values) -> int:
    from jubako.engine.ports import publish_ports, published_ports, unpublish_ports
    from jubako.engine.store import list_containers
    from jubako.net.ports.parse import parse_publish
    from jubako.paths import find_paths

    paths = find_paths()
    changes = values.add or values.remove
    if values.all == bool(values.container):
        raise UsageError("port", values.container, reason="either a container is named, or all with --all")
    if values.all and changes:
        raise UsageError("port", (*values.add, *values.remove)[0], reason="ports are published of one container")
    containers = [one for one in list_containers(paths) if one.running] if values.all else [find(values.container)]
    if values.remove:
        unpublish_ports(paths, containers[0], tuple(port for text in values.remove for port in parse_publish(text)))
    if values.add:
        wanted = tuple(port for text in values.add for port in parse_publish(text))
        found = [(containers[0], port) for port in publish_ports(paths, containers[0], wanted)]
    elif values.remove:
        found = []
    else:
        found = [(one, port) for one in containers for port in published_ports(paths, one)]
    if values.port:
        inside, _, protocol = values.port.partition("/")
        found = [(one, port) for one, port in found if (str(port.port), port.protocol) == (inside, protocol or "tcp")]
        if not found:
            raise NotFoundError("find the port", values.port, reason="it is not published")
    if values.json:
        print_json([{"Container": one.name, **_plain(port)} for one, port in found])
    else:
        for one, port in found:
            host = f"{bracketed(port.host_address)}:{port.host_port}"
            if values.port:
                print(host)
            else:
                print(f"{one.name + ' ' if values.all else ''}{port.port}/{port.protocol} -> {host}")
    return 0


def bracketed(address: str) -> str:
    """An address as it stands before a port."""
    return f"[{address}]" if ":" in address else address or "0.0.0.0"


def _plain(port: PortSpec) -> dict[str, object]:
    return {
        "HostIp": port.host_address, "HostPort": port.host_port, "ContainerPort": port.port, "Protocol": port.protocol,
    }  # fmt: skip
