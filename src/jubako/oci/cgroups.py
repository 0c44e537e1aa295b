"""Where an OCI container's control group is, and making it: OCI runtime-spec 1.3, config-linux, "Control groups".

Only the unified hierarchy (cgroup v2) is used. Where the machine has it beside v1's controllers ("hybrid"), groups can
be killed, frozen and counted, but not limited. An ordinary user needs a group that was delegated (cgroup-v2,
"Delegation Containment"); without one a container runs in its caller's group unless what is asked for needs its own.
"""

from __future__ import annotations

import errno
import os

from jubako.errors import JubakoError, UsageError
from jubako.linux import cgroup
from jubako.plan.resources import asks_for_limits, needed_controllers, plan_writes, require_controllers
from jubako.record import record
from jubako.spec.resources import Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.plan.resources import Write
    from jubako.spec.types import Spec

CGROUPFS, SYSTEMD, DISABLED = "cgroupfs", "systemd", "disabled"

OWN_PARENT = "jubako"
"""Below it are root's containers whose document names no absolute path; it goes with the last of them."""

ASIDE = "jubako-runtime"
"""Where the runtime itself goes when it is alone in the group that a container's is to be made below."""

_SYSTEMD = "/run/systemd/system"

DELEGATE_HINT = (
    "have the controllers delegated: systemctl edit user@.service, [Service] Delegate=cpu cpuset io memory pids\n"
    "and start from a group of one's own: systemd-run --user --scope -p Delegate=yes COMMAND"
)
HYBRID_HINT = "the controllers are cgroup v1 on this machine: boot it with systemd.unified_cgroup_hierarchy=1"
BUSY_HINT = "move those processes into a group below it, or name another place by linux.cgroupsPath"


@record
class GroupChoice:
    """Where the container's processes go. `path` is the group with the limits, `inside` that of the processes, the same
    or one below; both empty where there is none, for `reason`. With systemd both are known once the unit is there."""

    path: str = ""
    inside: str = ""
    made_by: str = ""
    reason: str = ""
    unit: str = ""
    slice: str = ""
    user_manager: bool = False
    properties: tuple[tuple[str, str], ...] = ()
    subgroup: str = ""
    top: str = ""
    """The group from which on downwards controllers may be handed down: those above belong to somebody else."""
    delegate: bool = False
    """Whether `inside` becomes the property of the container's root (annotation run.oci.delegate-cgroup)."""


def choose_group(spec: Spec, identifier: str, manager: str = CGROUPFS, rootless: bool | None = None) -> GroupChoice:
    """Where the group of container `identifier` will be; nothing is made. `rootless` None is found out.

    Raises `UsageError` for a path that is none, and `JubakoError` where limits are asked for that nothing can keep.
    """
    if rootless is None:
        rootless = is_rootless()
    writes = plan_writes(spec.linux.resources or Resources())
    annotations = dict(spec.annotations)
    subgroup = _subgroup(annotations)
    if manager == SYSTEMD:
        from jubako.oci.systemd import choose_unit

        return choose_unit(spec.linux.cgroups_path, identifier, annotations, subgroup, rootless)
    names = _names(spec.linux.cgroups_path)
    if manager == DISABLED:
        return _without("control groups are disabled", writes, "choose another --cgroup-manager")
    mounted = cgroup.mount_point()
    if mounted is None:
        return _without("cgroup v2 is not mounted", writes, "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    point, own = mounted[0], cgroup.directory_of()
    top = ""
    if spec.linux.cgroups_path.startswith("/"):
        directory = "/".join((point, *names))
        top = _deepest(os.path.dirname(directory)) if rootless else ""
    elif rootless:
        top = _delegated_base(point, own)
        directory = "/".join((top, *names) if names else (top, f"jubako-{identifier}")) if top else ""
    else:
        directory = "/".join((point, OWN_PARENT, *(names or (identifier,))))
    if rootless and not (directory and _may_make(directory, own)):
        place = directory or own or point
        return _without(f"{place} is not delegated to this user", writes, DELEGATE_HINT)
    inside = f"{directory}/{subgroup}".rstrip("/")
    return GroupChoice(directory, inside, CGROUPFS, subgroup=subgroup, top=top, delegate=bool(subgroup))


def make_group(
    choice: GroupChoice,
    resources: Resources | None,
    owner: tuple[int, int] | None = None,
    *,
    at: str = "linux.resources",
) -> str:
    """Make the directories of `choice`, enable the controllers on the way there, write the limits; answers its path.

    Nothing of others is moved, and a failure leaves nothing behind. `owner` is who the container's root is outside: it
    gets the group that the annotation `run.oci.delegate-cgroup` asks for. A scope of systemd is made later
    (`systemd.start_scope`), since it wants the container's first process.
    """
    if choice.made_by != CGROUPFS:
        return ""
    writes = plan_writes(resources or Resources(), at)
    for _attempt in range(3):
        made: list[str] = []
        try:
            _make_directories(choice.path, choice.top, writes, made)
            fill_group(choice, writes, owner, made)
            return choice.path
        except FileNotFoundError:  # the last container of a parent went, and the parent with it
            _unmake(made)
        except BaseException:
            _unmake(made)
            raise
    raise JubakoError("make cgroup", choice.path, errno=errno.ENOENT)


def is_rootless() -> bool:
    """Whether this process is anything else than root of the initial user namespace."""
    if os.geteuid() != 0:
        return True
    with open("/proc/self/uid_map", "rb", buffering=0) as file:
        return file.read(256).split() != [b"0", b"0", b"4294967295"]


def fill_group(choice: GroupChoice, writes: tuple[Write, ...], owner: tuple[int, int] | None, made: list[str]) -> None:
    """Write the limits into a group that is there, and make the one below it that the processes go into."""
    apply_writes(choice.path, writes)
    place = choice.path
    for name in choice.subgroup.split("/") if choice.subgroup else ():
        place = f"{place}/{name}"
        _make_directory(place, made)
    if choice.delegate and owner is not None:
        _hand_over(choice.inside, *owner)


def apply_writes(group: str, writes: tuple[Write, ...]) -> None:
    """Write the limits in their order. `JubakoError` for a missing controller, and for what the kernel refuses."""
    if not writes:
        return
    available = cgroup.controllers(group)
    require_controllers(writes, available, group, _missing_hint(group))
    for write in writes:
        if not write.limits and write.controller not in available:
            continue  # no limit of what cannot be limited
        try:
            _apply(group, write)
        except OSError as failure:
            text = f"{write.field} ({write.file}: {write.value})"
            raise JubakoError.from_os_error("limit", text, failure, _write_hint(failure, write)) from failure


def _apply(group: str, write: Write) -> None:
    try:
        cgroup.write(group, write.file, write.value)
    except FileNotFoundError:
        if write.instead is not None:
            cgroup.write(group, *write.instead)
        elif not write.optional:
            raise


def _write_hint(failure: OSError, write: Write) -> str:
    if failure.errno == errno.ENOENT:
        return f"this kernel has no {write.file}: it is too old for it, or was built without"
    if failure.errno in (errno.EINVAL, errno.ERANGE, errno.ENODEV):
        return "the kernel takes no such value here"
    return ""


# --- where ------------------------------------------------------------------------------------------------------------


def _names(path: str) -> tuple[str, ...]:
    """The directories of linux.cgroupsPath, which may not lead out of the hierarchy."""
    names = tuple(name for name in path.split("/") if name not in ("", "."))
    if ".." in names:
        raise UsageError("read", "linux.cgroupsPath", reason=f"must not contain '..': {path}")
    if path and not names:
        raise UsageError("read", "linux.cgroupsPath", reason="must name a group below the root of the hierarchy")
    return names


def _subgroup(annotations: dict[str, str]) -> str:
    """The group below the container's own that its processes go into, as crun's annotation asks."""
    name = annotations.get("run.oci.delegate-cgroup", "")
    if name and (name in (".", "..") or "/" in name):
        raise UsageError("read", "annotations.run.oci.delegate-cgroup", reason=f"must be one name, not {name!r}")
    return name


def _delegated_base(point: str, own: str) -> str:
    """Below which group an ordinary user's go.

    Beside the caller's own, where that is inside of what was delegated: a group that has processes hands no controller
    down. But what systemd has not delegated is systemd's, also where the user may write: it takes controllers away
    from there at any moment, and the limits with them. Then, and where nothing else is, it is the caller's own.
    """
    if not own:
        return ""
    above = os.path.dirname(own)
    if len(above) >= len(point) and _writable(above) and (not os.path.isdir(_SYSTEMD) or _is_delegated(above, point)):
        return above
    return own if _writable(own) else ""


def _is_delegated(group: str, point: str) -> bool:
    """Whether systemd has marked the group or one above it as somebody else's (`Delegate=`)."""
    while len(group) > len(point):
        for name in ("user.delegate", "trusted.delegate"):  # the second is for root's eyes, and for systemd before 251
            try:
                if os.getxattr(group, name) == b"1":
                    return not os.path.basename(group).startswith("user@")  # that is the user's systemd's own
            except OSError:
                continue
        group = os.path.dirname(group)
    return False


def _may_make(directory: str, own: str) -> bool:
    """Whether the caller may make `directory` and move a process of its own group there."""
    return _writable(_deepest(directory)) and bool(own) and _writable(os.path.commonpath((directory, own)))


def _deepest(directory: str) -> str:
    """The directory itself, or the last one above it that is there."""
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    return directory


def _writable(group: str) -> bool:
    return os.access(group, os.W_OK | os.X_OK) and os.access(f"{group}/cgroup.procs", os.W_OK)


def _without(reason: str, writes: tuple[Write, ...], hint: str) -> GroupChoice:
    if asks_for_limits(writes):
        field = next(write.field for write in writes if write.limits)
        raise JubakoError("limit", field, reason=reason, hint=hint)
    return GroupChoice(reason=reason)


# --- making -----------------------------------------------------------------------------------------------------------


def _make_directories(path: str, top: str, writes: tuple[Write, ...], made: list[str]) -> None:
    """Each directory from `top` (or the mount) down, with the controllers that are needed and as many others as are to
    be had."""
    point = (cgroup.mount_point() or ("", ""))[0]
    top = top or point
    needed = needed_controllers(writes)
    names = path[len(top) :].strip("/").split("/")
    parents = ["/".join((top, *names[:count])) for count in range(len(names))]
    whole = "memory" in cgroup.controllers(point) or "pids" in cgroup.controllers(point)
    for parent in parents:
        if parent != top:
            _make_directory(parent, made)
        enable_controllers(parent, needed, writes, others=whole)
    if not _make_directory(path, made):
        refuse_used(path)


def refuse_used(path: str) -> None:
    """Raise `JubakoError` when the group at `path` is another container's: it has processes, or is frozen."""
    try:
        state = cgroup.events(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    if state.get("populated") or state.get("frozen"):
        word = "there are processes in it" if state.get("populated") else "it is frozen"
        raise JubakoError("use cgroup", path, reason=f"{word}: it belongs to another container")


def _make_directory(path: str, made: list[str]) -> bool:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return False
    except FileNotFoundError:
        raise
    except OSError as failure:
        hint = DELEGATE_HINT if failure.errno in (errno.EACCES, errno.EPERM) else ""
        raise JubakoError.from_os_error("make cgroup", path, failure, hint) from failure
    made.append(path)
    return True


def enable_controllers(parent: str, needed: tuple[str, ...], writes: tuple[Write, ...], *, others: bool) -> None:
    """Hand the controllers down to the groups below `parent`: all `needed`, and of the `others` those that may be."""
    available = cgroup.controllers(parent)
    enabled = cgroup.read(parent, "cgroup.subtree_control").split()
    require_controllers(writes, available, parent, _missing_hint(parent))
    for controller in (*needed, *(available if others else ())):
        if controller in enabled:
            continue
        try:
            _enable(parent, controller)
        except OSError as failure:
            if controller in needed:
                raise _not_enabled(parent, controller, failure) from failure
            if failure.errno == errno.EBUSY:
                return


def _enable(parent: str, controller: str) -> None:
    """Where nobody is in the way but this very process, it steps aside: into a leaf of its own."""
    try:
        cgroup.write(parent, "cgroup.subtree_control", f"+{controller}")
    except OSError as failure:
        if failure.errno != errno.EBUSY or cgroup.read(parent, "cgroup.procs").split() != [str(os.getpid())]:
            raise
        aside = f"{parent}/{ASIDE}"
        try:
            os.mkdir(aside, 0o755)
        except FileExistsError:
            pass
        cgroup.add_process(aside, 0)
        cgroup.write(parent, "cgroup.subtree_control", f"+{controller}")


def _not_enabled(parent: str, controller: str, failure: OSError) -> JubakoError:
    operation = f"enable the controller {controller} in"
    if failure.errno == errno.EBUSY:
        reason = "a group that has processes itself can hand no controller down (cgroup v2's rule)"
        return JubakoError(operation, parent, errno=errno.EBUSY, reason=reason, hint=BUSY_HINT)
    hint = DELEGATE_HINT if failure.errno in (errno.EACCES, errno.EPERM) else ""
    return JubakoError.from_os_error(operation, parent, failure, hint)


def _missing_hint(group: str) -> str:
    return HYBRID_HINT if group.startswith("/sys/fs/cgroup/unified") else DELEGATE_HINT


def _hand_over(group: str, uid: int, gid: int) -> None:
    """Give the group to the container's root: the directory and the files that the kernel lists as its holder's."""
    names = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
    try:
        with open("/sys/kernel/cgroup/delegate", "rb", buffering=0) as file:
            names = file.readall().decode().split()
    except OSError:  # Linux before 4.15
        pass
    try:
        os.chown(group, uid, gid)
        for name in names:
            try:
                os.chown(f"{group}/{name}", uid, gid)
            except FileNotFoundError:  # of a controller that the group has not
                continue
    except OSError as failure:
        raise JubakoError.from_os_error("hand over cgroup", group, failure) from failure


def _unmake(made: list[str]) -> None:
    for path in reversed(made):
        try:
            os.rmdir(path)
        except OSError:  # another container has moved in
            return
