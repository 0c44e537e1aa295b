"""features.md and features-linux.md: what the runtime says that it understands, and that it does."""

from __future__ import annotations

from typing import Any

import pytest

from world.bundle import Bundle
from world.rule import rule
from world.runtime import Runtime

PROPERTIES = {
    "ociVersionMin",
    "ociVersionMax",
    "hooks",
    "mountOptions",
    "linux",
    "annotations",
    "potentiallyUnsafeConfigAnnotations",
}
LINUX = {
    *("namespaces", "capabilities", "cgroup", "seccomp", "apparmor", "selinux", "intelRdt", "mountExtensions"),
    *("netDevices", "memoryPolicy"),
}


@pytest.fixture
def features(runtime: Runtime) -> dict[str, Any]:
    document: dict[str, Any] = runtime("features", check=True).json
    return document


@rule("features.md", "Features Document", "MUST", "`ociVersionMin` and `ociVersionMax` are there, in this order.")
@rule("features.md", "Specification version", "MUST", "Both are accepted as `ociVersion`.")
def test_the_versions(runtime: Runtime, bundle: Bundle, features: dict[str, Any]):
    least, most = features["ociVersionMin"], features["ociVersionMax"]
    assert [int(part) for part in least.split("-")[0].split(".")] <= [
        int(part) for part in most.split("-")[0].split(".")
    ]
    for version in (least, most):
        bundle.config["ociVersion"] = version
        assert runtime.says(bundle, "echo here") == "here"


@rule("features.md", "Specification version", "MUST", "There is no property that the specification does not define.")
def test_there_are_no_other_properties(features: dict[str, Any]):
    assert set(features) <= PROPERTIES
    assert set(features["linux"]) <= LINUX


@rule("features.md", "Hooks", "MUST", "The listed hooks are supported: all six.")
def test_the_hooks(features: dict[str, Any]):
    assert set(features["hooks"]) == {
        *("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    }


@rule("features.md", "Mount Options", "MUST", "Each listed option is understood; the table's options are all listed.")
def test_the_mount_options(runtime: Runtime, bundle: Bundle, features: dict[str, Any]):
    listed = features["mountOptions"]
    assert {"ro", "rro", "rbind", "rslave", "tmpcopyup", "nosymfollow", "rnosymfollow", "idmap", "ridmap"} <= set(
        listed
    )
    bundle.mount("/mnt", "tmpfs", "tmpfs")
    for option in listed:
        if option not in ("bind", "rbind", "remount", "idmap", "ridmap", "acl", "noacl"):
            bundle.mount(f"/mnt/{option}", "tmpfs", "tmpfs", [option, "size=64k"])
    assert runtime.says(bundle, "echo here") == "here"


@rule("features-linux.md", "Namespaces", "MUST", "The listed types of namespaces are recognized.")
def test_the_namespaces(features: dict[str, Any]):
    assert set(features["linux"]["namespaces"]) == {
        *("cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts")
    }


@rule("features-linux.md", "Capabilities", "MUST", "The listed capabilities are recognized.")
def test_the_capabilities(runtime: Runtime, bundle: Bundle, features: dict[str, Any]):
    listed = features["linux"]["capabilities"]
    assert {"CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON", "CAP_CHECKPOINT_RESTORE"} <= set(listed)
    bundle.capabilities(listed, "bounding")
    bundle.capabilities([], "effective", "permitted")
    bundle.sh("echo here")
    result = runtime.run(bundle)
    assert result.stdout == "here\n"
    assert "unknown" not in result.stderr


@rule("features-linux.md", "Cgroup", "MUST", "`cgroup` tells of cgroup v2.")
def test_the_cgroup_managers(features: dict[str, Any]):
    assert features["linux"]["cgroup"]["v2"] is True


@rule("features-linux.md", "Seccomp", "MUST", "The listed actions, operators, architectures and flags are recognized.")
def test_seccomp(runtime: Runtime, bundle: Bundle, features: dict[str, Any]):
    seccomp = features["linux"]["seccomp"]
    assert seccomp["enabled"] is True
    actions = [action for action in seccomp["actions"] if action != "SCMP_ACT_NOTIFY"]
    assert {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"} <= set(
        actions
    )
    assert "SCMP_ACT_NOTIFY" in seccomp["actions"]
    assert set(seccomp["supportedFlags"]) <= set(seccomp["knownFlags"])
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [each for each in seccomp["archs"] if "X86" in each or "X32" in each],
        "flags": [each for each in seccomp["supportedFlags"] if "RECV" not in each],
        "syscalls": [
            *(
                {"names": [f"{'sync' if action != 'SCMP_ACT_ALLOW' else 'read'}"], "action": action}
                for action in actions[:1]
            ),
            *(
                {
                    "names": ["setpriority"],
                    "action": "SCMP_ACT_ERRNO",
                    "args": [{"index": 0, "value": 77, "valueTwo": 77, "op": op}],
                }
                for op in ("SCMP_CMP_EQ", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ")
                if op in seccomp["operators"]
            ),
        ],
    }
    assert runtime.says(bundle, "echo here") == "here"
    assert len(seccomp["operators"]) == 7


@rule("features-linux.md", "MountExtensions", "MUST", "`idmap.enabled` tells that maps of mounts are used.")
@rule("features-linux.md", "NetDevices", "MUST", "`netDevices.enabled` tells that devices are moved.")
@rule("features-linux.md", "MemoryPolicy", "MUST", "`memoryPolicy` lists modes and flags.")
def test_the_other_features(features: dict[str, Any]):
    linux = features["linux"]
    assert linux["mountExtensions"] == {"idmap": {"enabled": True}}
    assert linux["netDevices"] == {"enabled": True}
    assert {"MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_PREFERRED", "MPOL_LOCAL"} <= set(linux["memoryPolicy"]["modes"])
    assert "MPOL_F_STATIC_NODES" in linux["memoryPolicy"]["flags"]
    for name in ("apparmor", "selinux", "intelRdt"):
        assert isinstance(linux[name]["enabled"], bool)


@rule("features.md", "Annotations", "MUST", "`annotations` are a map of strings.")
def test_annotations(features: dict[str, Any]):
    assert all(isinstance(value, str) for value in features.get("annotations", {}).values())
