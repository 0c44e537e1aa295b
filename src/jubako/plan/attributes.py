"""The planners for attributes of the program and of the container's namespaces: OCI runtime-spec 1.3, config.md, "Linux
Process", and config-linux.md, "Sysctl", "Memory policy", "Personality", "Network devices", "Intel RDT".

What this host cannot keep is refused here, before anything starts.
"""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.plan.step import Step
from jubako.record import record
from jubako.spec.check_attributes import read_numbers
from jubako.spec.types import Linux, Process, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.plan.namespaces import NamespaceSet

_IPC = frozenset(
    f"kernel.{name}"
    for name in (
        "auto_msgmni", "msgmax", "msgmnb", "msgmni", "msg_next_id", "sem", "sem_next_id", "shmall", "shmmax", "shmmni",
        "shm_next_id", "shm_rmid_forced",
    )
)  # fmt: skip


@record
class Modules:
    """Which security modules the host enforces, and where its resctrl is mounted (empty: nowhere)."""

    apparmor: bool = False
    selinux: bool = False
    resctrl: str = ""


def gather_modules() -> Modules:
    """The facts, as of now."""
    from jubako.linux.lsm import APPARMOR, SELINUX, is_enabled
    from jubako.linux.resctrl import find_mount

    return Modules(is_enabled(APPARMOR), is_enabled(SELINUX), find_mount())


def check_namespaces(spec: Spec, spaces: NamespaceSet) -> None:
    """Raise `UsageError` for what the document sets in a namespace that it does not ask for: it would be the host's."""
    for name, value in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if value and not spaces.is_own("uts") and "uts" not in spaces.joined:
            raise UsageError("set the", name, reason="the container has no uts namespace of its own")
    if spec.linux.time_offsets and not spaces.is_own("time"):
        raise UsageError("set the time offsets", reason="the container has no time namespace of its own")
    for name, maps in (("uidMappings", spec.linux.uid_mappings), ("gidMappings", spec.linux.gid_mappings)):
        if spaces.nested and not maps:
            raise UsageError("make the user namespace", reason=f"linux.{name} is missing or empty")
        if maps and not spaces.nested and "user" not in spaces.joined:
            raise UsageError("use", f"linux.{name}", reason="the container has no user namespace")


def plan_scheduling(program: Process, *, joined: bool = False) -> Iterator[Step]:
    """Scheduler and priority of input and output: by the runtime, once init has its ids, or by a program that joins."""
    scheduler, priority = program.scheduler, program.io_priority
    if scheduler is None and priority is None:
        return
    from jubako.plan.steps import attributes as steps

    if scheduler is not None:
        kind = steps.SetOwnScheduler if joined else steps.SetScheduler
        yield kind(
            scheduler.policy, scheduler.nice or 0, scheduler.priority or 0, scheduler.flags, scheduler.runtime or 0,
            scheduler.deadline or 0, scheduler.period or 0,
        )  # fmt: skip
    if priority is not None:
        yield (steps.SetOwnIoPriority if joined else steps.SetIoPriority)(priority.io_class, priority.priority)


def plan_memory(linux: Linux) -> Iterator[Step]:
    """The memory policy, of init before it becomes the program."""
    policy = linux.memory_policy
    if policy is not None:
        from jubako.plan.steps import attributes as steps

        nodes = read_numbers(policy.nodes) if policy.nodes else ()
        yield steps.SetMemoryPolicy(policy.mode, nodes, policy.flags)


def plan_personality(linux: Linux) -> Iterator[Step]:
    """The personality, of init or of a program that joins."""
    if linux.personality is not None:
        from jubako.plan.steps import attributes as steps

        yield steps.SetPersonality(linux.personality.domain)


def plan_initial_affinity(program: Process) -> Iterator[Step]:
    """`exec`: the joining process's CPUs, before it enters the control group."""
    if program.exec_cpu_affinity is not None and program.exec_cpu_affinity.initial:
        from jubako.plan.steps import attributes as steps

        yield steps.SetInitialAffinity(read_numbers(program.exec_cpu_affinity.initial))


def plan_final_affinity(program: Process) -> Iterator[Step]:
    """`exec`: the program's CPUs, when it is in the control group."""
    if program.exec_cpu_affinity is not None and program.exec_cpu_affinity.final:
        from jubako.plan.steps import attributes as steps

        yield steps.SetFinalAffinity(read_numbers(program.exec_cpu_affinity.final))


def plan_labels(program: Process, modules: Modules) -> Iterator[Step]:
    """The security modules' labels for the program, while the process may still mount a procfs of its own."""
    if not program.apparmor_profile and not program.selinux_label:
        return
    from jubako.linux.lsm import APPARMOR, SELINUX
    from jubako.plan.steps import attributes as steps

    if program.apparmor_profile and (modules.apparmor or program.apparmor_profile != "unconfined"):
        if not modules.apparmor:
            raise UsageError(
                "use AppArmor profile", program.apparmor_profile, reason="AppArmor is not enabled on this host",
                hint="leave process.apparmorProfile out",
            )  # fmt: skip
        yield steps.SetExecLabel(APPARMOR, program.apparmor_profile)
    if program.selinux_label:
        _want_selinux(program.selinux_label, modules, "process.selinuxLabel")
        yield steps.SetExecLabel(SELINUX, program.selinux_label)


def mount_label(linux: Linux, modules: Modules) -> str:
    """The label for new file systems (`oci_mounts.Bundle`). Raises `UsageError` without SELinux."""
    if linux.mount_label:
        _want_selinux(linux.mount_label, modules, "linux.mountLabel")
    return linux.mount_label


def plan_parameters(spec: Spec, spaces: NamespaceSet, hosts: tuple[str, ...] = ()) -> Iterator[Step]:
    """`linux.sysctl`, of init in its namespaces and before the root is entered, when network devices have arrived.

    `hosts` are the joined namespaces' types that are the host's own. Raises `UsageError` for what is not a
    namespace's: it would change the whole machine.
    """
    for name, value in spec.linux.sysctl:
        path = parameter_path(name)
        kind = _namespace_of(path.removeprefix("sys/").replace("/", "."))
        if not kind:
            reason = "it belongs to the whole machine, not to a namespace of the container's"
            raise UsageError("set the kernel parameter", name, reason=reason)
        if kind == "hostname":
            reason = "it conflicts with config.json's hostname" if spaces.is_own("uts") else "it is the host's"
            raise UsageError("set the kernel parameter", name, reason=reason, hint="use hostname")
        if not (spaces.is_own(kind) or kind in spaces.joined) or kind in hosts:
            raise UsageError(
                "set the kernel parameter", name, reason=f"the container has no {kind} namespace of its own"
            )
        from jubako.plan.steps import attributes as steps

        yield steps.SetKernelParameter(name, path, value)


def parameter_path(name: str) -> str:
    """Where a parameter lies below /proc, for both of sysctl(8)'s spellings: "net.ipv4.conf.eth0/1.x" and
    "net/ipv4/conf/eth0.1/x" are the same."""
    first = next((character for character in name if character in "./"), ".")
    path = name if first == "/" else name.translate({ord("."): "/", ord("/"): "."})
    if any(part in ("", ".", "..") for part in path.split("/")) or "\0" in name:
        raise UsageError("set the kernel parameter", name, reason="that is not the name of one")
    return f"sys/{path}"


def plan_net_devices(linux: Linux) -> Iterator[Step]:
    """`linux.netDevices`: moved by the runtime, once init has its network namespace and before its parameters."""
    for device in linux.net_devices:
        from jubako.plan.steps.netdevices import MoveNetDevice

        yield MoveNetDevice(device.device, device.name or device.device)


def plan_resctrl(linux: Linux, modules: Modules, container: str) -> Iterator[Step]:
    """`linux.intelRdt`: init is placed in its group by the runtime. Raises `UsageError` without resctrl."""
    asked = linux.intel_rdt
    if asked is None:
        return
    from jubako.plan.steps.resctrl import PlaceInResctrl

    if not modules.resctrl:
        raise UsageError(
            "use intelRdt", asked.clos_id, reason="resctrl is not mounted on this host",
            hint="it needs a CPU with it and, as root: mount -t resctrl resctrl /sys/fs/resctrl",
        )  # fmt: skip
    lines = tuple(line for line in (asked.l3_cache_schema, asked.mem_bw_schema, *asked.schemata) if line)
    watched = asked.enable_monitoring or asked.enable_cmt or asked.enable_mbm
    yield PlaceInResctrl(modules.resctrl, asked.clos_id or container, lines, container if watched else "")


def _namespace_of(name: str) -> str:
    """The type of the namespace that a parameter (with dots) belongs to; empty: none."""
    if name.startswith("net."):
        return "network"
    if name in _IPC or name.startswith("fs.mqueue."):
        return "ipc"
    return {"kernel.domainname": "uts", "kernel.hostname": "hostname"}.get(name, "")


def _want_selinux(label: str, modules: Modules, field: str) -> None:
    if not modules.selinux:
        raise UsageError(
            "use SELinux label", label, reason="SELinux is not enabled on this host", hint=f"leave {field} out"
        )
