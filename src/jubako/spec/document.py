"""The table of config.json: which property stands in which field of which record, and what it may hold.

OCI runtime-spec 1.3, config.md and config-linux.md, in their order; the widths of numbers are those of the
specification's Go types (`specs-go/config.go`). `load` and `dump` walk these tables.
"""

from __future__ import annotations

from jubako.spec import resources as r
from jubako.spec import types as t
from jubako.spec.shape import (
    ALWAYS,
    FLAG,
    INT32,
    INT64,
    REQUIRED,
    TEXT,
    TEXT_PAIRS,
    TEXTS,
    UINT16,
    UINT32,
    UINT64,
    Integer,
    ListOf,
    NamedObjects,
    ObjectOf,
    Wrong,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ID = Integer(0, UINT32.most - 1)  # the last number means "no change" to setresuid(2) and chown(2)

ID_MAPPINGS = ListOf(
    ObjectOf(
        t.IdMapping,
        ("container_id", "containerID", UINT32, REQUIRED),
        ("host_id", "hostID", UINT32, REQUIRED),
        ("size", "size", UINT32, REQUIRED),
    ),
    340,  # UID_GID_MAP_MAX_EXTENTS, user_namespaces(7)
)

# --- config.md: process

USER = ObjectOf(
    t.User,
    # A user without ids is root's in Go programs, which leave zeroes out.
    ("uid", "uid", ID, ALWAYS),
    ("gid", "gid", ID, ALWAYS),
    ("umask", "umask", Integer(0, 0o7777)),
    ("additional_gids", "additionalGids", ListOf(ID)),
    ("username", "username", TEXT),
)

CAPABILITIES = ObjectOf(
    t.Capabilities,
    ("bounding", "bounding", TEXTS),
    ("effective", "effective", TEXTS),
    ("inheritable", "inheritable", TEXTS),
    ("permitted", "permitted", TEXTS),
    ("ambient", "ambient", TEXTS),
)

RLIMIT = ObjectOf(
    t.Rlimit,
    ("type", "type", TEXT, REQUIRED),
    ("hard", "hard", UINT64, REQUIRED),
    ("soft", "soft", UINT64, REQUIRED),
)

SCHEDULER = ObjectOf(
    t.Scheduler,
    ("policy", "policy", TEXT, REQUIRED),
    ("nice", "nice", INT32),
    ("priority", "priority", INT32),
    ("flags", "flags", TEXTS),
    ("runtime", "runtime", UINT64),
    ("deadline", "deadline", UINT64),
    ("period", "period", UINT64),
)

PROCESS = ObjectOf(
    t.Process,
    ("terminal", "terminal", FLAG),
    (
        "console_size",
        "consoleSize",
        ObjectOf(t.ConsoleSize, ("height", "height", UINT64, REQUIRED), ("width", "width", UINT64, REQUIRED)),
    ),
    ("cwd", "cwd", TEXT, REQUIRED),
    ("env", "env", TEXTS),
    ("args", "args", TEXTS),
    ("user", "user", USER, ALWAYS),
    ("capabilities", "capabilities", CAPABILITIES),
    ("rlimits", "rlimits", ListOf(RLIMIT)),
    ("no_new_privileges", "noNewPrivileges", FLAG),
    ("apparmor_profile", "apparmorProfile", TEXT),
    ("selinux_label", "selinuxLabel", TEXT),
    ("oom_score_adj", "oomScoreAdj", Integer(-1000, 1000)),
    ("scheduler", "scheduler", SCHEDULER),
    (
        "io_priority",
        "ioPriority",
        ObjectOf(t.IoPriority, ("io_class", "class", TEXT, REQUIRED), ("priority", "priority", Integer(0, 7), ALWAYS)),
    ),
    (
        "exec_cpu_affinity",
        "execCPUAffinity",
        ObjectOf(t.CpuAffinity, ("initial", "initial", TEXT), ("final", "final", TEXT)),
    ),
)

# --- config.md: root, mounts, hooks

ROOT = ObjectOf(t.Root, ("path", "path", TEXT, REQUIRED), ("readonly", "readonly", FLAG))

MOUNT = ObjectOf(
    t.Mount,
    ("destination", "destination", TEXT, REQUIRED),
    ("type", "type", TEXT),
    ("source", "source", TEXT),
    ("options", "options", TEXTS),
    ("uid_mappings", "uidMappings", ID_MAPPINGS),
    ("gid_mappings", "gidMappings", ID_MAPPINGS),
)

HOOK_LIST = ListOf(
    ObjectOf(
        t.Hook,
        ("path", "path", TEXT, REQUIRED),
        ("args", "args", TEXTS),
        ("env", "env", TEXTS),
        ("timeout", "timeout", Integer(1, INT32.most)),
    )
)

HOOKS = ObjectOf(
    t.Hooks,
    ("prestart", "prestart", HOOK_LIST),
    ("create_runtime", "createRuntime", HOOK_LIST),
    ("create_container", "createContainer", HOOK_LIST),
    ("start_container", "startContainer", HOOK_LIST),
    ("poststart", "poststart", HOOK_LIST),
    ("poststop", "poststop", HOOK_LIST),
)

# --- config-linux.md: control groups

WEIGHT = ObjectOf(
    r.WeightDevice,
    ("major", "major", INT64, REQUIRED),
    ("minor", "minor", INT64, REQUIRED),
    ("weight", "weight", UINT16),
    ("leaf_weight", "leafWeight", UINT16),
)

RATES = ListOf(
    ObjectOf(
        r.ThrottleDevice,
        ("major", "major", INT64, REQUIRED),
        ("minor", "minor", INT64, REQUIRED),
        ("rate", "rate", UINT64, REQUIRED),
    )
)

RESOURCES = ObjectOf(
    r.Resources,
    (
        "devices",
        "devices",
        ListOf(
            ObjectOf(
                r.DeviceRule,
                ("allow", "allow", FLAG, REQUIRED),
                ("type", "type", TEXT),
                ("major", "major", INT64),
                ("minor", "minor", INT64),
                ("access", "access", TEXT),
            )
        ),
    ),
    (
        "memory",
        "memory",
        ObjectOf(
            r.Memory,
            ("limit", "limit", INT64),
            ("reservation", "reservation", INT64),
            ("swap", "swap", INT64),
            ("kernel", "kernel", INT64),
            ("kernel_tcp", "kernelTCP", INT64),
            ("swappiness", "swappiness", UINT64),
            ("disable_oom_killer", "disableOOMKiller", FLAG),
            ("use_hierarchy", "useHierarchy", FLAG),
            ("check_before_update", "checkBeforeUpdate", FLAG),
        ),
    ),
    (
        "cpu",
        "cpu",
        ObjectOf(
            r.Cpu,
            ("shares", "shares", UINT64),
            ("quota", "quota", INT64),
            ("burst", "burst", UINT64),
            ("period", "period", UINT64),
            ("realtime_runtime", "realtimeRuntime", INT64),
            ("realtime_period", "realtimePeriod", UINT64),
            ("cpus", "cpus", TEXT),
            ("mems", "mems", TEXT),
            ("idle", "idle", INT64),
        ),
    ),
    ("pids", "pids", ObjectOf(r.Pids, ("limit", "limit", INT64))),
    (
        "block_io",
        "blockIO",
        ObjectOf(
            r.BlockIo,
            ("weight", "weight", UINT16),
            ("leaf_weight", "leafWeight", UINT16),
            ("weight_device", "weightDevice", ListOf(WEIGHT)),
            ("throttle_read_bps", "throttleReadBpsDevice", RATES),
            ("throttle_write_bps", "throttleWriteBpsDevice", RATES),
            ("throttle_read_iops", "throttleReadIOPSDevice", RATES),
            ("throttle_write_iops", "throttleWriteIOPSDevice", RATES),
        ),
    ),
    (
        "hugepage_limits",
        "hugepageLimits",
        ListOf(
            ObjectOf(r.HugepageLimit, ("page_size", "pageSize", TEXT, REQUIRED), ("limit", "limit", UINT64, REQUIRED))
        ),
    ),
    (
        "network",
        "network",
        ObjectOf(
            r.Network,
            ("class_id", "classID", UINT32),
            (
                "priorities",
                "priorities",
                ListOf(
                    ObjectOf(
                        r.InterfacePriority,
                        ("name", "name", TEXT, REQUIRED),
                        ("priority", "priority", UINT32, REQUIRED),
                    )
                ),
            ),
        ),
    ),
    (
        "rdma",
        "rdma",
        NamedObjects(
            "device",
            ObjectOf(r.Rdma, ("hca_handles", "hcaHandles", UINT32), ("hca_objects", "hcaObjects", UINT32)),
        ),
    ),
    ("unified", "unified", TEXT_PAIRS),
)

# --- config-linux.md: the rest

SECCOMP = ObjectOf(
    t.Seccomp,
    ("default_action", "defaultAction", TEXT, REQUIRED),
    ("default_errno_ret", "defaultErrnoRet", UINT32),
    ("architectures", "architectures", TEXTS),
    ("flags", "flags", TEXTS),
    ("listener_path", "listenerPath", TEXT),
    ("listener_metadata", "listenerMetadata", TEXT),
    (
        "syscalls",
        "syscalls",
        ListOf(
            ObjectOf(
                t.SeccompRule,
                ("names", "names", TEXTS, REQUIRED),
                ("action", "action", TEXT, REQUIRED),
                ("errno_ret", "errnoRet", UINT32),
                (
                    "args",
                    "args",
                    ListOf(
                        ObjectOf(
                            t.SeccompArg,
                            ("index", "index", Integer(0, 5), REQUIRED),
                            ("value", "value", UINT64, REQUIRED),
                            ("op", "op", TEXT, REQUIRED),
                            ("value_two", "valueTwo", UINT64),
                        )
                    ),
                ),
            )
        ),
    ),
)


class _DeviceShape(ObjectOf):
    """A device whose numbers may be left out for a FIFO only."""

    def read_fields(self, value: Any) -> dict[str, Any]:
        found = super().read_fields(value)
        for name in ("major", "minor"):
            if name not in found and found["type"] in ("c", "b", "u"):
                raise Wrong("is required", f".{name}")
        return found


LINUX = ObjectOf(
    t.Linux,
    (
        "namespaces",
        "namespaces",
        ListOf(ObjectOf(t.Namespace, ("type", "type", TEXT, REQUIRED), ("path", "path", TEXT))),
    ),
    ("uid_mappings", "uidMappings", ID_MAPPINGS),
    ("gid_mappings", "gidMappings", ID_MAPPINGS),
    (
        "time_offsets",
        "timeOffsets",
        NamedObjects(
            "clock",
            ObjectOf(t.TimeOffset, ("secs", "secs", INT64), ("nanosecs", "nanosecs", Integer(0, 999_999_999))),
        ),
    ),
    (
        "devices",
        "devices",
        ListOf(
            _DeviceShape(
                t.Device,
                ("path", "path", TEXT, REQUIRED),
                ("type", "type", TEXT, REQUIRED),
                ("major", "major", INT64, ALWAYS),
                ("minor", "minor", INT64, ALWAYS),
                ("file_mode", "fileMode", UINT32),
                ("uid", "uid", ID),
                ("gid", "gid", ID),
            )
        ),
    ),
    ("cgroups_path", "cgroupsPath", TEXT),
    ("resources", "resources", RESOURCES),
    (
        "intel_rdt",
        "intelRdt",
        ObjectOf(
            t.IntelRdt,
            ("clos_id", "closID", TEXT),
            ("schemata", "schemata", TEXTS),
            ("l3_cache_schema", "l3CacheSchema", TEXT),
            ("mem_bw_schema", "memBwSchema", TEXT),
            ("enable_monitoring", "enableMonitoring", FLAG),
            ("enable_cmt", "enableCMT", FLAG),
            ("enable_mbm", "enableMBM", FLAG),
        ),
    ),
    ("sysctl", "sysctl", TEXT_PAIRS),
    ("seccomp", "seccomp", SECCOMP),
    ("rootfs_propagation", "rootfsPropagation", TEXT),
    ("masked_paths", "maskedPaths", TEXTS),
    ("readonly_paths", "readonlyPaths", TEXTS),
    ("mount_label", "mountLabel", TEXT),
    (
        "personality",
        "personality",
        ObjectOf(t.Personality, ("domain", "domain", TEXT, REQUIRED), ("flags", "flags", TEXTS)),
    ),
    (
        "memory_policy",
        "memoryPolicy",
        ObjectOf(t.MemoryPolicy, ("mode", "mode", TEXT, REQUIRED), ("nodes", "nodes", TEXT), ("flags", "flags", TEXTS)),
    ),
    ("net_devices", "netDevices", NamedObjects("device", ObjectOf(t.NetDevice, ("name", "name", TEXT)))),
)

SPEC = ObjectOf(
    t.Spec,
    ("oci_version", "ociVersion", TEXT, REQUIRED),
    ("process", "process", PROCESS),
    ("root", "root", ROOT),
    ("hostname", "hostname", TEXT),
    ("domainname", "domainname", TEXT),
    ("mounts", "mounts", ListOf(MOUNT)),
    ("hooks", "hooks", HOOKS),
    ("annotations", "annotations", TEXT_PAIRS),
    ("linux", "linux", LINUX),
)
