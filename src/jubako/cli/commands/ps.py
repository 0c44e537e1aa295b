"""`jubako ps`: the containers, and how they are."""

from __future__ import annotations

import time

from jubako.cli.commands.port import bracketed
from jubako.cli.flags import LIST, NUMBER, SWITCH, Command, Flag, Values
from jubako.cli.output import LIST_FLAGS, Column, duration_text, print_rows, short_id
from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from jubako.engine.store import Container, State

COMMAND = Command(
    "ps",
    "list containers",
    flags=(
        Flag(("-a", "--all"), "also those that do not run", SWITCH),
        Flag(("-l", "--latest"), "only the youngest, whatever its state", SWITCH),
        Flag(("-n", "--last"), "only the N youngest, whatever their state", NUMBER),
        Flag(
            ("-f", "--filter"),
            "only containers for which this holds: name=, id=, status=, label=KEY[=VALUE], ancestor=IMAGE, exited=CODE",
            LIST,
            metavar="KEY=VALUE",
            field="filters",
        ),
        *LIST_FLAGS,
    ),
    examples=(
        ("Ids of all that have failed.", "jubako ps -a -q --filter status=exited --filter exited=1"),
        ("Chosen columns.", "jubako ps --format 'table {{.Names}}\\t{{.Status}}'"),
    ),
)



def ports_text(ports: list[dict[str, Any]]) -> str:
    """docker's form: `0.0.0.0:8080->80/tcp, ...`."""
    form = "{}:{host_port}->{container_port}/{protocol}"
    return ", ".join(form.format(bracketed(port["host_ip"]), **port) for port in ports)


_COLUMNS = (
    Column("CONTAINER ID", "ID", show=short_id),
    Column("IMAGE", "Image", shrinks=True),
    Column("COMMAND", "Command", shrinks=True, show=lambda words: _shortened(" ".join(words)), no_trunc_show=" ".join),
    Column("CREATED", "RunningFor"),
    Column("STATUS", "Status"),
    Column("PORTS", "Ports", show=ports_text, no_trunc_show=ports_text, shrinks=True),
    Column("NAMES", "Names"),
)


def run(values: Values) -> int:
    from jubako.engine.reaping import reap
    from jubako.engine.store import list_containers
    from jubako.paths import find_paths

    reap(find_paths())
    rows = [_row(container) for container in list_containers(find_paths())]
    filters = [_filter(text) for text in values.filters]
    asks_for_status = any(text.startswith(("status=", "exited=")) for text in values.filters)
    if values.latest or values.last is not None:
        rows = rows[: 1 if values.latest else max(values.last, 0)]
    elif not values.all and not asks_for_status:
        rows = [row for row in rows if row["State"] in ("running", "paused")]
    print_rows(values, [row for row in rows if all(holds(row) for holds in filters)], _COLUMNS)
    return 0


def _row(container: Container) -> dict[str, Any]:
    """What is known of one container, under the names that docker's templates use; times are in nanoseconds."""
    document, state = container.document, container.state
    return {
        "ID": container.id,
        "Names": container.name,
        "Image": document.get("image", ""),
        "ImageID": document.get("image_id", ""),
        "Command": document.get("command", []),
        "Labels": document.get("labels", {}),
        "State": state.status,
        "Status": _status(state),
        "RunningFor": _ago(state.created),
        "Ports": _ports(container),
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Created": state.created,
        "Started": state.started,
        "Finished": state.finished,
    }


def _ports(container: Container) -> list[dict[str, Any]]:
    if not container.running or not container.document.get("extras", {}).get("network"):
        return []
    from jubako.engine.ports import published_ports
    from jubako.paths import find_paths

    return [
        {"host_ip": one.host_address, "host_port": one.host_port, "container_port": one.port, "protocol": one.protocol}
        for one in published_ports(find_paths(), container)
    ]


def _status(state: State) -> str:
    """docker's words: `Up 3 hours`, `Exited (0) 2 days ago`, `Created`."""
    if state.status in ("running", "paused"):
        return f"Up {_span(state.started)}" + (" (Paused)" if state.status == "paused" else "")
    if state.status == "exited":
        return f"Exited ({state.exit_code}) {_ago(state.finished)}".rstrip()
    return state.status.capitalize()


def _span(nanoseconds: int) -> str:
    return duration_text(time.time() - nanoseconds / 1e9)


def _ago(nanoseconds: int) -> str:
    return f"{_span(nanoseconds)} ago" if nanoseconds else ""


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _filter(text: str) -> Callable[[dict[str, Any]], bool]:
    """A predicate of a row for one `--filter`."""
    key, equals, value = text.partition("=")
    if key == "name" and equals:
        return lambda row: value in row["Names"]
    if key == "id" and equals:
        return lambda row: row["ID"].startswith(value)
    if key == "status" and equals:
        return lambda row: row["State"] == value
    if key == "exited" and equals:
        return lambda row: row["State"] == "exited" and str(row["ExitCode"]) == value
    if key == "ancestor" and equals:
        return lambda row: value in (row["Image"], row["ImageID"], row["ImageID"].removeprefix("sha256:")[: len(value)])
    if key == "label" and equals:
        name, has_value, wanted = value.partition("=")
        return lambda row: name in row["Labels"] and (not has_value or row["Labels"][name] == wanted)
    hint = "there are name, id, status, label, ancestor, exited"
    raise UsageError("ps", f"--filter {text}", reason="unknown filter", hint=hint)
