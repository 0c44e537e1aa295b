"""Choosing the base user namespace's maps: which ids a user has to give to containers, and who may write them.

An ordinary user has `0 <uid> 1` and the subordinate ranges one after the other from inside id 1 on (subuid(5)), the
order in which podman puts them. Root has a private range, so that root of a container is nobody on the host. Whoever
has neither ranges nor newuidmap has the one id that the kernel lets everybody map (user_namespaces(7)), and is told
what that costs.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError
from jubako.ids.base_ids import (
    DIRECTLY,
    SINGLE,
    SINGLE_COST,
    WITH_HELPERS,
    BaseIds,
    Loss,
    setgroups_denied,
)
from jubako.ids.idmap import END_OF_IDS, IdMap, IdRange, read_id_map
from jubako.ids.intervals import Intervals, count, intersect, show, subtract
from jubako.ids.newidmap import (
    PACKAGES,
    begin_id_maps,
    effective_capabilities,
    find_obstacle,
    find_program,
    join_id_maps,
    write_id_maps,
)
from jubako.ids.subordinate import (
    SUBGID,
    SUBUID,
    SubordinateRange,
    read_all_ranges,
    read_ranges_of,
    read_subordinate_gids,
    read_subordinate_uids,
    suggest_range,
)
from jubako.record import record

# Root's private range where /etc/subuid names none: 64 Mi ids (1024 containers of 65536) above what sssd gives to
# directory users (to 2000200000) and below systemd's "foreign" range (0x7FFE0000); see systemd's UIDS-GIDS page.
PRIVATE_SIZE = 0x04000000
PRIVATE_STARTS = (0x78000000, 0x74000000, 0x70000000)
PRIVATE_OWNERS = ("jubako", "containers")

_CAP_SETGID = 6
_CAP_SETUID = 7


@record
class Caller:
    """Who asks, and the user namespace that the asking happens in: its own maps, as /proc/self shows them."""

    uid: int
    gid: int
    name: str
    uid_map: IdMap
    gid_map: IdMap
    may_write: bool = False
    setgroups_denied: bool = False


def find_base() -> BaseIds:
    """The base that this process's user can have on this host."""
    caller = find_caller()
    if _is_root(caller):
        return compute_root_base(caller, _everybodys(SUBUID), _everybodys(SUBGID))
    if caller.uid == 0 and _is_whole(caller.uid_map):
        # The one id that could be mapped is the host's root itself, and a container must never get that unasked.
        raise JubakoError(
            "choose ids for root's containers",
            reason="without CAP_SETUID and CAP_SETGID root can map nobody but itself",
            hint="start jubako as an ordinary user, or with both capabilities",
        )
    obstacle, remedy = find_helper_obstacle()
    if obstacle:
        return single_base(caller, Loss(obstacle, SINGLE_COST, remedy))
    uid_ranges = read_subordinate_uids(caller.name, caller.uid)
    gid_ranges = read_subordinate_gids(caller.name, caller.uid)
    return compute_user_base(caller, uid_ranges, gid_ranges)


def find_caller() -> Caller:
    """The facts about this process that decide its base."""
    uid = os.geteuid()
    capabilities = effective_capabilities()
    return Caller(
        uid=uid,
        gid=os.getegid(),
        name=_name_of(uid),
        uid_map=read_id_map("/proc/self/uid_map"),
        gid_map=read_id_map("/proc/self/gid_map"),
        may_write=bool(capabilities >> _CAP_SETUID & 1 and capabilities >> _CAP_SETGID & 1),
        setgroups_denied=setgroups_denied("/proc/self"),
    )


def find_helper_obstacle() -> tuple[str, str]:
    """Why newuidmap and newgidmap cannot be used here, and the remedy; two empty strings where they can."""
    for name in ("newuidmap", "newgidmap"):
        program = find_program(name)
        if not program:
            return f"the program {name} is not installed", f"install it ({PACKAGES})"
        obstacle, remedy = find_obstacle(program)
        if obstacle:
            return obstacle, remedy
    return "", ""


def compute_user_base(
    caller: Caller, uid_ranges: tuple[SubordinateRange, ...], gid_ranges: tuple[SubordinateRange, ...]
) -> BaseIds:
    """An ordinary user's base from the subordinate ranges (both kinds belong to the user)."""
    _refuse_unmapped(caller)
    uids, uid_loss = _own_then_ranges(caller.uid, uid_ranges, caller.uid_map, "uid")
    gids, gid_loss = _own_then_ranges(caller.gid, gid_ranges, caller.gid_map, "gid")
    if uids.size == 1 and gids.size == 1:
        loss = next(iter((*uid_loss, *gid_loss)), None) or _no_ranges(caller, f"{SUBUID} and {SUBGID}")
        return single_base(caller, loss)
    lost = [*uid_loss, *gid_loss]
    for id_map, ranges, path in ((uids, uid_ranges, SUBUID), (gids, gid_ranges, SUBGID)):
        if id_map.size == 1 and not ranges:
            lost.append(_no_ranges(caller, path))
    return BaseIds(
        uids=uids.split_along(caller.uid_map, "uid").validate("uid"),
        gids=gids.split_along(caller.gid_map, "gid").validate("gid"),
        writer=WITH_HELPERS,
        caller_uid=caller.uid,
        caller_gid=caller.gid,
        # newgidmap denies setgroups by itself where no range of subgid(5) allows it
        setgroups_deny=caller.setgroups_denied or gids.size == 1,
        lost=tuple(lost),
    )


def compute_root_base(
    caller: Caller, uid_ranges: tuple[SubordinateRange, ...], gid_ranges: tuple[SubordinateRange, ...]
) -> BaseIds:
    """Root's base; the ranges are *everybody's*, since the private one must collide with none.

    Root of a user namespace (a container, `unshare -r`) has no range to hide in and gives the ids that it has.
    """
    if not _is_whole(caller.uid_map) or not _is_whole(caller.gid_map):
        return _inherited_base(caller)
    uids = gids = IdMap()
    for owner in PRIVATE_OWNERS:
        uids = _one_after_the_other(uid_ranges, owner)
        gids = _one_after_the_other(gid_ranges, owner)
        if uids.entries and gids.entries:
            break
    else:
        start = find_private_range(tuple(entry.interval for entry in (*uid_ranges, *gid_ranges)))
        uids = gids = IdMap.of((0, start, PRIVATE_SIZE))
    return BaseIds(uids.validate("uid"), gids.validate("gid"), DIRECTLY, caller.uid, caller.gid)


def find_private_range(taken: Intervals) -> int:
    """The start of root's private range, clear of the ids that are `taken`."""
    for start in PRIVATE_STARTS:
        if not intersect(((start, start + PRIVATE_SIZE),), taken):
            return start
    raise JubakoError(
        "choose a private id range for root",
        reason=f"{SUBUID} and {SUBGID} give away ids in all of {', '.join(hex(start) for start in PRIVATE_STARTS)}",
        hint=f"add a range of root's containers to both files: {PRIVATE_OWNERS[0]}:START:COUNT",
    )


def single_base(caller: Caller, loss: Loss) -> BaseIds:
    """The base with the caller's own ids only, which needs no right at all."""
    _refuse_unmapped(caller)
    return BaseIds(
        uids=IdMap.of((0, caller.uid, 1)),
        gids=IdMap.of((0, caller.gid, 1)),
        writer=SINGLE,
        caller_uid=caller.uid,
        caller_gid=caller.gid,
        setgroups_deny=True,
        lost=(loss,),
    )


def write_base_maps(pid: int, base: BaseIds) -> None:
    """Write the base's maps for the process `pid`, which has just unshared its user namespace, and wait for it.

    Where there is something to do meanwhile, `begin_id_maps` and `join_id_maps` do the same in two halves.
    """
    if base.writer == WITH_HELPERS:
        join_id_maps(begin_id_maps(pid, base.uids, base.gids))
    else:
        write_id_maps(pid, base.uids, base.gids, base.setgroups_deny)


def _no_ranges(caller: Caller, path: str) -> Loss:
    who = caller.name or str(caller.uid)
    start, size = suggest_range((*read_all_ranges(SUBUID)[0], *read_all_ranges(SUBGID)[0]))
    if not caller.name:
        line = f"{caller.uid}:{start}:{size}"
        remedy = f"as root: add the line {line} to {SUBUID} and {SUBGID}; then `jubako system shutdown`"
        return Loss(f"no subordinate ids for {who} in {path}", SINGLE_COST, remedy)
    span = f"{start}-{start + size - 1}"
    return Loss(
        f"no subordinate ids for {who} in {path}",
        SINGLE_COST,
        f"as root: usermod --add-subuids {span} --add-subgids {span} {who}; then `jubako system shutdown`",
    )


def _own_then_ranges(
    own: int, ranges: tuple[SubordinateRange, ...], around: IdMap, kind: str
) -> tuple[IdMap, tuple[Loss, ...]]:
    """`0 <own> 1` and the ranges behind it, without ids that were there before or that the namespace lacks."""
    entries = [IdRange(0, own, 1)]
    lost: list[Loss] = []
    taken: Intervals = ((own, own + 1),)
    position = 1
    for given in ranges:
        usable = intersect((given.interval,), around.inside)
        if count(usable) < given.count:
            lost.append(
                Loss(
                    f"of the subordinate {kind}s {given}, {show(subtract((given.interval,), usable))} are not mapped "
                    "in the user namespace that jubako runs in",
                    "they cannot be used",
                    "start jubako outside of that container, or map more ids into it",
                )
            )
        for start, end in subtract(usable, taken):
            entries.append(IdRange(position, start, end - start))
            position += end - start
        taken = (*taken, given.interval)
    return IdMap(tuple(entries)), tuple(lost)


def _one_after_the_other(ranges: tuple[SubordinateRange, ...], owner: str) -> IdMap:
    entries: list[IdRange] = []
    position = 0
    taken: Intervals = ((0, 1),)  # never the host's root, whatever the file says
    for given in ranges:
        if given.owner != owner:
            continue
        for start, end in subtract((given.interval,), taken):
            entries.append(IdRange(position, start, end - start))
            position += end - start
        taken = (*taken, given.interval)
    return IdMap(tuple(entries))


def _inherited_base(caller: Caller) -> BaseIds:
    _refuse_unmapped(caller)
    loss = Loss(
        f"the user namespace that jubako runs in has the uids {show(caller.uid_map.inside)} "
        f"and the gids {show(caller.gid_map.inside)} only",
        SINGLE_COST,
        "map more ids into it, or start jubako outside of it",
    )
    single = caller.uid_map.size == 1 or caller.gid_map.size == 1
    return BaseIds(
        uids=caller.uid_map.identity().validate("uid"),
        gids=caller.gid_map.identity().validate("gid"),
        writer=DIRECTLY,
        caller_uid=caller.uid,
        caller_gid=caller.gid,
        setgroups_deny=caller.setgroups_denied,
        lost=(loss,) if single else (),
    )


def _everybodys(path: str) -> tuple[SubordinateRange, ...]:
    """All ranges of a file; a broken line stops root only where it is about root's own containers."""
    for owner in PRIVATE_OWNERS:
        read_ranges_of(path, owner)
    return read_all_ranges(path)[0]


def _is_root(caller: Caller) -> bool:
    return caller.uid == 0 and caller.may_write


def _is_whole(id_map: IdMap) -> bool:
    return id_map.entries == (IdRange(0, 0, END_OF_IDS),)


def _refuse_unmapped(caller: Caller) -> None:
    for number, id_map, kind in ((caller.uid, caller.uid_map, "uid"), (caller.gid, caller.gid_map, "gid")):
        if id_map.to_outside(number) is None:
            raise JubakoError(
                "make a user namespace for",
                f"{kind} {number}",
                reason=f"it is not mapped in the user namespace that jubako runs in ({id_map})",
                hint=f"write that namespace's {kind}_map first (unshare --map-current-user, newuidmap)",
            )


def _name_of(uid: int) -> str:
    import pwd  # its first look-up loads the name service's libraries

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
