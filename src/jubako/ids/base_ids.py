"""The base user namespace's maps as they are; every start reads them. How they are chosen is in `ids.base`.

user_namespaces(7), "User and group ID mappings".
"""

from __future__ import annotations

from jubako.ids.idmap import IdMap, read_id_map
from jubako.record import record

WITH_HELPERS = "newuidmap"  # written by newuidmap and newgidmap
DIRECTLY = "direct"  # written by a privileged process
SINGLE = "single"  # one id each, written by the owner after denying setgroups

SINGLE_COST = (
    "only root exists in the container, as your own id; files of other owners cannot be made or kept, "
    "and programs that change their user or groups (su, apt, many servers) fail"
)


@record
class Loss:
    """What the base cannot have, for a warning: the cause, what it costs, and what would help."""

    cause: str
    cost: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.cause}: {self.cost}"


@record
class BaseIds:
    """The base's maps, and how they come to be written.

    `caller_uid` and `caller_gid` are the caller's own ids in the namespace around the base, where the base's outside
    ids count too. With `setgroups_deny` no process below the base can change its groups.
    """

    uids: IdMap
    gids: IdMap
    writer: str
    caller_uid: int
    caller_gid: int
    setgroups_deny: bool = False
    lost: tuple[Loss, ...] = ()


def read_base(process: int | str, caller_uid: int, caller_gid: int) -> BaseIds:
    """The base that the living process `process` (a pid, or its directory under /proc) is in.

    It reads two small files and no configuration, so this is what a container's start does. `lost` is filled in
    only as far as the maps show it.
    """
    directory = f"/proc/{process}" if isinstance(process, int) else process
    uids, gids = read_id_map(f"{directory}/uid_map"), read_id_map(f"{directory}/gid_map")
    denied = setgroups_denied(directory)
    single = uids.size == 1 and gids.size == 1
    loss = Loss("the base user namespace has one user id and one group id", SINGLE_COST, "run `jubako doctor`")
    return BaseIds(uids, gids, SINGLE if single else "", caller_uid, caller_gid, denied, (loss,) if single else ())


def setgroups_denied(directory: str) -> bool:
    """Whether the processes of the namespace that `directory` (of /proc) tells of may never change their groups."""
    try:
        with open(f"{directory}/setgroups", "rb", buffering=0) as file:
            return file.read(16).strip() == b"deny"
    except OSError:
        return False
