"""Subordinate ids and the two set-uid programs that map them: subuid(5), newuidmap(1), capabilities(7).

Without them a container has one id only: `apt`, `su` and most services in an image fail, but `jubako run` works.
"""

from __future__ import annotations

import os
import stat

from jubako.doctor.finding import Finding, note, ok, problem, warning
from jubako.doctor.programs import GETSUBIDS, SHADOW
from jubako.doctor.remedies import install
from jubako.errors import JubakoError
from jubako.ids import base, subordinate
from jubako.ids.base import Caller
from jubako.ids.base_ids import DIRECTLY, SINGLE, BaseIds
from jubako.ids.idmap import END_OF_IDS, IdMap
from jubako.ids.subordinate import SUBGID, SUBUID, SubordinateRange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.doctor.host import Host

ENOUGH = 65536
"""An image may use any id up to nobody (65534)."""

_FIRST_FREE = 100000  # SUB_UID_MIN of login.defs(5)
_LAST = 600100000  # SUB_UID_MAX
_CAPABILITY = "security.capability"
_CAP_SYS_ADMIN = 21
_CAP_SETUID_SETGID = {"newuidmap": 7, "newgidmap": 6}


def everybody(host: Host, path: str) -> tuple[SubordinateRange, ...]:
    """All ranges that the file gives to anybody."""
    return subordinate.read_all_ranges(host.path(path))[0]


def own_ranges(host: Host, path: str) -> tuple[SubordinateRange, ...]:
    """The account's ranges, by name and by number, in the file's order; getsubids(1) tells those of a service."""
    if subordinate.asks_a_service(host.path(subordinate.NSSWITCH)):
        return _asked(host, path)
    return tuple(e for e in everybody(host, path) if e.owner in (host.user, str(host.uid)) and e.count)


def _asked(host: Host, path: str) -> tuple[SubordinateRange, ...]:
    program = host.which("getsubids")
    if program is None:
        return ()
    trial = host.attempt("getsubids", program, host.user or str(host.uid), "-g" if path == SUBGID else "")
    pairs = [word.split(":") for word in trial.detail.split()] if trial.ok else []
    return tuple(SubordinateRange(host.user, int(start), int(count), program) for start, count in pairs)


def free_start(host: Host) -> int:
    """Where a range of 65536 ids is free of every other range and of every account, for uids and gids alike."""
    taken = [entry.interval for path in (SUBUID, SUBGID) for entry in everybody(host, path)]
    for path in ("/etc/passwd", "/etc/group"):
        taken += [(number, number + 1) for number in _account_ids(host, path)]
    start = _FIRST_FREE
    for first, end in sorted(taken):
        if first < start + ENOUGH and end > start:
            start = end
    return start if start + ENOUGH <= _LAST else _FIRST_FREE


def subordinate_uids(host: Host) -> Finding:
    """Does the account have subordinate user ids?"""
    return _subordinate(host, "subordinate uids", SUBUID)


def subordinate_gids(host: Host) -> Finding:
    """Does the account have subordinate group ids?"""
    return _subordinate(host, "subordinate gids", SUBGID)


def _subordinate(host: Host, name: str, path: str) -> Finding:
    ranges = own_ranges(host, path)
    total = sum(entry.count for entry in ranges)
    shown = ", ".join(f"{entry.start}:{entry.count}" for entry in ranges) or "none"
    evidence = f"{path}, entries of {host.user or host.uid}: {shown}"
    service = subordinate.asks_a_service(host.path(subordinate.NSSWITCH))
    if service:
        evidence = f"{subordinate.NSSWITCH}: subid: {service}; getsubids said: {shown}"
        if host.which("getsubids") is None:
            remedy = install(host, GETSUBIDS)
            return warning(name, f"come from {service}, and getsubids is missing", evidence, remedy=remedy)
    if host.uid == 0 and not ranges:
        return note(name, "none for root, who may map any range", evidence)
    if total >= ENOUGH:
        return ok(name, f"{total} ids", evidence)
    if service:
        remedy = (
            f"# Ask whoever runs {service} for {ENOUGH} ids; what it gives now:\n"
            f"getsubids {host.user}; getsubids -g {host.user}"
        )
        return warning(name, f"{total} ids from {service}: images use up to {ENOUGH}", evidence, remedy=remedy)
    summary = f"only {total} ids: images use up to {ENOUGH}" if ranges else "none: containers have a single id"
    return warning(name, summary, evidence, remedy=_add_ranges(host))


def _add_ranges(host: Host) -> str:
    """The command for what is lacking: both kinds at once where both are."""
    start = free_start(host)
    span = f"{start}-{start + ENOUGH - 1}"
    who = host.user or str(host.uid)
    lacking = [path for path in (SUBUID, SUBGID) if sum(e.count for e in own_ranges(host, path)) < ENOUGH]
    flags = " ".join(f"--add-{path.removeprefix('/etc/')}s {span}" for path in lacking)
    return (
        f"{host.sudo}usermod {flags} {who}\n"
        "# where usermod does not know these flags (busybox):\n"
        f"# echo {who}:{start}:{ENOUGH} | {host.sudo}tee -a {' '.join(lacking)}\n"
        "# then, for a base namespace with the new map:\n"
        "jubako system shutdown"
    )


def overlapping_ranges(host: Host) -> Finding:
    """Do the account's ranges belong to it alone? Whoever shares a range may signal and trace our containers."""
    name = "overlapping ranges"
    clashes: list[str] = []
    wrong: list[str] = []
    remedies: list[str] = []
    for path, accounts, flag in ((SUBUID, "/etc/passwd", "subuids"), (SUBGID, "/etc/group", "subgids")):
        ranges, broken = subordinate.read_all_ranges(host.path(path))
        wrong += [f"{failure.subject}: {failure.reason}" for failure in broken]
        pairs = subordinate.find_overlaps(ranges, (host.user, str(host.uid)))
        clashes += [f"{path}: {first} and {second} overlap" for first, second in pairs]
        shared = {entry for pair in pairs for entry in pair if entry.owner in (host.user, str(host.uid))}
        for own in own_ranges(host, path):
            people = [number for number in _account_ids(host, accounts) if own.start <= number < own.interval[1]]
            clashes += [f"{path}: {own} contains the id {number} of {accounts}" for number in people[:4]]
            if people or own in shared:
                start = free_start(host)
                remedies.append(
                    f"{host.sudo}usermod --del-{flag} {own.start}-{own.interval[1] - 1} {host.user}\n"
                    f"{host.sudo}usermod --add-{flag} {start}-{start + ENOUGH - 1} {host.user}"
                )
    if clashes:
        note_ = "# Containers that exist keep files of the old ids: remove or chown them."
        return warning(
            name,
            "the account's ids belong to somebody else too",
            *clashes,
            *wrong,
            remedy="\n".join([*remedies, note_, "jubako system shutdown"]),
        )
    if wrong:
        return warning(
            name, "a line is malformed", *wrong, remedy=f"{host.sudo}${{EDITOR:-vi}} /etc/subuid /etc/subgid"
        )
    return ok(name, "nobody shares the account's ids", "compared /etc/subuid and /etc/subgid with passwd and group")


def _account_ids(host: Host, path: str) -> list[int]:
    fields = [line.split(":") for line in (host.read(path) or "").splitlines()]
    return [int(field[2]) for field in fields if len(field) > 3 and field[2].isdigit()]


def newuidmap(host: Host) -> Finding:
    """Is newuidmap there, and has it the power it needs?"""
    return _helper(host, "newuidmap")


def newgidmap(host: Host) -> Finding:
    """Is newgidmap there, and has it the power it needs?"""
    return _helper(host, "newgidmap")


def _helper(host: Host, name: str) -> Finding:
    path = host.which(name)
    if host.uid == 0:
        return ok(name, "not needed: root writes the maps itself", f"found: {path or 'no'}")
    if path is None:
        return warning(
            name,
            "missing: containers have a single id",
            f"looked for it in PATH={host.environ.get('PATH', '')}",
            remedy=install(host, SHADOW),
        )
    found = host.stat(path)
    mode = found.st_mode if found else 0
    owner = found.st_uid if found else -1
    capable = _has_capability(host, path, _CAP_SETUID_SETGID[name])
    evidence = f"{path}: mode {stat.filemode(mode)}, owner {owner}, file capability {'yes' if capable else 'no'}"
    setuid = bool(mode & stat.S_ISUID) and (owner == 0 or host.root != "/")
    mount = host.mount_of(os.path.realpath(path) if host.root == "/" else path)
    if mount is not None and "nosuid" in mount.options:
        return warning(
            name,
            f"powerless: {mount.path} is mounted nosuid",
            evidence,
            f"{mount.path}: {','.join(mount.options)}",
            remedy=f"{host.sudo}mount -o remount,suid {mount.path}",
        )
    if not setuid and not capable:
        needed = "cap_setuid" if name == "newuidmap" else "cap_setgid"
        return warning(
            name,
            "has neither the set-uid bit nor the file capability",
            evidence,
            remedy=f"{host.sudo}chmod u+s {path}\n# or with less power:\n# {host.sudo}setcap {needed}+ep {path}",
        )
    return ok(name, "has the power to write id maps", evidence)


def _has_capability(host: Host, path: str, bit: int) -> bool:
    """Whether the file's permitted set holds the capability (struct vfs_cap_data, capabilities(7))."""
    try:
        data = os.getxattr(host.path(path), _CAPABILITY)
    except OSError:
        return False
    return len(data) >= 8 and bool(int.from_bytes(data[4:8], "little") & 1 << bit)


def base_ids(host: Host) -> BaseIds:
    """The base namespace's maps as `jubako run` would choose them for this account."""
    if host.root == "/" and host.uid == os.getuid():
        return base.find_base()
    whole = IdMap.of((0, 0, END_OF_IDS))
    caller = Caller(host.uid, host.gid, host.user, whole, whole, may_write=host.uid == 0)
    if host.uid == 0:
        return base.compute_root_base(caller, everybody(host, SUBUID), everybody(host, SUBGID))
    return base.compute_user_base(caller, own_ranges(host, SUBUID), own_ranges(host, SUBGID))


def whole_map(host: Host) -> Finding:
    """The base map, written for real into a namespace that is thrown away."""
    name = "id map"
    try:
        chosen = base_ids(host)
    except JubakoError as failure:
        remedy = "\n".join(f"# {line}" for line in failure.hint.splitlines()) or "jubako doctor ids"
        return problem(
            name, "no map can be chosen", f"{failure.operation} {failure.subject}: {failure.reason}", remedy=remedy
        )
    shown = chosen.uids.text().strip().replace("\n", ", ")
    if chosen.writer == SINGLE:
        causes = tuple(str(loss) for loss in chosen.lost)
        return note(name, f"{shown}: a single id, the account's own as root", *causes, remedy=_remedies(chosen))
    helpers = [host.which(program) or "" for program in ("newuidmap", "newgidmap")]
    if chosen.writer == DIRECTLY:
        helpers = ["", ""]
    trial = host.attempt("id_map", chosen.uids.text(), chosen.gids.text(), *helpers)
    if trial.ok:
        return ok(name, shown, f"tried, in a namespace of its own: {trial}", *(str(loss) for loss in chosen.lost))
    if not host.attempt("user_namespace").ok:
        return problem(
            name,
            "cannot be written without a user namespace",
            f"{shown}: {trial}",
            remedy="# Help user namespaces first, see there.",
        )
    return problem(
        name,
        "the ids cannot be mapped, so no container can start",
        f"{shown}: {trial}",
        remedy=_power(host, helpers),
    )


def _power(host: Host, helpers: list[str]) -> str:
    """What lets newuidmap write: a file capability where the set-uid bit does not carry CAP_SYS_ADMIN.

    Writing a map asks for CAP_SYS_ADMIN in the new namespace (user_namespaces(7)). Its owner has that, and so has root,
    unless a container around us keeps the capability out of the bounding set: there a helper that becomes root fails,
    and one that stays the caller and has CAP_SETUID from its file succeeds.
    """
    if int(host.status("CapBnd") or "0", 16) >> _CAP_SYS_ADMIN & 1:
        return "# See the findings on newuidmap, newgidmap and no new privileges:\njubako doctor ids security"
    uid_helper, gid_helper = helpers
    return (
        "# The container around us withholds CAP_SYS_ADMIN, so becoming root does not help these programs;\n"
        "# a file capability does (in the image, as its root):\n"
        f"{host.sudo}chmod u-s {uid_helper} {gid_helper}\n"
        f"{host.sudo}setcap cap_setuid+ep {uid_helper}\n"
        f"{host.sudo}setcap cap_setgid+ep {gid_helper}"
    )


def _remedies(chosen: BaseIds) -> str:
    return "\n".join(f"# {loss.remedy}" for loss in chosen.lost if loss.remedy)


CHECKS = (subordinate_uids, subordinate_gids, overlapping_ranges, newuidmap, newgidmap, whole_map)
