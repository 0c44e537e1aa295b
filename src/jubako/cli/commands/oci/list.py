"""`jubako oci list`: list containers."""

from __future__ import annotations

import os

from jubako.cli import oci
from jubako.cli.flags import SWITCH, Command, Flag, Values

COMMAND = Command(
    "oci list",
    "list containers",
    (
        Flag(("-f", "--format"), "how", choices=("table", "json"), default="table"),
        Flag(("-q", "--quiet"), "only the ids", SWITCH),
    ),
)


def run(values: Values) -> int:
    from jubako import jsontext
    from jubako.errors import JubakoError
    from jubako.oci.state import list_containers, report

    rows = []
    for container in list_containers(oci.settings.container_root()):
        try:
            state = container.read()
            rows.append(report(container, state, container.status(state)))
        except JubakoError as failure:
            oci.warn(str(failure))
    if values.quiet:
        text = "".join(f"{row['id']}\n" for row in rows)
    elif values.format == "json":
        text = jsontext.dumps(rows or None) + "\n"  # as runc: no container is null
    else:
        text = _table(rows)
    os.write(1, text.encode("utf-8", "surrogateescape"))
    return 0


def _table(rows: list[dict[str, object]]) -> str:
    names = ("id", "pid", "status", "bundle", "created", "owner")
    lines = [tuple(name.upper() for name in names), *(tuple(_shown(row, name) for name in names) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "".join("   ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in lines)


def _shown(row: dict[str, object], name: str) -> str:
    text = str(row[name])
    if name != "owner":
        return text
    import pwd

    try:
        return pwd.getpwuid(int(text)).pw_name
    except (KeyError, ValueError):
        return f"#{text}"
