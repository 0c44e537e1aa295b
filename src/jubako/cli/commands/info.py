"""`jubako info`: what this jubako is, what it chose on this machine, and why."""

from __future__ import annotations

from jubako.cli.flags import Command, Flag, Values
from jubako.cli.output import JSON_FLAG, print_json, size_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

COMMAND = Command(
    "info",
    "tell what was chosen on this machine, and why",
    flags=(
        Flag(
            ("-f", "--format"),
            "print through a Go template such as '{{.storage.name}}'; 'json' is --json",
            metavar="TEMPLATE",
            group="Output",
        ),
        JSON_FLAG,
    ),
    description=(
        "Storage, network, ids, control groups and system call filter: each choice by name and with the reason. "
        "What cannot be read is really tried, in short-lived processes that leave nothing behind."
    ),
    examples=(
        ("How are layers stacked here?", "jubako info --format '{{.storage.name}}: {{.storage.why}}'"),
        ("Everything, for a program", "jubako info --json"),
    ),
)

_WIDTH = 14


def run(values: Values) -> int:
    """Gather and print."""
    from jubako.doctor import info

    found = info.gather()
    if values.json or values.format == "json":
        print_json(found)
    elif values.format:
        from jubako.cli.template import Template

        print(Template(values.format).fill(found))
    else:
        for title, text in _lines(found):
            print(f"{title:<{_WIDTH}}{text}".rstrip())
    return 0


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(title, text) of each line; a line without a title goes on with the one before."""
    version, user = found["version"], found["user"]
    yield "jubako", f"{version['jubako']} (Python {version['python']}, {version['interpreter']})"
    yield "machine", f"{version['distribution']}, Linux {version['kernel']} {version['machine']}"
    yield "user", f"{user['name']} ({user['uid']}:{user['gid']}), {'rootless' if user['rootless'] else 'root'}"
    ids = found["ids"]
    yield "ids", _choice(ids)
    yield "", f"uid map: {', '.join(ids['uid_map'])}"
    yield "", f"gid map: {', '.join(ids['gid_map'])}"
    for loss in ids["lost"]:
        yield "", f"lost: {loss}"
    storage = found["storage"]
    yield "storage", _choice(storage)
    yield "", f"{storage['path']} on {storage['file_system']}, {size_text(storage['free_bytes'])} free"
    network = found["network"]
    yield "network", _choice(network)
    for driver in network["drivers"]:
        yield "", f"{'can' if driver['available'] else 'cannot'} use {driver['name']}: {driver['why']}"
    groups = found["cgroups"]
    yield "cgroups", _choice(groups)
    yield "", f"hierarchy {groups['version']}, controllers: {' '.join(groups['controllers']) or 'none'}"
    seccomp = found["seccomp"]
    yield "seccomp", _choice(seccomp)
    yield "", f"libseccomp {seccomp['libseccomp'] or 'missing'}; profiles: {seccomp['profiles']}"
    security = found["security"]
    yield "security", ", ".join(f"{name}: {_word(value)}" for name, value in security.items())
    for name, path in found["paths"].items():
        yield ("paths" if name == "data" else ""), f"{name}: {path}"
    containers = found["containers"]
    kinds = ", ".join(f"{number} {status}" for status, number in containers.items() if status != "total" and number)
    yield "containers", f"{containers['total']}" + (f" ({kinds})" if kinds else "")
    yield "images", str(found["images"]["total"])
    features = found["features"]
    yield "kernel has", " ".join(name for name, there in features.items() if there)
    lacking = [name for name, there in features.items() if not there]
    if lacking:
        yield "kernel lacks", " ".join(lacking)


def _choice(choice: dict[str, Any]) -> str:
    return f"{choice['name']}: {choice['why']}"


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or "no"
