"""A config.json that no container can be made of is refused with the JSON path of what is wrong; nothing is made."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from world.bundle import Bundle
from world.faults import faults_of
from world.runtime import Runtime

MISSING = object()
NUL = "a\0b"
LONE = "\ud800"
HUGE = 10**30

# (path, value, what is said besides the path); MISSING takes the property out
Row = tuple[str, Any, str]

TOP: tuple[Row, ...] = (
    ("ociVersion", MISSING, "is required"),
    ("ociVersion", 1, "must be a string"),
    ("ociVersion", "2.0.0", "not supported"),
    ("ociVersion", "", "not supported"),
    ("root", MISSING, "is required"),
    ("root", "rootfs", "must be an object"),
    ("root.path", MISSING, "is required"),
    ("root.path", "", "is required"),
    ("root.path", ["rootfs"], "must be a string"),
    ("root.path", NUL, "NUL"),
    ("root.path", LONE, "lone surrogate"),
    ("root.readonly", "yes", "must be true or false"),
    ("hostname", 7, "must be a string"),
    ("hostname", "h" * 65, "longer than 64"),
    ("hostname", NUL, "NUL"),
    ("domainname", "d" * 100_000, "longer than 64"),
    ("annotations", [], "must be an object"),
    ("annotations", {"a": 1}, "must be a string"),
    ("annotations", {"": "x"}, "empty name"),
    ("annotations", {f"name{number}": "" for number in range(70_000)}, "are the most"),
    ("mounts", {}, "must be an array"),
    ("hooks", [], "must be an object"),
    ("linux", [], "must be an object"),
)
PROCESS: tuple[Row, ...] = (
    ("process", MISSING, "args"),
    ("process", [], "must be an object"),
    ("process.args", MISSING, "args"),
    ("process.args", [], "args"),
    ("process.args", "sh", "must be an array"),
    ("process.args[0]", None, "must be a string"),
    ("process.args[0]", NUL, "NUL"),
    ("process.args[0]", LONE, "lone surrogate"),
    ("process.cwd", MISSING, "is required"),
    ("process.cwd", "tmp", "absolute"),
    ("process.cwd", "", "absolute"),
    ("process.env", {"A": "1"}, "must be an array"),
    ("process.env[0]", "PATH", "NAME=VALUE"),
    ("process.env[0]", "=x", "NAME=VALUE"),
    ("process.env[0]", "A=" + LONE, "lone surrogate"),
    ("process.terminal", 1, "must be true or false"),
    ("process.consoleSize", {"height": -1, "width": 80}, "height"),
    ("process.consoleSize", {"height": 24}, "width"),
    ("process.user", "root", "must be an object"),
    ("process.user.uid", -1, "must lie between"),
    ("process.user.uid", 2**32, "must lie between"),
    ("process.user.uid", 1.5, "must be a whole number"),
    ("process.user.uid", True, "must be a whole number"),
    ("process.user.gid", "0", "must be a whole number"),
    ("process.user.umask", HUGE, "must lie between"),
    ("process.user.additionalGids", [-5], "[0]"),
    ("process.user.additionalGids", list(range(70_000)), "are the most"),
    ("process.rlimits", [{"type": "RLIMIT_NOFILE", "hard": 1, "soft": 2}], "soft limit"),
    ("process.rlimits", [{"type": "RLIMIT_NONSENSE", "hard": 1, "soft": 1}], "not a resource limit"),
    ("process.rlimits", [{"type": "RLIMIT_CORE", "hard": 1, "soft": 1}] * 2, "twice"),
    ("process.rlimits", [{"type": "RLIMIT_CORE", "hard": -1, "soft": -1}], "must lie between"),
    ("process.capabilities", ["CAP_KILL"], "must be an object"),
    ("process.capabilities.bounding", [NUL], "NUL"),
    ("process.noNewPrivileges", "true", "must be true or false"),
    ("process.oomScoreAdj", "x", "must be a whole number"),
    ("process.oomScoreAdj", HUGE, "must lie between"),
    ("process.apparmorProfile", 1, "must be a string"),
    ("process.selinuxLabel", [], "must be a string"),
    ("process.scheduler", {"policy": "SCHED_SOMETIMES"}, "SCHED_SOMETIMES"),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_X", "priority": 0}, "IOPRIO_CLASS_X"),
    ("process.execCPUAffinity", {"initial": "a-b"}, "initial"),
)
MOUNTS: tuple[Row, ...] = (
    ("mounts[0]", "proc", "must be an object"),
    ("mounts[0].destination", MISSING, "is required"),
    ("mounts[0].destination", "", "must not be empty"),
    ("mounts[0].destination", NUL, "NUL"),
    ("mounts[0].type", 9, "must be a string"),
    ("mounts[0].options", "ro", "must be an array"),
    ("mounts[0].options", [1], "must be a string"),
    ("mounts[0].uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}], "neither"),
    ("mounts", [{"destination": "/m"}] * 1_000_000, "1000000 entries"),
)
LINUX: tuple[Row, ...] = (
    ("linux.namespaces", {}, "must be an array"),
    ("linux.namespaces[0].type", "pids", "is not one of"),
    ("linux.namespaces[0].type", MISSING, "is required"),
    ("linux.namespaces[0].path", "proc/self/ns/pid", "absolute"),
    ("linux.namespaces", [{"type": "pid"}] * 2, "twice"),
    ("linux.namespaces", [{"type": "pid"}] * 100_000, "are the most"),
    ("linux.uidMappings", [{"containerID": 0, "hostID": 0}], "size"),
    ("linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 0}], "cannot be mapped"),
    ("linux.gidMappings", [{"containerID": -1, "hostID": 0, "size": 1}], "containerID"),
    ("linux.gidMappings", [{"containerID": 0, "hostID": 0, "size": HUGE}], "size"),
    ("linux.uidMappings", [{"containerID": 2**32 - 1, "hostID": 0, "size": 2}], "uidMappings"),
    ("linux.devices", [{"path": "dev/x", "type": "c", "major": 1, "minor": 3}], "absolute"),
    ("linux.devices", [{"path": "/dev/x", "type": "q"}], "must be c, b, u or p"),
    ("linux.devices", [{"path": "/dev/x", "type": "c", "major": -1, "minor": 3}], "major"),
    ("linux.cgroupsPath", 5, "must be a string"),
    ("linux.resources", [], "must be an object"),
    ("linux.resources", {"memory": {"limit": "1G"}}, "memory.limit"),
    ("linux.resources", {"cpu": {"shares": -1}}, "cpu.shares"),
    ("linux.resources", {"pids": {"limit": {}}}, "pids.limit"),
    ("linux.sysctl", {"kernel.msgmax": 1}, "must be a string"),
    ("linux.seccomp", {}, "defaultAction"),
    ("linux.seccomp", {"defaultAction": "ALLOW"}, "not an action"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["Z80"]}, "Z80"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "x"}]}, "names"),
    ("linux.maskedPaths", ["proc"], "absolute"),
    ("linux.readonlyPaths", [NUL], "NUL"),
    ("linux.rootfsPropagation", "sideways", "must be one of"),
    ("linux.mountLabel", 1, "must be a string"),
    ("linux.timeOffsets", {"realtime": {"secs": 1}}, "monotonic and boottime"),
    ("linux.timeOffsets", {"boottime": {"secs": HUGE}}, "secs"),
    ("linux.personality", {"domain": "WINDOWS"}, "domain"),
    ("linux.intelRdt", 1, "must be an object"),
    ("linux.memoryPolicy", {"mode": "MPOL_NONE"}, "mode"),
    ("linux.netDevices", {"eth0": 1}, "must be an object"),
)
HOOK = {"path": "/bin/true"}
HOOKS: tuple[Row, ...] = (
    ("hooks.prestart", HOOK, "must be an array"),
    ("hooks.createRuntime", [{}], "path"),
    ("hooks.createContainer", [{"path": "bin/true"}], "absolute"),
    ("hooks.startContainer", [HOOK | {"path": NUL}], "NUL"),
    ("hooks.poststart", [HOOK | {"args": "x"}], "must be an array"),
    ("hooks.poststop", [HOOK | {"env": [1]}], "must be a string"),
    ("hooks.poststop", [HOOK | {"timeout": 0}], "timeout"),
    ("hooks.poststop", [HOOK | {"timeout": HUGE}], "timeout"),
    ("hooks.prestart", [HOOK] * 100_000, "are the most"),
)


TABLES = {"top": TOP, "process": PROCESS, "mounts": MOUNTS, "linux": LINUX, "hooks": HOOKS}


@pytest.mark.parametrize("rows", TABLES.values(), ids=TABLES)
def test_a_property_that_is_missing_or_of_a_wrong_type_or_out_of_range(
    rows: tuple[Row, ...], bundle: Bundle, refused: Callable[..., None]
) -> None:
    bundle.process["consoleSize"] = {"height": 1, "width": 1}
    for path, value, said in rows:
        refused(changed(bundle.config, path, value), path.partition("[")[0], said)


def test_the_whole_document_is_something_else(refused: Callable[..., None]) -> None:
    for text in (b"", b" ", b"null", b"[]", b"7", b'"x"', b"true", b"{", b"{}x", b"\xff\xfe{}", b"\0", b"{'a': 1}"):
        refused(text, "config.json")
    refused(b'{"ociVersion": "1.0.2", "ociVersion": "1.0.2"}', "config.json")
    refused(b'{"ociVersion": NaN}', "config.json")


def test_json_that_is_nested_too_deeply(refused: Callable[..., None]) -> None:
    for depth in (1000, 100_000, 5_000_000):
        refused(b"[" * depth, "config.json")
        refused(b'{"annotations":' * depth + b"1" + b"}" * depth, "config.json")


def test_json_of_a_hundred_megabytes(refused: Callable[..., None]) -> None:
    refused(b'{"x": "' + b"x" * 100_000_000 + b'"}', "config.json", "more than 32 MiB")


def test_numbers_of_thousands_of_digits(bundle: Bundle, refused: Callable[..., None]) -> None:
    text = json.dumps(changed(bundle.config, "process.user.uid", 4242424242))
    for number in ("9" * 100_000, "-" + "9" * 4000, "1e400", "0." + "1" * 100_000, "1" + "0" * 4299):
        refused(text.replace("4242424242", number).encode(), "config.json")


def test_a_wrong_property_beside_a_million_unknown_ones(bundle: Bundle, refused: Callable[..., None]) -> None:
    unknown = {f"x-{number}": [] for number in range(300_000)}
    refused(unknown | changed(bundle.config, "process.cwd", "tmp"), "process.cwd")


def test_what_the_kernel_cannot_do_names_step_and_cause(bundle: Bundle, refused: Callable[..., None]) -> None:
    long = "/" + "n" * 300
    for path, value, *texts in (
        ("process.args", ["/no/such/program"], "execute /no/such/program", "ENOENT"),
        ("process.args", ["nosuch"], "execute nosuch", "ENOENT"),
        ("process.args", ["/etc"], "execute /etc", "EISDIR"),
        ("process.args", ["/etc/passwd"], "execute /etc/passwd", "EACCES"),
        ("process.args", ["x" * 100_000], "ENAMETOOLONG"),
        ("process.cwd", "/etc/passwd", "/etc/passwd", "ENOTDIR"),
        ("process.cwd", long, "ENAMETOOLONG"),
        ("mounts[0].destination", long, "ENAMETOOLONG"),
        ("mounts[0].destination", "/etc/passwd/x", "ENOTDIR"),
        ("mounts[0]", {"destination": "/m", "type": "bind", "source": "/no/such", "options": ["bind"]}, "/no/such"),
        ("mounts[0]", {"destination": "/m", "type": "bind", "options": ["bind"]}, "no source"),
        ("mounts[0]", {"destination": "/", "type": "tmpfs", "source": "tmpfs"}, "would cover"),
        ("mounts[0]", {"destination": "/m", "type": "nosuchfs", "source": "x"}, "nosuchfs"),
        ("mounts[1].options", ["size=all"], "size"),
        ("mounts[1].options", ["x" * 100_000], "tmpfs"),
        ("linux.namespaces[0].path", "/no/such", "/no/such", "ENOENT"),
        ("linux.namespaces[0].path", "/etc/passwd", "this is no pid namespace"),
        ("linux.namespaces[0].path", "/proc/self/ns/uts", "this is no pid namespace"),
        ("linux.cgroupsPath", "/a/../../b", "must not contain '..'"),
        ("linux.sysctl", {"kernel.nosuch.thing": "1"}, "kernel.nosuch.thing"),
        ("linux.sysctl", {"../../../etc/passwd": "1"}, "etc/passwd"),
    ):
        document = changed(bundle.config, path, value)
        refused(document, *texts)


def test_a_bundle_without_a_mount_namespace_changes_nothing_of_the_host(
    bundle: Bundle, refused: Callable[..., None]
) -> None:
    bundle.no_namespace("mount")
    refused(bundle.config, "mount namespace")


def test_a_limit_that_cannot_be_set(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 2**63, "soft": 2**63}]
    assert faults_of(runtime.run(bundle, check=False), "RLIMIT_NOFILE", "EPERM", "step ") == []


def test_a_user_that_no_map_knows(runtime: Runtime, bundle: Bundle, who: str) -> None:
    if who == "root":
        bundle.namespace("user")
        bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 10}]
    bundle.process["user"] = {"uid": 4000000, "gid": 0}
    result = runtime.run(bundle, check=False)
    assert faults_of(result, "become the container's user", "EINVAL", "not mapped") == []


def changed(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `config` in which `path` ("mounts[0].type") has `value`, or is MISSING."""
    result = copy.deepcopy(config)
    *way, last = path.replace("[", ".[").split(".")
    place: Any = result
    for name in way:
        place = place[int(name[1:-1])] if name.startswith("[") else place.setdefault(name, {})
    if value is MISSING:
        del place[last]
    else:
        place[int(last[1:-1]) if last.startswith("[") else last] = value
    return result
