"""The fake root's ids: `0 <own id> 1`, and the subordinate ranges from 1 on (subuid(5)), not nested in any base.

The host's root keeps its own id too: whoever asks for a fake root as root is told so, and gets no more rights than
root's files give.
"""

from __future__ import annotations

from jubako.errors import JubakoError
from jubako.ids.base import (
    compute_user_base,
    find_base,
    find_caller,
    find_helper_obstacle,
    find_private_range,
    single_base,
)
from jubako.ids.base_ids import DIRECTLY, SINGLE_COST, BaseIds, Loss
from jubako.ids.idmap import END_OF_IDS, IdRange
from jubako.ids.newidmap import find_program
from jubako.ids.subordinate import (
    GETSUBIDS_PACKAGES,
    SUBGID,
    SUBUID,
    SubordinateRange,
    ask_getsubids,
    read_all_ranges,
    read_ranges_of,
    read_subordinate_gids,
    read_subordinate_uids,
)
from jubako.record import replace
from jubako.rootless.options import DYNAMIC, STATIC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.ids.base import Caller

_ROOTS_IDS = 65536


def choose_ids(source: str) -> BaseIds:
    """The maps for this process's user; `source` says where subordinate ids are asked for."""
    caller = find_caller()
    whole = (IdRange(0, 0, END_OF_IDS),)
    if caller.uid == 0 and (caller.uid_map.entries != whole or caller.gid_map.entries != whole):
        return find_base()  # root of a user namespace already: it gives what it has
    if caller.uid == 0 and caller.may_write:
        ids = compute_user_base(caller, *_ranges_of_root(caller, source))
        return replace(ids, writer=DIRECTLY, setgroups_deny=caller.setgroups_denied)
    obstacle, remedy = find_helper_obstacle()
    if obstacle:
        return single_base(caller, Loss(obstacle, SINGLE_COST, remedy))
    return compute_user_base(caller, *_ranges_of(caller, source))


Ranges = tuple[tuple[SubordinateRange, ...], tuple[SubordinateRange, ...]]


def _ranges_of(caller: Caller, source: str) -> Ranges:
    name, uid = caller.name, caller.uid
    if source == STATIC:
        return read_ranges_of(SUBUID, name, uid), read_ranges_of(SUBGID, name, uid)
    if source == DYNAMIC:
        program = find_program("getsubids")
        if not program:
            raise JubakoError(
                "read subordinate ids", "--subid-source=dynamic", reason="the program getsubids is not installed",
                hint=f"install it ({GETSUBIDS_PACKAGES}), or use --subid-source=static",
            )  # fmt: skip
        who = name or str(uid)
        return ask_getsubids(program, who), ask_getsubids(program, who, "-g")
    return read_subordinate_uids(name, uid), read_subordinate_gids(name, uid)


def _ranges_of_root(caller: Caller, source: str) -> Ranges:
    """Root's own ranges; where the files have none, a private one that nobody has been given."""
    uids, gids = _ranges_of(caller, source)
    if not uids or not gids:
        everybodys = (*read_all_ranges(SUBUID)[0], *read_all_ranges(SUBGID)[0])
        start = find_private_range(tuple(entry.interval for entry in everybodys))
        private = (SubordinateRange("root", start, _ROOTS_IDS),)
        uids, gids = uids or private, gids or private
    return uids, gids
