"""Environment variables: `--env`, `--env-file`, and the files and flags of labels, which have the same form.

The rules are docker's (`opts/env.go`, `opts/file.go`), with podman's `PREFIX*`.
"""

from __future__ import annotations

from jubako.engine.parse.sizes import refuse
from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def parse_env(entries: Iterable[str], caller: Mapping[str, str], flag: str = "env") -> dict[str, str]:
    """What `entries` set: KEY=VALUE; KEY, taken from the caller or left out if it has none; PREFIX*, all of those."""
    result: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not name:
            raise refuse(flag, entry, "a variable must have a name", "write KEY=VALUE")
        if "\0" in entry:
            raise refuse(flag, entry, "a variable cannot hold a NUL character")
        if equals:
            result[name] = value
        elif name.endswith("*"):
            result.update((key, caller[key]) for key in sorted(caller) if key.startswith(name[:-1]))
        elif name in caller:
            result[name] = caller[name]
    return result


def read_env_file(path: str, caller: Mapping[str, str], flag: str = "env-file") -> dict[str, str]:
    """What the file at `path` sets, one entry a line; empty lines and those beginning with `#` say nothing."""
    return parse_env(_file_entries(path, flag), caller, flag)


def parse_labels(entries: Iterable[str], flag: str = "label") -> dict[str, str]:
    """KEY=VALUE, or KEY with an empty value."""
    result: dict[str, str] = {}
    for entry in entries:
        name, _, value = entry.partition("=")
        if not name:
            raise refuse(flag, entry, "a label must have a name", "write KEY=VALUE")
        result[name] = value
    return result


def read_label_file(path: str) -> dict[str, str]:
    """The labels in the file at `path`, one a line."""
    return parse_labels(_file_entries(path, "label-file"), "label-file")


def parse_assignments(entries: Iterable[str], flag: str) -> dict[str, str]:
    """KEY=VALUE and nothing less, for annotations and sysctls."""
    result: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not name or not equals:
            raise refuse(flag, entry, "must be of the form KEY=VALUE")
        if "\0" in entry:
            raise refuse(flag, entry, "cannot hold a NUL character")
        result[name] = value
    return result


def _file_entries(path: str, flag: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except OSError as error:
        raise UsageError.from_os_error(f"read --{flag}", path, error) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"read --{flag}", path, reason=f"byte {error.start} is not UTF-8") from None
    entries: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        entry = line.removesuffix("\r").lstrip()
        if not entry or entry.startswith("#"):
            continue
        name = entry.partition("=")[0]
        if not name or name != name.rstrip() or " " in name or "\t" in name:
            reason = f"line {number}: {name!r} is not a name" if name else f"line {number} has no name before ="
            raise UsageError(f"read --{flag}", path, reason=reason)
        entries.append(entry)
    return entries
