"""Users and groups by name: the container's passwd(5) and group(5), read as docker and podman read them.

The files belong to the container, so their text is hostile: whatever is not a proper line is skipped, and no line can
give an id that the kernel does not have. Nothing here opens a file: the text is read inside, after the pivot.
The rules are those of moby's `user.GetExecUser`, that runc, docker and podman share.
"""

from __future__ import annotations

from jubako.errors import NotFoundError, UsageError
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

HIGHEST_ID = 0xFFFFFFFE  # (uid_t) -1 means "no id"
_LONGEST_LINE = 1 << 20


@record
class ResolvedUser:
    """Who the program runs as; `name` is empty for a number that the passwd file does not list."""

    uid: int
    gid: int
    additional_gids: tuple[int, ...] = ()
    home: str = "/"
    name: str = ""


def lookup_user(user: str, passwd: str | bytes, group: str | bytes) -> ResolvedUser:
    """The ids that `user` (`UID`, `name`, `UID:GID`, `name:group`, `:group`, empty for root) means in a container.

    A number is an id even where a user has it for a name. Without an explicit group, a listed user has its primary
    group and those that name it as a member; with one, only that. Raises `NotFoundError` for unknown names.
    """
    user_part, _, group_part = user.partition(":")
    wanted = _number(user_part, user, "user") if user_part else 0
    uid, gid, home, name = 0, 0, "/", ""
    for entry_name, fields in _lines(passwd, 4):
        entry_uid, entry_gid = parse_id(fields[2]), parse_id(fields[3])
        if entry_uid is None or entry_gid is None:
            continue
        if entry_uid == wanted if wanted is not None else entry_name == user_part:
            uid, gid, name = entry_uid, entry_gid, entry_name
            if len(fields) > 5 and fields[5].startswith("/"):
                home = fields[5]
            break
    else:
        if wanted is None:
            raise NotFoundError(
                "look up user",
                user,
                reason=f"unable to find user {user_part} in the container's /etc/passwd",
                hint="give a numeric id, as in --user 1000:1000, or create the user in the image",
            )
        uid = wanted
    if group_part:
        return ResolvedUser(uid, lookup_group(group_part, group, user), (), home, name)
    members = tuple(gid for gid, names in _groups(group) if name and name in names)
    return ResolvedUser(uid, gid, tuple(dict.fromkeys(members)), home, name)


def lookup_group(name: str, group: str | bytes, subject: str = "") -> int:
    """The id of a group, by number or by its name in the container's group file. `subject` is what the user wrote."""
    wanted = _number(name, subject or name, "group")
    if wanted is not None:
        return wanted
    for entry_name, fields in _lines(group, 3):
        gid = parse_id(fields[2])
        if gid is not None and entry_name == name:
            return gid
    raise NotFoundError(
        "look up group",
        subject or name,
        reason=f"unable to find group {name} in the container's /etc/group",
        hint="give a numeric id, or create the group in the image",
    )


def lookup_groups(names: tuple[str, ...], group: str | bytes) -> tuple[int, ...]:
    """The ids of several groups (`--group-add`), in order, each once."""
    return tuple(dict.fromkeys(lookup_group(name, group) for name in names))


def parse_id(text: str) -> int | None:
    """`text` as a user or group id, None if it is none: decimal digits, and not beyond what the kernel has."""
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > HIGHEST_ID:
        return None
    return int(text)


def _number(text: str, subject: str, kind: str) -> int | None:
    """The id if `text` is a number, None if it is a name."""
    number = parse_id(text)
    digits = text.removeprefix("-")
    if number is None and digits.isascii() and digits.isdigit():
        raise UsageError(f"look up {kind}", subject, reason=f"{text} is not between 0 and {HIGHEST_ID}")
    return number


def _groups(group: str | bytes) -> Iterator[tuple[int, list[str]]]:
    """Each group's id with its members."""
    for _, fields in _lines(group, 4):
        gid = parse_id(fields[2])
        if gid is not None:
            yield gid, fields[3].split(",")


def _lines(text: str | bytes, least: int) -> Iterator[tuple[str, list[str]]]:
    """The name and all fields of every line that has a name and at least `least` fields."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    for line in text.split("\n"):
        line = line.strip(" \t\r")
        if not line or line[0] == "#" or len(line) > _LONGEST_LINE or "\0" in line:
            continue
        fields = line.split(":")
        if fields[0] and len(fields) >= least:
            yield fields[0], fields
