"""Control groups made by systemd: a scope for each container, as runc and crun have it (org.freedesktop.systemd1(5)).

linux.cgroupsPath is then `SLICE:PREFIX:NAME`. The scope is made with the container's first process in it, since a scope
without processes ends at once; its group is delegated, and what systemd has no property for is written into its files.
"""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.oci.cgroups import SYSTEMD, GroupChoice

PROPERTY = "org.systemd.property."
SUBGROUP = "run.oci.systemd.subgroup"

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_UNIT_NAME = _LETTERS | frozenset("0123456789:-_.\\@")


def choose_unit(path: str, identifier: str, annotations: dict[str, str], subgroup: str, rootless: bool) -> GroupChoice:
    """The scope for linux.cgroupsPath `path`; where its group is, is known once it has been started."""
    slice_name, prefix, name = "", "jubako", identifier
    if path:
        parts = path.split(":")
        if len(parts) != 3 or "/" in path or not parts[2]:
            reason = f"with systemd it is SLICE:PREFIX:NAME, not {path!r}"
            raise UsageError("read", "linux.cgroupsPath", reason=reason)
        slice_name, prefix, name = parts
    slice_name = slice_name or ("user.slice" if rootless else "system.slice")
    if not slice_name.endswith(".slice") or ".." in slice_name:
        reason = f"must name a slice of systemd (NAME.slice), not {slice_name!r}"
        raise UsageError("read", "linux.cgroupsPath", reason=reason)
    if name.endswith(".slice"):
        raise UsageError("read", "linux.cgroupsPath", reason=f"a slice holds no processes itself: {name}")
    below = tuple(one for one in (_subgroup(annotations), subgroup) if one)
    return GroupChoice(
        made_by=SYSTEMD,
        unit=_escape(f"{prefix}-{name}.scope" if prefix else f"{name}.scope"),
        slice=_escape(slice_name),
        user_manager=rootless,
        properties=_properties(annotations),
        subgroup="/".join(below),
        delegate=bool(subgroup),
    )


def _subgroup(annotations: dict[str, str]) -> str:
    name = annotations.get(SUBGROUP, "")
    if "/" in name or name in (".", ".."):
        raise UsageError("read", f"annotations.{SUBGROUP}", reason=f"must be one name, not {name!r}")
    return name


def _properties(annotations: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """What the annotations set of the scope: (property, value in GVariant's text form)."""
    found = []
    for key, value in annotations.items():
        if key.startswith(PROPERTY):
            name = key[len(PROPERTY) :]
            if len(name) < 3 or not _LETTERS.issuperset(name):
                raise UsageError("read", f"annotations.{key}", reason="must end in the name of a property of systemd")
            found.append((name, value))
    return tuple(found)


def _escape(name: str) -> str:
    """`name` with systemd's escapes for what a unit's name may not hold."""
    if _UNIT_NAME.issuperset(name):
        return name
    return "".join(c if c in _UNIT_NAME else "".join(f"\\x{byte:02x}" for byte in c.encode()) for c in name)
