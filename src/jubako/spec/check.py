"""What a document must hold beyond the shape of its values: OCI runtime-spec 1.3's MUSTs that need no host to decide.

Only what is wrong on every machine is refused here. What this machine cannot do (an unknown capability, a device that
is not there) is the planner's to say.
"""

from __future__ import annotations

from jubako.spec import check_attributes as attributes
from jubako.spec.defaults import HOST_NAME_MAX, NAMESPACE_TYPES, PROPAGATIONS
from jubako.spec.shape import Wrong, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from jubako.spec.types import Linux, Mount, Process, Seccomp, Spec

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

SECCOMP_FLAGS = (
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
)
SECCOMP_ARCHITECTURES = tuple(
    "SCMP_ARCH_" + name
    for name in (
        *("X86", "X86_64", "X32", "ARM", "AARCH64", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32"),
        *("PPC", "PPC64", "PPC64LE", "S390", "S390X", "PARISC", "PARISC64", "RISCV64", "LOONGARCH64", "M68K"),
        *("SH", "SHEB"),
    )
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
    nested = any(namespace.type == "user" for namespace in spec.linux.namespaces)
    for position, mount in enumerate(spec.mounts):
        try:
            _check_mount(mount, nested)
        except Wrong as wrong:
            raise wrong.below(f"mounts[{position}]") from None
    if any(not name for name, _value in spec.annotations):
        raise Wrong("must not have an empty name in it", "annotations")
    _check_hooks(spec)
    _within("linux", _check_linux, spec.linux)
    for name, value in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if value and not any(namespace.type == "uts" for namespace in spec.linux.namespaces):
            raise Wrong("needs a uts namespace: the host keeps its name", name)


def check_process(process: Process) -> None:
    """Raise `Wrong` when `process` could be started nowhere."""
    if not process.cwd.startswith("/"):
        raise Wrong("must be an absolute path", "cwd")
    if not process.args:
        raise Wrong("must name a program", "args")
    for position, entry in enumerate(process.env):
        if entry.find("=") < 1:
            raise Wrong(f"must be of the form NAME=VALUE, not {quoted(entry)}", f"env[{position}]")
    _refuse_twice("rlimits", (limit.type for limit in process.rlimits))
    for position, limit in enumerate(process.rlimits):
        if limit.type not in RLIMIT_TYPES:
            raise Wrong(f"{quoted(limit.type)} is not a resource limit of Linux", f"rlimits[{position}].type")
        if limit.soft > limit.hard:
            raise Wrong(f"the soft limit {limit.soft} is above the hard limit {limit.hard}", f"rlimits[{position}]")
    for name, checker, value in (
        ("scheduler", attributes.check_scheduler, process.scheduler),
        ("ioPriority", attributes.check_io_priority, process.io_priority),
        ("execCPUAffinity", attributes.check_affinity, process.exec_cpu_affinity),
    ):
        if value is not None:
            _within(name, checker, value)  # type: ignore[arg-type]


def _check_mount(mount: Mount, nested: bool) -> None:
    if not mount.destination:
        raise Wrong("must not be empty", ".destination")
    if bool(mount.uid_mappings) != bool(mount.gid_mappings):
        raise Wrong("must have both uidMappings and gidMappings, or neither")
    for name, mappings in ((".uidMappings", mount.uid_mappings), (".gidMappings", mount.gid_mappings)):
        _within_path(name, attributes.check_id_map, mappings)
    if not mount.uid_mappings and not nested and ("idmap" in mount.options or "ridmap" in mount.options):
        raise Wrong("idmap wants uidMappings and gidMappings, or a user namespace of the container's own", ".options")


def _check_version(version: str) -> None:
    major, dot, rest = version.partition(".")
    if major != "1" or not dot or not rest[:1].isdigit():
        raise Wrong(f"version {quoted(version)} is not supported, only 1.x is", "ociVersion")


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
            raise Wrong(f"{quoted(namespace.type)} is not one of {known}", f"namespaces[{position}].type")
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
            raise Wrong(f"must be c, b, u or p, not {quoted(device.type)}", f"devices[{position}].type")
        for name, most in (("major", 0xFFF), ("minor", 0xFFFFF)):  # dev_t of the kernel
            if not 0 <= getattr(device, name) <= most:
                raise Wrong(f"must lie between 0 and {most}", f"devices[{position}].{name}")
        if device.type != "p" and device.major == 0:  # the kernel gives no device this number
            raise Wrong("is required", f"devices[{position}].major")
    for offset in linux.time_offsets:
        if offset.clock not in ("monotonic", "boottime"):
            raise Wrong("only the clocks monotonic and boottime can be moved", f"timeOffsets.{offset.clock}")
    if linux.time_offsets and not any(one.type == "time" and not one.path for one in linux.namespaces):
        raise Wrong("needs a new time namespace: other clocks cannot be moved", "timeOffsets")
    if linux.rootfs_propagation and linux.rootfs_propagation not in PROPAGATIONS:
        raise Wrong(f"must be one of {', '.join(PROPAGATIONS)}", "rootfsPropagation")
    _within_path("uidMappings", attributes.check_id_map, linux.uid_mappings)
    _within_path("gidMappings", attributes.check_id_map, linux.gid_mappings)
    _within_path("netDevices", attributes.check_net_devices, linux.net_devices)
    if linux.net_devices and not any(namespace.type == "network" for namespace in linux.namespaces):
        raise Wrong("wants a network namespace to move the devices into", "netDevices")
    for name, checker, value in (
        ("personality", attributes.check_personality, linux.personality),
        ("memoryPolicy", attributes.check_memory_policy, linux.memory_policy),
        ("intelRdt", attributes.check_intel_rdt, linux.intel_rdt),
        ("seccomp", check_seccomp, linux.seccomp),
    ):
        if value is not None:
            _within(name, checker, value)  # type: ignore[arg-type]


def check_seccomp(seccomp: Seccomp) -> None:
    """Raise `Wrong` when the filter uses an action or a comparison that does not exist."""
    if seccomp.default_action not in SECCOMP_ACTIONS:
        raise Wrong(f"{quoted(seccomp.default_action)} is not an action of seccomp", "defaultAction")
    for name, values, known in (
        ("flags", seccomp.flags, SECCOMP_FLAGS),
        ("architectures", seccomp.architectures, SECCOMP_ARCHITECTURES),
    ):
        for position, value in enumerate(values):
            if value not in known:
                raise Wrong(f"{quoted(value)} is not one of {', '.join(known)}", f"{name}[{position}]")
    _check_errno(seccomp.default_action, seccomp.default_errno_ret, "defaultErrnoRet")
    if seccomp.listener_metadata and not seccomp.listener_path:
        raise Wrong("must not be set without listenerPath", "listenerMetadata")
    for position, rule in enumerate(seccomp.syscalls):
        if not rule.names:
            raise Wrong("must name a system call", f"syscalls[{position}].names")
        if rule.action not in SECCOMP_ACTIONS:
            raise Wrong(f"{quoted(rule.action)} is not an action of seccomp", f"syscalls[{position}].action")
        _check_errno(rule.action, rule.errno_ret, f"syscalls[{position}].errnoRet")
        for number, argument in enumerate(rule.args):
            if argument.op not in SECCOMP_OPERATORS:
                path = f"syscalls[{position}].args[{number}].op"
                raise Wrong(f"{quoted(argument.op)} is not a comparison of seccomp", path)


def _check_errno(action: str, number: int | None, path: str) -> None:
    if number is not None and action not in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        raise Wrong(f"{action} answers with no error number", path)


def _within(name: str, checker: Callable[[T], None], value: T) -> None:
    _within_path(f"{name}.", checker, value)


def _within_path(path: str, checker: Callable[[T], None], value: T) -> None:
    try:
        checker(value)
    except Wrong as wrong:
        raise wrong.below(path) from None


def _refuse_twice(path: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for position, name in enumerate(names):
        if name in seen:
            raise Wrong(f"{quoted(name)[1:-1]} stands twice", f"{path}[{position}].type")
        seen.add(name)
