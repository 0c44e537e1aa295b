"""Writing id maps: directly where the writer may, through newuidmap(1) and newgidmap(1) where it may not.

The two set-uid programs are the slow part of making a user namespace (3 to 5 ms), so they run side by side and
`begin_id_maps` returns at once: whoever waits for them has something better to do meanwhile. The kernel's rules are in
user_namespaces(7).
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.errors import JubakoError
from jubako.ids.idmap import IdMap
from jubako.record import record

PACKAGES = "Debian and Ubuntu: uidmap, Fedora: shadow-utils, Arch: shadow, Alpine: shadow-uidmap"
_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@record
class Helper:
    """One running newuidmap or newgidmap: `output` is the pipe that its messages come through."""

    program: str
    kind: str
    pid: int
    output: int
    target: int
    text: str


@record
class PendingMaps:
    """Both helpers of one process, to be handed to `join_id_maps` exactly once."""

    helpers: tuple[Helper, ...]


def begin_id_maps(pid: int, uid_map: IdMap, gid_map: IdMap) -> PendingMaps:
    """Start newuidmap and newgidmap for the process `pid`; it must stay as it is until `join_id_maps` returns.

    A missing program is a `JubakoError` that names its package.
    """
    helpers: list[Helper] = []
    try:
        for name, kind, id_map in (("newuidmap", "uid", uid_map), ("newgidmap", "gid", gid_map)):
            helpers.append(_spawn(name, kind, pid, id_map))
    except JubakoError:
        _collect(helpers)
        raise
    return PendingMaps(tuple(helpers))


def join_id_maps(pending: PendingMaps) -> None:
    """Wait for both; a failure is a `JubakoError` with the program's own words and what most likely is the cause."""
    for helper, status, message in _collect(list(pending.helpers)):
        if status == 0 or (status is None and not message):
            continue
        raise JubakoError(
            f"write {helper.kind} map of process",
            f"{helper.target} ({helper.text}) with {helper.program}",
            reason=message or f"it ended with {_show_status(status)} and said nothing",
            hint=explain_failure(helper.program, message),
        )


def write_id_maps(process: int | str, uid_map: IdMap, gid_map: IdMap, setgroups_deny: bool = False) -> None:
    """Write the maps of a process in a new user namespace, named by its pid or its directory under /proc.

    The writer must be privileged in its own user namespace (the namespace's parent), or map only itself; the latter
    needs `setgroups_deny`, and then no process of the namespace can ever change its groups (CVE-2014-8989).
    """
    directory = f"/proc/{process}" if isinstance(process, int) else process
    if setgroups_deny:
        _write(f"{directory}/setgroups", "deny")
    _write(f"{directory}/uid_map", uid_map.text())
    _write(f"{directory}/gid_map", gid_map.text())


def find_program(name: str) -> str:
    """The path of `name` in PATH and where system programs usually are, or an empty string."""
    for directory in f"{os.environ.get('PATH', '')}:{_USUAL_PATH}".split(":"):
        # A relative entry of PATH is never followed: these programs are handed our ids.
        if directory.startswith("/"):
            path = f"{directory.rstrip('/')}/{name}"
            if os.access(path, os.X_OK) and os.path.isfile(path):
                return path
    return ""


def find_obstacle(program: str) -> tuple[str, str]:
    """Why the helper `program` (a path) has no power to write maps, and the remedy; empty where it has.

    It must be set-uid root or carry its file capability, on a file system without `nosuid`, and the caller must not
    have NoNewPrivs (prctl(2), PR_SET_NO_NEW_PRIVS), which makes both ineffective.
    """
    if no_new_privs():
        return "this process has NoNewPrivs, so no program it starts gains rights", (
            "start jubako outside of the sandbox or service (NoNewPrivileges=) that set it"
        )
    try:
        status = os.stat(program)
        if os.statvfs(program).f_flag & os.ST_NOSUID:
            return f"{program} lies on a file system that is mounted nosuid", "as root: remount it with suid"
    except OSError as failure:
        return f"{program}: {failure.strerror}", f"install it ({PACKAGES})"
    if status.st_mode & stat.S_ISUID:
        if status.st_uid == 0:
            return "", ""
        return f"{program} is set-uid, but its owner is not root in this user namespace", (
            "start jubako outside of that namespace"
        )
    try:
        os.getxattr(program, "security.capability")
    except OSError:
        kind = _kind_of(program)
        return f"{program} is neither set-uid root nor has a file capability", (
            f"as root: chmod u+s {program}, or setcap cap_set{kind}=ep {program}"
        )
    return "", ""


def explain_failure(program: str, message: str) -> str:
    """The hint for a helper that failed with `message`."""
    kind = _kind_of(program)
    if "not allowed" in message:
        return (
            f"the range is not yours in /etc/sub{kind}: compare what stands there, or have it added by root with "
            f"usermod --add-sub{kind}s FIRST-LAST USER"
        )
    if "owned by a different user" in message:
        return (
            f"{os.path.basename(program)} insists that the process is yours, is dumpable, and has your primary group "
            "of /etc/passwd (not one from newgrp or sg)"
        )
    cause, remedy = find_obstacle(program)
    if cause:
        return f"{cause}; {remedy}"
    if "Operation not permitted" in message:
        return (
            "inside a container or another user namespace, the ranges must themselves be mapped there: "
            f"compare /proc/self/{kind}_map"
        )
    return "run `jubako doctor` for the state of subordinate ids"


def no_new_privs() -> bool:
    """Whether this process has NoNewPrivs set."""
    return _status_field("NoNewPrivs") == "1"


def effective_capabilities() -> int:
    """This process's effective capabilities in its own user namespace, as a bit set."""
    return int(_status_field("CapEff") or "0", 16)


def _spawn(name: str, kind: str, pid: int, id_map: IdMap) -> Helper:
    program = find_program(name)
    if not program:
        raise JubakoError(
            f"write {kind} map of process",
            str(pid),
            reason=f"the program {name} is not installed",
            hint=f"install it ({PACKAGES})",
        )
    arguments = [program, str(pid)]
    for entry in id_map.entries:
        arguments += (str(entry.inside), str(entry.outside), str(entry.size))
    read_end, write_end = os.pipe()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, write_end, 1), (os.POSIX_SPAWN_DUP2, write_end, 2)]
        child = os.posix_spawn(program, arguments, {"LC_ALL": "C"}, file_actions=actions)
    except OSError as failure:
        os.close(read_end)
        raise JubakoError.from_os_error("run", program, failure) from failure
    finally:
        os.close(write_end)
    return Helper(program, kind, child, read_end, pid, str(id_map))


def _collect(helpers: list[Helper]) -> list[tuple[Helper, int | None, str]]:
    """Wait for every helper, also where one of them failed, so that neither a child nor a descriptor stays."""
    results: list[tuple[Helper, int | None, str]] = []
    for helper in helpers:
        with open(helper.output, "rb", buffering=0) as pipe:
            message = pipe.read() or b""
        try:
            status: int | None = os.waitpid(helper.pid, 0)[1]
        except ChildProcessError:  # the caller ignores SIGCHLD, so the kernel has reaped it: its words must do
            status = None
        words = " ".join(message.decode(errors="replace").split())
        results.append((helper, status, words.removeprefix(f"{os.path.basename(helper.program)}: ")))
    return results


def _kind_of(program: str) -> str:
    return "gid" if program.endswith("newgidmap") else "uid"


def _show_status(status: int | None) -> str:
    code = os.waitstatus_to_exitcode(status or 0)
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as failure:
        shown = text.strip().replace("\n", ", ")
        raise JubakoError(
            "write", f"{path} ({shown})", errno=failure.errno or 0, hint=_write_hint(path, failure.errno or 0)
        ) from failure


def _write_hint(path: str, number: int) -> str:
    if number == errno.EINVAL:
        return "the kernel found the map malformed: an overlap, an empty range, or too long"
    if number == errno.EACCES:
        # Its files under /proc then belong to the host's root (proc(5)).
        return "the process is another user's or not dumpable; changing its uid makes it so, PR_SET_DUMPABLE undoes it"
    if number == errno.EPERM:
        if path.endswith("setgroups"):
            return "setgroups can be denied only before gid_map is written, and by the namespace's owner"
        return (
            "a map is written once, with CAP_SETUID and CAP_SETGID in the parent namespace (and CAP_SETFCAP where its "
            "id 0 is mapped), and each range must lie in one range of the parent's map"
        )
    return ""


def _status_field(name: str) -> str:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(f"{name}:"):
                    return line.split(":", 1)[1].strip()
    except OSError:  # no /proc: nothing is known, and the attempt itself will tell
        pass
    return ""
