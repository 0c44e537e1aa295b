"""Whose ids a bundle's container has, and who writes its maps (OCI runtime-spec 1.3, config-linux.md, "User namespace
mappings"; user_namespaces(7)).

A document without a user namespace means "as the runtime is". Who has no privileges can have no other namespace without
one, so then one is added, with the caller's own id and subordinate ranges, as crun does.
"""

from __future__ import annotations

import os

from jubako.errors import UsageError
from jubako.ids.base_ids import setgroups_denied
from jubako.ids.idmap import IdMap
from jubako.ids.newidmap import effective_capabilities
from jubako.plan.making import DIRECT, HELPERS
from jubako.record import record, replace
from jubako.spec.types import IdMapping, Linux, Namespace, Spec

_CAP_SETGID, _CAP_SETUID, _CAP_SYS_ADMIN = 6, 7, 21


@record
class Ids:
    """The document with its maps, and how they come to be written. `powerless`: without CAP_SYS_ADMIN here."""

    spec: Spec
    writer: str
    deny_setgroups: bool
    powerless: bool


def settle_ids(spec: Spec) -> Ids:
    """The ids of the container of `spec`. Raises `UsageError` for maps that no kernel takes."""
    capabilities = effective_capabilities()
    powerless = not capabilities >> _CAP_SYS_ADMIN & 1
    writes = bool(capabilities >> _CAP_SETUID & 1 and capabilities >> _CAP_SETGID & 1)
    denied = setgroups_denied("/proc/self")
    user = next((one for one in spec.linux.namespaces if one.type == "user"), None)
    if user is None and not powerless:
        _refuse_maps(spec.linux)
        return Ids(spec, DIRECT, denied, powerless)
    if user is not None and user.path:
        return Ids(spec, DIRECT, denied, powerless)
    linux = spec.linux
    if user is None:
        linux = replace(linux, namespaces=(*linux.namespaces, Namespace("user")))
    if not linux.uid_mappings or not linux.gid_mappings:
        linux = _default_maps(spec, linux)
    uids, gids = _checked(linux.uid_mappings, "uid"), _checked(linux.gid_mappings, "gid")
    spec = replace(spec, linux=linux)
    if writes:
        return Ids(spec, DIRECT, denied, powerless)
    if _is_own(uids, os.geteuid()) and _is_own(gids, os.getegid()):
        _refuse_groups(spec)
        return Ids(spec, DIRECT, True, powerless)
    return Ids(spec, HELPERS, denied, powerless)


def _default_maps(spec: Spec, linux: Linux) -> Linux:
    """The caller's ids: itself as the program's user, its subordinate ranges as all others."""
    from jubako.ids.base import find_base
    from jubako.ids.mapping import container_ids
    from jubako.ids.modes import KEEP_ID, Userns

    base, user = find_base(), spec.process.user
    if user.uid or user.gid:
        ids = container_ids(Userns(KEEP_ID, uid=user.uid, gid=user.gid), base)
        uids, gids = ids.uids.compose(base.uids, "uid"), ids.gids.compose(base.gids, "gid")
    else:
        uids, gids = base.uids, base.gids
    return replace(linux, uid_mappings=mappings(uids), gid_mappings=mappings(gids))


def mappings(id_map: IdMap) -> tuple[IdMapping, ...]:
    """The map as config.json has it."""
    return tuple(IdMapping(entry.inside, entry.outside, entry.size) for entry in id_map.entries)


def _checked(mappings: tuple[IdMapping, ...], kind: str) -> IdMap:
    return IdMap.of(*((m.container_id, m.host_id, m.size) for m in mappings)).validate(kind)


def _is_own(id_map: IdMap, own: int) -> bool:
    """Whether the map gives nothing but the caller's own id, which it may write itself."""
    return id_map.size == 1 and id_map.entries[0].outside == own


def _refuse_maps(linux: Linux) -> None:
    for name, mappings in (("uidMappings", linux.uid_mappings), ("gidMappings", linux.gid_mappings)):
        if mappings:
            raise UsageError(
                "read", "config.json", reason=f"linux.{name}: ids are mapped, and there is no user namespace",
                hint='add {"type": "user"} to linux.namespaces, or take the maps out',
            )  # fmt: skip


def _refuse_groups(spec: Spec) -> None:
    if spec.process.user.additional_gids:
        raise UsageError(
            "read", "config.json",
            reason="process.user.additionalGids: groups cannot be set where only one's own id is mapped",
            hint="map subordinate ids (/etc/subgid), or take the groups out",
        )  # fmt: skip
