"""What this runtime knows of the specification (OCI runtime-spec 1.3, features.md and features-linux.md).

Engines read it before they write a config.json. It says what the program can do; what this machine lacks is told where
it is asked for.
"""

from __future__ import annotations

from jubako.linux.caps import NAMES, last_cap
from jubako.plan.mount_options import MOUNT_OPTIONS
from jubako.spec.check import SECCOMP_ACTIONS, SECCOMP_OPERATORS
from jubako.spec.check_attributes import MEMORY_FLAGS, MEMORY_MODES
from jubako.spec.defaults import NAMESPACE_TYPES
from jubako.spec.types import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_ARCHITECTURES = (
    "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_X32",
    "SCMP_ARCH_X86", "SCMP_ARCH_X86_64",
)  # fmt: skip
_UNSAFE = ("org.systemd.property.", "run.oci.")


def features(version: str) -> dict[str, Any]:
    """The features document of this version of the runtime."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": list(_HOOKS),
        "mountOptions": list(MOUNT_OPTIONS),
        "linux": {
            "namespaces": sorted(NAMESPACE_TYPES),
            "capabilities": list(NAMES[: last_cap() + 1]),
            "cgroup": {"v1": False, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": _seccomp(),
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
            "memoryPolicy": {"modes": list(MEMORY_MODES), "flags": list(MEMORY_FLAGS)},
        },
        "annotations": {"jubako.version": version},
        "potentiallyUnsafeConfigAnnotations": list(_UNSAFE),
    }


def _seccomp() -> dict[str, Any]:
    from jubako.linux import libseccomp
    from jubako.plan.seccomp import FLAGS

    try:
        libseccomp.open_library()
    except OSError:  # a document's own filter could not be compiled
        return {"enabled": False}
    flags = list(FLAGS)
    return {
        "enabled": True,
        "actions": list(SECCOMP_ACTIONS),
        "operators": list(SECCOMP_OPERATORS),
        "archs": list(_ARCHITECTURES),
        "knownFlags": flags,
        "supportedFlags": flags,
    }
