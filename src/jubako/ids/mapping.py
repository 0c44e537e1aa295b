"""From what a user asked for (`--userns`, `--uidmap`, `--gidmap`) to the maps of the container's own user namespace.

The container's namespace is nested in the base, so these maps are relative to the base's ids, and cut along the
base's ranges, ready to be written (user_namespaces(7)). The modes are podman's; where its manual and the program
differ, the program (4.3, tried without root) is followed.
"""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.ids.base_ids import BaseIds
from jubako.ids.idmap import END_OF_IDS, IdMap, IdRange
from jubako.ids.intervals import pair, subtract, take
from jubako.ids.modes import AUTO, CONTAINER, DEFAULT, HOST, KEEP_ID, NOMAP, PATH, Userns
from jubako.record import record


@record
class ContainerIds:
    """The container's maps relative to the base; without `nested` it has no user namespace of its own.

    `user` is the (uid, gid) that its program runs as where nothing else is said: keep-id changes it.
    """

    uids: IdMap
    gids: IdMap
    nested: bool = True
    user: tuple[int, int] = (0, 0)


def container_ids(
    userns: Userns,
    base: BaseIds,
    uid_specs: tuple[str, ...] = (),
    gid_specs: tuple[str, ...] = (),
    *,
    in_use: tuple[ContainerIds, ...] = (),
    auto_size: int = 0,
) -> ContainerIds:
    """The ids of a container, or `UsageError` naming what cannot be.

    `in_use` (the containers that have a range of their own) and `auto_size` (see `allocate.size_for`) matter to
    `auto` only; whoever allocates holds a lock until the result is recorded.
    """
    if uid_specs or gid_specs:
        if userns.mode != DEFAULT:
            raise UsageError(
                "combine --userns with --uidmap or --gidmap", userns.mode, reason="each of them says the whole map"
            )
        from jubako.ids.triples import read_id_maps

        uids, gids = read_id_maps(uid_specs, gid_specs, base.uids, base.gids)
        return _finish(uids, gids, base)
    if userns.mode in (CONTAINER, PATH):
        raise UsageError(
            f"map ids with --userns {userns.mode}:{userns.target}",
            reason="a joined user namespace has its maps already",
        )
    if userns.mode == HOST:
        return ContainerIds(base.uids.identity(), base.gids.identity(), nested=False)
    if userns.mode == KEEP_ID:
        return _keep_id(userns, base)
    if userns.mode == NOMAP:
        return _nomap(base)
    if userns.mode == AUTO:
        return _auto(userns, base, in_use, userns.size or auto_size)
    return ContainerIds(base.uids.identity(), base.gids.identity())


def _keep_id(userns: Userns, base: BaseIds) -> ContainerIds:
    uid = base.caller_uid if userns.uid < 0 else userns.uid
    gid = base.caller_gid if userns.gid < 0 else userns.gid
    uids = _keep(uid, base.caller_uid, base.uids, userns.size)
    gids = _keep(gid, base.caller_gid, base.gids, userns.size)
    return _finish(uids, gids, base, (uid, gid))


def _keep(wanted: int, caller: int, base: IdMap, size: int) -> IdMap:
    """The caller's id as `wanted`; the container's other ids from 0 up get the base's others in their order."""
    own = base.to_inside(caller)
    if own is None:
        # Root's base does not have the host's root in it: as podman does for root, all ids stay as they are.
        return base.identity()
    others = subtract(base.inside, ((own, own + 1),))
    if size:
        others = take(others, size - 1)
    free = ((0, wanted), (wanted + 1, END_OF_IDS))
    return IdMap((IdRange(wanted, own, 1), *(IdRange(*triple) for triple in pair(free, others)))).merged()


def _nomap(base: BaseIds) -> ContainerIds:
    maps = []
    for kind, id_map, caller in (("uid", base.uids, base.caller_uid), ("gid", base.gids, base.caller_gid)):
        own = id_map.to_inside(caller)
        if own is None:
            raise UsageError(
                "use --userns nomap",
                reason=f"{kind} {caller} is not mapped for containers of this user anyhow",
                hint="leave the flag out: the container has no id of yours",
            )
        others = subtract(id_map.inside, ((own, own + 1),))
        if not others:
            raise UsageError(
                "use --userns nomap",
                reason=f"there is no subordinate {kind} to run the container with",
                hint=f"add ranges to /etc/sub{kind}, as root, and run `jubako system shutdown`",
            )
        maps.append(IdMap(tuple(IdRange(*triple) for triple in pair(((0, END_OF_IDS),), others))))
    return _finish(maps[0], maps[1], base)


def _auto(userns: Userns, base: BaseIds, in_use: tuple[ContainerIds, ...], size: int) -> ContainerIds:
    from jubako.ids.allocate import LEAST_SIZE, allocate, pool_of

    size = size or LEAST_SIZE
    fixed_uids = _fixed(userns.uid_mappings, base.uids, "uid")
    fixed_gids = _fixed(userns.gid_mappings, base.gids, "gid")
    uid_pool = pool_of(base.uids, base.caller_uid, tuple(ids.uids for ids in in_use))
    gid_pool = pool_of(base.gids, base.caller_gid, tuple(ids.gids for ids in in_use))
    uids = allocate(uid_pool, size, fixed_uids, "uid")
    gids = allocate(gid_pool, size, fixed_gids, "gid")
    return _finish(uids, gids, base)


def _fixed(specs: tuple[str, ...], base: IdMap, kind: str) -> IdMap:
    """The ranges of `uidmapping=` and `gidmapping=`.

    podman's manual calls the middle number the host's id, but without root podman takes it for a position in the
    user's ranges, as in `--uidmap`, and so does this; `@N` is the host's id N.
    """
    from jubako.ids.triples import read_triple

    triples = (read_triple(spec, kind, base, flags_allowed=False) for spec in specs)
    ranges = tuple(entry for triple in triples if triple is not None for entry in triple.ranges)
    return IdMap(ranges).validate(kind) if ranges else IdMap()


def _finish(uids: IdMap, gids: IdMap, base: BaseIds, user: tuple[int, int] = (0, 0)) -> ContainerIds:
    return ContainerIds(
        uids=uids.split_along(base.uids, "uid").validate("uid"),
        gids=gids.split_along(base.gids, "gid").validate("gid"),
        user=user,
    )
