"""What a document must hold beyond the shape of its values: OCI runtime-spec 1.2's MUSTs that need no host to decide.

Only what is wrong on every machine is refused here. What this machine cannot do (an unknown capability, a device that
is not there) is the planner's to say.
"""

from __future__ import annotations

from jubako.spec.defaults import HOST_NAME_MAX, NAMESPACE_TYPES, PROPAGATIONS
from jubako.spec.shape import Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from jubako.spec.types import Linux, Process, Seccomp, Spec

    T = TypeVar("T")

RLIMIT_TYPES = (
    "RLIMIT_AS",
    "RLIMIT_CORE",
    "RLIMIT_CPU",
    "RLIMIT_DATA",
    "RLIMIT_FSIZE",
    "RLIMIT_LOCKS",
    "RLIMIT_MEMLOCK",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_NOFILE",
    "RLIMIT_NPROC",
    "RLIMIT_RSS",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
    "RLIMIT_SIGPENDING",
    "RLIMIT_STACK",
)
SECCOMP_ACTIONS = (
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
)
SECCOMP_OPERATORS = (
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
)


def check(spec: Spec) -> None:
    """Raise `Wrong` at the first thing in `spec` that no machine could keep."""
    _check_version(spec.oci_version)
    if not spec.root.path:
        raise Wrong("is required", "root.path")
    if spec.process.cwd or spec.process.args:
        _within("process", check_process, spec.process)
    for name, value in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if len(value.encode(errors="surrogateescape")) > HOST_NAME_MAX:
            raise Wrong(f"must not be longer than {HOST_NAME_MAX} bytes", name)
    for position, mount in enumerate(spec.mounts):
        if not mount.destination:
            raise Wrong("must not be empty", f"mounts[{position}].destination")
        if bool(mount.uid_mappings) != bool(mount.gid_mappings):
            raise Wrong("must have both uidMappings and gidMappings, or neither", f"mounts[{position}]")
    _check_hooks(spec)
    _within("linux", _check_linux, spec.linux)


def check_process(process: Process) -> None:
    """Raise `Wrong` when `process` could be started nowhere."""
    if not process.cwd.startswith("/"):
        raise Wrong("must be an absolute path", "cwd")
    if not process.args:
        raise Wrong("must name a program", "args")
    for position, entry in enumerate(process.env):
        if entry.find("=") < 1:
            raise Wrong(f"must be of the form NAME=VALUE, not {entry!r}", f"env[{position}]")
    _refuse_twice("rlimits", (limit.type for limit in process.rlimits))
    for position, limit in enumerate(process.rlimits):
        if limit.type not in RLIMIT_TYPES:
            raise Wrong(f"{limit.type!r} is not a resource limit of Linux", f"rlimits[{position}].type")
        if limit.soft > limit.hard:
            raise Wrong(f"the soft limit {limit.soft} is above the hard limit {limit.hard}", f"rlimits[{position}]")


def _check_version(version: str) -> None:
    major, dot, rest = version.partition(".")
    if major != "1" or not dot or not rest[:1].isdigit():
        raise Wrong(f"version {version!r} is not supported, only 1.x is", "ociVersion")


def _check_hooks(spec: Spec) -> None:
    for name, hooks in spec.hooks.__dict__.items():
        for position, hook in enumerate(hooks):
            if not hook.path.startswith("/"):
                first, *others = name.split("_")
                point = first + "".join(word.capitalize() for word in others)
                raise Wrong("must be an absolute path", f"hooks.{point}[{position}].path")


def _check_linux(linux: Linux) -> None:
    _refuse_twice("namespaces", (one.type for one in linux.namespaces))
    for position, namespace in enumerate(linux.namespaces):
        if namespace.type not in NAMESPACE_TYPES:
            known = ", ".join(NAMESPACE_TYPES)
            raise Wrong(f"{namespace.type!r} is not one of {known}", f"namespaces[{position}].type")
        if namespace.path and not namespace.path.startswith("/"):
            raise Wrong("must be an absolute path", f"namespaces[{position}].path")
    for name, paths in (("maskedPaths", linux.masked_paths), ("readonlyPaths", linux.readonly_paths)):
        for position, path in enumerate(paths):
            if not path.startswith("/"):
                raise Wrong("must be an absolute path", f"{name}[{position}]")
    for position, device in enumerate(linux.devices):
        if not device.path.startswith("/"):
            raise Wrong("must be an absolute path", f"devices[{position}].path")
        if device.type not in ("c", "b", "u", "p"):
            raise Wrong(f"must be c, b, u or p, not {device.type!r}", f"devices[{position}].type")
    for offset in linux.time_offsets:
        if offset.clock not in ("monotonic", "boottime"):
            raise Wrong("only the clocks monotonic and boottime can be moved", f"timeOffsets.{offset.clock}")
    if linux.rootfs_propagation and linux.rootfs_propagation not in PROPAGATIONS:
        raise Wrong(f"must be one of {', '.join(PROPAGATIONS)}", "rootfsPropagation")
    if linux.personality is not None and linux.personality.domain not in ("LINUX", "LINUX32"):
        raise Wrong("must be LINUX or LINUX32", "personality.domain")
    if linux.seccomp is not None:
        _within("seccomp", check_seccomp, linux.seccomp)


def check_seccomp(seccomp: Seccomp) -> None:
    """Raise `Wrong` when the filter uses an action or a comparison that does not exist."""
    if seccomp.default_action not in SECCOMP_ACTIONS:
        raise Wrong(f"{seccomp.default_action!r} is not an action of seccomp", "defaultAction")
    for position, rule in enumerate(seccomp.syscalls):
        if not rule.names:
            raise Wrong("must name a system call", f"syscalls[{position}].names")
        if rule.action not in SECCOMP_ACTIONS:
            raise Wrong(f"{rule.action!r} is not an action of seccomp", f"syscalls[{position}].action")
        for number, argument in enumerate(rule.args):
            if argument.op not in SECCOMP_OPERATORS:
                path = f"syscalls[{position}].args[{number}].op"
                raise Wrong(f"{argument.op!r} is not a comparison of seccomp", path)


def _within(name: str, checker: Callable[[T], None], value: T) -> None:
    try:
        checker(value)
    except Wrong as wrong:
        raise wrong.below(f"{name}.") from None


def _refuse_twice(path: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for position, name in enumerate(names):
        if name in seen:
            raise Wrong(f"{name} stands twice", f"{path}[{position}].type")
        seen.add(name)
