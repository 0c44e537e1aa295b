"""Steps that decide who the program is: ids, groups, capabilities (credentials(7), capabilities(7), prctl(2))."""

from __future__ import annotations

import errno
import os
import stat

from jubako.errors import JubakoError
from jubako.linux import caps, prctl
from jubako.linux.openat2 import RESOLVE_NO_MAGICLINKS, openat2
from jubako.plan.step import Slots, Step, printable, step
from jubako.spec.passwd import ResolvedUser, lookup_groups, lookup_user
from jubako.spec.types import Capabilities

_BIG_FILE = 1 << 24


@step()
class ResolveUser(Step):
    """Names are looked up in the container's own passwd and group files, as hostile as the rest of it."""

    user: str
    groups: tuple[str, ...] = ()

    produces = ("user",)

    def apply(self, slots: Slots) -> None:
        passwd, group = _read_inside("/etc/passwd"), _read_inside("/etc/group")
        found = lookup_user(self.user, passwd, group)
        extra = lookup_groups(self.groups, group)
        # The primary group is among them, or a program could drop it and escape a mode like 0604 (CVE-2022-36109).
        groups = tuple(dict.fromkeys((found.gid, *found.additional_gids, *extra)))
        slots["user"] = ResolvedUser(found.uid, found.gid, groups, found.home, found.name)

    def call(self) -> str:
        return 'openat2("/etc/passwd", RESOLVE_NO_MAGICLINKS); openat2("/etc/group", RESOLVE_NO_MAGICLINKS)'

    def purpose(self) -> str:
        also = f" and the groups {' '.join(self.groups)}" if self.groups else ""
        who = printable(f"{self.user or '0'}{also}")
        return f"Look up the user {who} in the container's own files, as hostile as the rest of it"

    def operation(self) -> str:
        return "look up user"

    def subject(self) -> str:
        return self.user


@step()
class SetUser(Step):
    """The program's ids and groups; capabilities that it shall have survive the change."""

    keep_capabilities: bool
    umask: int = 0o022
    change_groups: bool = True

    needs = ("user",)

    def apply(self, slots: Slots) -> None:
        user: ResolvedUser = slots["user"]
        if self.change_groups:
            # with the primary group, so that it is no way around a group's missing rights either (CVE-2022-36109)
            groups = tuple(dict.fromkeys((user.gid, *user.additional_gids)))
            try:
                os.setgroups(groups)
            except PermissionError:  # in a user namespace that was joined, and whose groups are for ever the caller's
                if groups != (user.gid,) or not _groups_are_denied():
                    raise
        if self.keep_capabilities:
            prctl.prctl(prctl.PR_SET_KEEPCAPS, 1)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        os.umask(self.umask)

    def call(self) -> str:
        groups = "setgroups(groups); " if self.change_groups else ""
        keep = "prctl(PR_SET_KEEPCAPS, 1); " if self.keep_capabilities else ""
        return f"{groups}{keep}setresgid(gid, gid, gid); setresuid(uid, uid, uid); umask({self.umask:04o})"

    def operation(self) -> str:
        return "become the container's user"

    def hint(self, errno_: int) -> str:
        if errno_ == errno.EINVAL:
            return (
                "an id of this user or of its groups is not mapped in the container:"
                " give more subordinate ids, or another --user or --userns"
            )
        return "supplementary groups cannot be set in a single-id map" if errno_ == errno.EPERM else ""


def _groups_are_denied() -> bool:
    try:
        with open("/proc/self/setgroups", "rb", buffering=0) as file:
            return file.read(8) == b"deny\n"
    except OSError:
        return False


@step()
class LimitCapabilities(Step):
    """No capability beyond these can be had again, not even by a set-uid program: the bounding set comes first."""

    bounding: tuple[str, ...]

    def apply(self, slots: Slots) -> None:
        caps.limit_bounding(caps.mask(self.bounding))

    def call(self) -> str:
        return "for each capability not in the list: prctl(PR_CAPBSET_DROP, capability)"

    def purpose(self) -> str:
        kept = _capabilities(self.bounding)
        return f"Beyond these no capability can be had again, not even by a set-uid program: {kept}"


@step()
class SetCapabilities(Step):
    """The effective, permitted, inheritable and ambient sets of the program (capabilities(7))."""

    sets: Capabilities
    with_admin: bool = False
    """Keep CAP_SYS_ADMIN until execve(2), which takes it away: loading a filter without no_new_privs wants it."""

    def apply(self, slots: Slots) -> None:
        extra = caps.mask(("CAP_SYS_ADMIN",)) if self.with_admin else 0
        sets = self.sets
        caps.capset(caps.mask(sets.effective) | extra, caps.mask(sets.permitted) | extra, caps.mask(sets.inheritable))
        caps.set_ambient(caps.mask(sets.ambient))

    def call(self) -> str:
        sets, masks = self.sets, {}
        for name in ("effective", "permitted", "inheritable"):
            masks[name] = caps.mask(getattr(sets, name))
            if self.with_admin and name != "inheritable":
                masks[name] |= caps.mask(("CAP_SYS_ADMIN",))
        ambient = "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)"
        if sets.ambient:
            ambient += "; for each: prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)"
        return f"capset({{{', '.join(f'{name}={mask:#x}' for name, mask in masks.items())}}}); {ambient}"

    def purpose(self) -> str:
        sets = self.sets
        if sets.effective == sets.permitted == sets.inheritable == sets.ambient:
            return f"The program's capabilities, in all four sets: {_capabilities(sets.effective)}"
        ambient = f", ambient {_capabilities(sets.ambient)}" if sets.ambient else ", none ambient"
        return (
            f"The program's capabilities: effective {_capabilities(sets.effective)}; permitted"
            f" {'the same' if sets.permitted == sets.effective else _capabilities(sets.permitted)}; inheritable"
            f" {'the same' if sets.inheritable == sets.effective else _capabilities(sets.inheritable)}{ambient}"
        )


@step()
class SetNoNewPrivileges(Step):
    """From here on no execve gains privileges: set-uid bits and file capabilities are without force."""

    def apply(self, slots: Slots) -> None:
        prctl.set_no_new_privs()

    def call(self) -> str:
        return "prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)"


def _read_inside(path: str) -> bytes:
    """The text of a regular file of the container; nothing if there is none. A FIFO cannot make us wait."""
    try:
        fd = openat2(-100, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, 0, RESOLVE_NO_MAGICLINKS)
    except OSError as failure:
        if failure.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENXIO):
            return b""
        if failure.errno not in (errno.ENOSYS, errno.EPERM):
            raise JubakoError.from_os_error("read", path, failure) from failure
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return b""
    with os.fdopen(fd, "rb", buffering=0) as file:
        text = b""
        while len(text) < _BIG_FILE and (piece := file.read(1 << 20)):  # terabytes of nothing are made easily
            text += piece
        return text


def _capabilities(names: tuple[str, ...]) -> str:
    return " ".join(sorted(name.removeprefix("CAP_").lower() for name in names)) or "none"
