"""The values of `--userns`, read: podman's spellings (podman-run(1)), with one clear error for everything else."""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.ids.idmap import END_OF_IDS
from jubako.record import record

DEFAULT = "default"
HOST = "host"
KEEP_ID = "keep-id"
NOMAP = "nomap"
AUTO = "auto"
CONTAINER = "container"
PATH = "ns"


@record
class Userns:
    """One `--userns`: a mode and what was said with it.

    `uid`, `gid` and `size` belong to keep-id and auto (-1 and 0: not said), the mappings to auto, as they were
    written; `target` is the container or path whose user namespace is joined.
    """

    mode: str = DEFAULT
    target: str = ""
    uid: int = -1
    gid: int = -1
    size: int = 0
    uid_mappings: tuple[str, ...] = ()
    gid_mappings: tuple[str, ...] = ()


def parse_userns(value: str) -> Userns:
    """Read the value of `--userns`; an empty one is the default, as `private` is."""
    mode, colon, rest = value.partition(":")
    if mode in ("", "private", DEFAULT) and not colon:
        return Userns()
    if mode in (HOST, NOMAP) and not colon:
        return Userns(mode)
    if mode in (CONTAINER, PATH) and rest:
        return Userns(mode, target=rest)
    if mode in (KEEP_ID, AUTO) and (rest or not colon):
        return _parse_options(mode, rest)
    raise UsageError(
        "read --userns",
        repr(value),
        reason="there is no such mode",
        hint="host, keep-id[:uid=U,gid=G,size=N], nomap, auto[:size=N,uidmapping=C:H:N,gidmapping=C:H:N], "
        "container:NAME or ns:PATH",
    )


def parse_id(text: str, what: str, operation: str, subject: str, least: int = 0) -> int:
    """A decimal id or amount, or `UsageError` saying `what` it was to be in `subject`."""
    if text.isascii() and text.isdigit() and least <= int(text) < END_OF_IDS:
        return int(text)
    raise UsageError(
        operation,
        subject,
        reason=f"{what} {text!r} is not a number from {least} to {END_OF_IDS - 1}",
    )


def _parse_options(mode: str, rest: str) -> Userns:
    numbers = {"uid": -1, "gid": -1, "size": 0}
    mappings: dict[str, list[str]] = {"uidmapping": [], "gidmapping": []}
    for option in rest.split(",") if rest else ():
        key, equals, value = option.partition("=")
        subject = f"--userns {mode}:{option}"
        if not equals:
            raise UsageError("read", subject, reason=f"{option!r} must be KEY=VALUE")
        if key == "size" or (mode == KEEP_ID and key in ("uid", "gid")):
            numbers[key] = parse_id(value, key, "read", subject, least=1 if key == "size" else 0)
        elif mode == AUTO and key in mappings:
            mappings[key].append(value)
        else:
            known = "uid, gid and size" if mode == KEEP_ID else "size, uidmapping and gidmapping"
            raise UsageError("read", subject, reason=f"unknown option {key!r}; {mode} has {known}")
    return Userns(
        mode,
        uid=numbers["uid"],
        gid=numbers["gid"],
        size=numbers["size"],
        uid_mappings=tuple(mappings["uidmapping"]),
        gid_mappings=tuple(mappings["gidmapping"]),
    )
