"""`jubako rootlessctl`, installed also as `rootlessctl`: the client of a fake root's REST API."""

from __future__ import annotations

from jubako.cli.flags import ANY, SOME, SWITCH, Argument, Command, Flag, Values, parse
from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.rootless.client import Client

_JSON = Flag(("--json",), "as JSON", SWITCH)

COMMAND = Command(
    "rootlessctl",
    "publish ports of a fake root, and show what it is",
    flags=(
        Flag(("--socket",), "the api.sock of a state directory; $ROOTLESSKIT_STATE_DIR/api.sock if not given",
             metavar="FILE", completes="file"),
        Flag(("--debug",), "taken and not needed", SWITCH, hidden=True),
        Flag(("-v", "--version"), "print the version and end", SWITCH),
    ),
    arguments=(
        Argument("VERB", "words", ANY, choices=("info", "list-ports", "add-ports", "remove-ports"),
                 help="info, list-ports, add-ports or remove-ports, and what belongs to it"),
    ),
    description="""
        Inside of a fake root it needs no flag. Outside, --socket names the api.sock of its state directory.

        'info' shows versions, the state directory and the drivers, 'list-ports' what is published. 'add-ports' takes
        ports as IP:PORT[:CHILDIP]:PORT/PROTOCOL and prints the number of each, by which 'remove-ports' knows them. All
        but 'remove-ports' print JSON with --json.
    """,
    examples=(
        ("Publish a port.", "rootlessctl add-ports 127.0.0.1:8080:80/tcp"),
        ("From outside of the fake root.", "rootlessctl --socket=$XDG_RUNTIME_DIR/work/api.sock list-ports"),
    ),
    interspersed=False,
    usage=(
        "[OPTIONS] info [--json]",
        "[OPTIONS] list-ports [--json]",
        "[OPTIONS] add-ports [--json] PORT...",
        "[OPTIONS] remove-ports ID...",
    ),
)  # fmt: skip

_VERBS = {
    "info": Command("rootlessctl info", "show what the fake root is", (_JSON,)),
    "list-ports": Command("rootlessctl list-ports", "list ports", (_JSON,)),
    "add-ports": Command("rootlessctl add-ports", "publish ports", (_JSON,), (Argument("PORT", "ports", SOME),)),
    "remove-ports": Command("rootlessctl remove-ports", "end publishing", (), (Argument("ID", "ids", SOME),)),
}


def run(values: Values) -> int:
    from jubako.rootless.client import Client, find_socket

    if values.version:
        from jubako.cli.commands.rootless import release

        print(f"rootlessctl version {release()}")
        return 0
    verb = values.words[0] if values.words else ""
    if verb not in _VERBS:
        reason = "it is not one of" if verb else "no verb is named:"
        raise UsageError("rootlessctl", verb, reason=f"{reason} {', '.join(_VERBS)}")
    asked = parse(_VERBS[verb], values.words[1:])
    if asked.help:
        from jubako.cli import help as pages

        pages.show(lambda columns, bold: pages.command_help(_VERBS[verb], columns, bold))
        return 0
    {"info": _info, "list-ports": _list, "add-ports": _add, "remove-ports": _remove}[verb](
        asked, Client(find_socket(values.socket))
    )
    return 0


def _info(asked: Values, client: Client) -> None:
    from jubako import jsontext

    info = client.info()
    if asked.json:
        print(jsontext.dumps(info, indent=4))
        return
    print(f"- REST API version: {info.get('apiVersion')}")
    print(f"- Implementation version: {info.get('version')}")
    print(f"- State Directory: {info.get('stateDir')}")
    print(f"- Child PID: {info.get('childPID')}")
    network, ports = info.get("networkDriver"), info.get("portDriver")
    if network:
        print(f"- Network Driver: {network.get('driver')}")
        print(f"  - DNS: [{' '.join(network.get('dns', ()))}]")
        if network.get("childIP"):
            print(f"  - IP: {network['childIP']}")
    if ports:
        print(f"- Port Driver: {ports.get('driver')}")
        print(f"  - Supported protocols: [{' '.join(ports.get('protos', ()))}]")


def _list(asked: Values, client: Client) -> None:
    ports = client.list_ports()
    if asked.json:
        for port in ports:
            _print_json(port)
        return
    rows = [("ID", "PROTO", "PARENTIP", "PARENTPORT", "CHILDIP", "CHILDPORT")]
    for port in ports:
        spec = port["spec"]
        fields = (spec.get(name, "") for name in ("proto", "parentIP", "parentPort", "childIP", "childPort"))
        rows.append((str(port["id"]), *map(str, fields)))  # type: ignore[arg-type]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("".join(text.ljust(width + 4) for text, width in zip(row, widths, strict=True)))


def _add(asked: Values, client: Client) -> None:
    from jubako.net.ports.parse import parse_rootlesskit

    for port in [port for text in asked.ports for port in parse_rootlesskit(text)]:
        entry = client.add_port(port)
        if asked.json:
            _print_json(entry)
        else:
            print(entry["id"])


def _remove(asked: Values, client: Client) -> None:
    numbers = []
    for text in asked.ids:
        if not (text.isascii() and text.isdigit()):
            raise UsageError("rootlessctl remove-ports", text, reason="it is no number")
        numbers.append(int(text))
    for number in numbers:
        client.remove_port(number)
        print(number)


def _print_json(value: Any) -> None:
    from jubako import jsontext

    print(jsontext.dumps(value))
