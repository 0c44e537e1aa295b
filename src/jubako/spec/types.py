"""The container's document as frozen records: OCI runtime-spec 1.3, config.json for Linux.

Names are the specification's, in snake_case. Three rules hold throughout. Lists are tuples, and JSON objects with free
names are tuples of pairs, so every record is hashable. A part that the document leaves out is the record's default, and
a part equal to its default is left out when written; `None` stands only where absent and empty mean different things.
Nothing here knows a policy: see `defaults` for what a container gets unasked.
"""

from __future__ import annotations

from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.spec.resources import Resources

Pairs = tuple[tuple[str, str], ...]

OCI_VERSION = "1.3.0"
RLIM_INFINITY = 0xFFFFFFFFFFFFFFFF


@record
class ConsoleSize:
    """The terminal's first size, in characters."""

    height: int
    width: int


@record
class User:
    """Who the program runs as, in the container's ids.

    `username`, when not empty, is a docker-style user (`name`, `name:group`, `name:5` …) that only the container's own
    passwd and group files can resolve (`spec.passwd.lookup_user`); uid, gid and additional_gids then hold what is
    known before that. `umask` is None when the runtime's default (022) is to hold.
    """

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()
    username: str = ""


@record
class Capabilities:
    """The five capability sets, in names ("CAP_CHOWN")."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


@record
class Rlimit:
    """One resource limit; `type` is the kernel's name ("RLIMIT_NOFILE"), `RLIM_INFINITY` lifts it."""

    type: str
    hard: int
    soft: int


@record
class Scheduler:
    """sched_setattr(2): `policy` and `flags` are the kernel's names; times are nanoseconds."""

    policy: str
    nice: int | None = None
    priority: int | None = None
    flags: tuple[str, ...] = ()
    runtime: int | None = None
    deadline: int | None = None
    period: int | None = None


@record
class IoPriority:
    """ioprio_set(2): `io_class` is "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE" or "IOPRIO_CLASS_IDLE"."""

    io_class: str
    priority: int = 0


@record
class CpuAffinity:
    """CPU lists ("0-3,7") for a process that joins: before it enters the container's cgroup, and after."""

    initial: str = ""
    final: str = ""


@record
class Process:
    """The program. `Process()` (no cwd, no args) says that the document has none.

    `capabilities` is None when the document says nothing, which is not the same as five empty sets for a runtime that
    must leave them alone.
    """

    terminal: bool = False
    console_size: ConsoleSize | None = None
    cwd: str = ""
    env: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    user: User = User()
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    selinux_label: str = ""
    oom_score_adj: int | None = None
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    exec_cpu_affinity: CpuAffinity | None = None


@record
class Root:
    """The container's root file system; a relative `path` counts from the bundle."""

    path: str = ""
    readonly: bool = False


@record
class IdMapping:
    """`size` ids from `container_id` on are those from `host_id` on."""

    container_id: int
    host_id: int
    size: int


@record
class Mount:
    """One mount, applied in order. `options` are as in mount(8), propagation and `idmap`/`ridmap` included."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


@record
class Hook:
    """A program run at one point of the life cycle; `timeout` is in seconds, None waits for ever."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


@record
class Hooks:
    """Hooks by the point where they run, each list in order (`prestart`, deprecated, runs before `create_runtime`)."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


@record
class Namespace:
    """A namespace to make, or with `path` to join. `type` is pid, network, mount, ipc, uts, user, cgroup or time."""

    type: str
    path: str = ""


@record
class Device:
    """A device node to have: `type` is c, b, u or p. Of `file_mode` only the permission bits count: some write all."""

    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@record
class TimeOffset:
    """How far one clock ("monotonic", "boottime") of a new time namespace is ahead."""

    clock: str
    secs: int = 0
    nanosecs: int = 0


@record
class Personality:
    """personality(2): `domain` is "LINUX" or "LINUX32"."""

    domain: str
    flags: tuple[str, ...] = ()


@record
class IntelRdt:
    """Cache and memory bandwidth allocation (resctrl). `schemata` are whole lines of the file of that name and come
    after the two older schemas; `enable_cmt` and `enable_mbm`, of versions before 1.3, mean `enable_monitoring`."""

    clos_id: str = ""
    schemata: tuple[str, ...] = ()
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    enable_monitoring: bool = False
    enable_cmt: bool = False
    enable_mbm: bool = False


@record
class MemoryPolicy:
    """set_mempolicy(2): `mode` and `flags` are the kernel's names ("MPOL_BIND"), `nodes` is a list ("0-3,7")."""

    mode: str
    nodes: str = ""
    flags: tuple[str, ...] = ()


@record
class NetDevice:
    """A network device of the host's that moves into the container, there named `name` (empty: as before)."""

    device: str
    name: str = ""


@record
class SeccompArg:
    """A condition on one argument; `op` is "SCMP_CMP_EQ" and kin, `value_two` the second operand of MASKED_EQ."""

    index: int
    value: int
    op: str
    value_two: int = 0


@record
class SeccompRule:
    """What happens to these system calls; all `args` must hold. `errno_ret` None means EPERM."""

    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[SeccompArg, ...] = ()


@record
class Seccomp:
    """The system call filter, in libseccomp's names."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[SeccompRule, ...] = ()


@record
class Linux:
    """What only Linux has. `sysctl` are (name, value) pairs; `resources` None leaves the cgroup as it is."""

    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[Device, ...] = ()
    cgroups_path: str = ""
    resources: Resources | None = None
    intel_rdt: IntelRdt | None = None
    seccomp: Seccomp | None = None
    rootfs_propagation: str = ""
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    sysctl: Pairs = ()
    time_offsets: tuple[TimeOffset, ...] = ()
    personality: Personality | None = None
    memory_policy: MemoryPolicy | None = None
    net_devices: tuple[NetDevice, ...] = ()


@record
class Spec:
    """One container. `annotations` are (name, value) pairs."""

    oci_version: str = OCI_VERSION
    process: Process = Process()
    root: Root = Root()
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks = Hooks()
    annotations: Pairs = ()
    linux: Linux = Linux()
