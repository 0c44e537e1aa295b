"""config.json in and out: what is read is what is written, and what is wrong is named by its JSON path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jubako.errors import UsageError
from jubako.record import replace
from jubako.spec.defaults import MASKED_PATHS, default, default_mounts, thermal_paths
from jubako.spec.dump import dump, dump_process, dump_resources
from jubako.spec.load import load, load_process, load_resources, load_seccomp
from jubako.spec.types import IdMapping, Linux, Mount, Process, Spec, User


def document(**changes: Any) -> dict[str, Any]:
    """A small valid document with some properties changed."""
    return {"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": ["sh"]}, **changes}


def process(**changes: Any) -> dict[str, Any]:
    return document(process={"cwd": "/", "args": ["sh"], **changes})


def linux(**changes: Any) -> dict[str, Any]:
    return document(linux=changes)


WRONG = [
    ([], "must be an object, not an array"),
    ({}, "ociVersion: is required"),
    (document(ociVersion="2.0.0"), "ociVersion: version '2.0.0' is not supported, only 1.x is"),
    (document(ociVersion="1"), "ociVersion: version '1' is not supported, only 1.x is"),
    (document(root=None), "root.path: is required"),
    (document(root={}), "root.path: is required"),
    (document(root={"path": "x", "readonly": "yes"}), "root.readonly: must be true or false, not a string"),
    (document(hostname=5), "hostname: must be a string, not the number 5"),
    (document(hostname="a" * 65), "hostname: must not be longer than 64 bytes"),
    (document(hostname="box"), "hostname: needs a uts namespace"),
    (document(domainname="box"), "domainname: needs a uts namespace"),
    (document(annotations={"a": 1}), "annotations.a: must be a string, not the number 1"),
    (document(mounts={}), "mounts: must be an array, not an object"),
    (document(mounts=[{}]), "mounts[0].destination: is required"),
    (document(mounts=[{"destination": ""}]), "mounts[0].destination: must not be empty"),
    (document(mounts=[{"destination": "/a"}, None]), "mounts[1]: must be an object, not null"),
    (
        document(mounts=[{"destination": "/a", "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]}]),
        "mounts[0]: must have both uidMappings and gidMappings, or neither",
    ),
    (document(hooks={"createRuntime": [{"path": "true"}]}), "hooks.createRuntime[0].path: must be an absolute path"),
    (
        document(hooks={"poststop": [{"path": "/x", "timeout": 0}]}),
        "hooks.poststop[0].timeout: must lie between 1 and 2147483647, not 0",
    ),
    (process(args="sh"), "process.args: must be an array, not a string"),
    (process(args=[]), "process.args: must name a program"),
    (process(args=["sh", True]), "process.args[1]: must be a string, not true"),
    (process(args=["a\0b"]), "process.args[0]: must not contain a NUL character"),
    (process(cwd="work"), "process.cwd: must be an absolute path"),
    (process(cwd=None), "process.cwd: is required"),
    (process(env=["PATH=/bin", "X"]), "process.env[1]: must be of the form NAME=VALUE, not 'X'"),
    (process(env=["=x"]), "process.env[0]: must be of the form NAME=VALUE, not '=x'"),
    (process(user={"uid": -1}), "process.user.uid: must lie between 0 and 4294967294, not -1"),
    (process(user={"uid": 1.5}), "process.user.uid: must be a whole number, not the number 1.5"),
    (process(user={"uid": True}), "process.user.uid: must be a whole number, not true"),
    (process(oomScoreAdj=1001), "process.oomScoreAdj: must lie between -1000 and 1000, not 1001"),
    (
        process(rlimits=[{"type": "RLIMIT_FOO", "hard": 1, "soft": 1}]),
        "process.rlimits[0].type: 'RLIMIT_FOO' is not a resource limit of Linux",
    ),
    (
        process(rlimits=[{"type": "RLIMIT_CPU", "hard": 1, "soft": 2}]),
        "process.rlimits[0]: the soft limit 2 is above the hard limit 1",
    ),
    (
        process(rlimits=[{"type": "RLIMIT_CPU", "hard": 1, "soft": 1}] * 2),
        "process.rlimits[1].type: RLIMIT_CPU stands twice",
    ),
    (linux(namespaces=[{"type": "pid"}, {"type": "pid"}]), "linux.namespaces[1].type: pid stands twice"),
    (linux(namespaces=[{"type": "pid", "path": "x"}]), "linux.namespaces[0].path: must be an absolute path"),
    (linux(maskedPaths=["/proc/kcore", "x"]), "linux.maskedPaths[1]: must be an absolute path"),
    (linux(rootfsPropagation="up"), "linux.rootfsPropagation: must be one of shared, slave, private"),
    (linux(personality={"domain": "SOLARIS"}), "linux.personality.domain: must be LINUX or LINUX32"),
    (linux(timeOffsets={"realtime": {}}), "linux.timeOffsets.realtime: only the clocks monotonic and boottime"),
    (
        linux(timeOffsets={"boottime": {"nanosecs": 1_000_000_000}}),
        "linux.timeOffsets.boottime.nanosecs: must lie between 0 and 999999999",
    ),
    (linux(timeOffsets={"boottime": {"secs": 1}}), "linux.timeOffsets: needs a new time namespace"),
    (linux(devices=[{"path": "/dev/x", "type": "q"}]), "linux.devices[0].type: must be c, b, u or p, not 'q'"),
    (linux(uidMappings=[{"containerID": 0, "hostID": 0}]), "linux.uidMappings[0].size: is required"),
    (
        linux(resources={"memory": {"limit": 2**63}}),
        "linux.resources.memory.limit: must lie between -9223372036854775808 and 9223372036854775807",
    ),
    (linux(resources={"devices": [{"access": "r"}]}), "linux.resources.devices[0].allow: is required"),
    (linux(seccomp={"defaultAction": "NO"}), "linux.seccomp.defaultAction: 'NO' is not an action of seccomp"),
    (
        linux(
            seccomp={
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    {"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 0, "op": "EQ"}]}
                ],
            }
        ),
        "linux.seccomp.syscalls[0].args[0].op: 'EQ' is not a comparison of seccomp",
    ),
]


@pytest.mark.parametrize(("value", "message"), WRONG, ids=[message[:60] for _, message in WRONG])
def test_a_wrong_document_is_refused_with_the_path_to_what_is_wrong(value: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(value)
    assert str(caught.value).startswith(f"read config.json: {message}")
    assert caught.value.exit_code == 125


def test_an_unknown_namespace_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(UsageError, match="'net' is not one of pid, network, mount, ipc, uts, user, cgroup, time"):
        load(linux(namespaces=[{"type": "net"}]))


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.0", "1.99.7"])
def test_every_version_of_the_first_major_is_taken(version: str) -> None:
    assert load(document(ociVersion=version)).oci_version == version


def test_properties_that_are_not_known_are_ignored() -> None:
    assert load(document(zos={}, process={"cwd": "/", "args": ["sh"], "commandLine": "x"})) == load(document())


def test_null_counts_as_absent() -> None:
    assert load(process(capabilities=None, env=None, rlimits=None)) == load(document())


def test_a_document_without_a_process_is_valid() -> None:
    spec = load({"ociVersion": "1.2.0", "root": {"path": "rootfs"}})
    assert spec.process == Process()
    assert "process" not in dump(spec)


def test_empty_capabilities_are_not_absent_capabilities() -> None:
    spec = load(process(capabilities={}))
    assert spec.process.capabilities is not None
    assert dump(spec)["process"]["capabilities"] == {}
    assert load(document()).process.capabilities is None


def test_a_user_without_ids_is_root() -> None:
    assert load(process(user={})).process.user == User(uid=0, gid=0)


def test_a_relative_mount_destination_counts_from_the_root() -> None:
    spec = load(document(mounts=[{"destination": "data"}, {"destination": "/proc", "type": "proc"}]))
    assert [mount.destination for mount in spec.mounts] == ["/data", "/proc"]


def test_numbers_that_are_zero_are_kept_where_absent_means_something_else() -> None:
    spec = load(linux(resources={"memory": {"swappiness": 0}, "pids": {"limit": 0}}))
    assert dump(spec)["linux"] == {"resources": {"memory": {"swappiness": 0}, "pids": {"limit": 0}}}


def test_what_was_not_said_is_not_written() -> None:
    assert dump(load(document())) == document(
        process={"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
    )


def test_the_default_document_is_valid_json_and_reads_back_as_itself() -> None:
    spec = default()
    assert load(json.loads(json.dumps(dump(spec)))) == spec


def test_the_default_document_masks_what_leaks_the_host() -> None:
    masked = default().linux.masked_paths
    assert {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"} <= set(masked)
    assert masked == MASKED_PATHS


def test_terminals_are_handed_to_group_five_only_when_it_is_mapped() -> None:
    def pts(mounts: tuple[Mount, ...]) -> Mount:
        return next(mount for mount in mounts if mount.type == "devpts")

    assert "gid=5" not in pts(default_mounts()).options
    assert "gid=5" in pts(default_mounts(tty_group=True)).options


def test_thermal_paths_are_masked_for_each_cpu_in_order_where_there_are_any(tmp_path: Any) -> None:
    assert thermal_paths(str(tmp_path)) == ()
    for name in ("cpu0", "cpu10", "cpu2", "cpufreq", "cpuidle"):
        (tmp_path / name / "thermal_throttle").mkdir(parents=True)
    assert [path.split("/")[5] for path in thermal_paths(str(tmp_path))] == ["cpu0", "cpu2", "cpu10"]


def test_a_process_alone_is_read_and_written_as_exec_has_it() -> None:
    given = {"terminal": True, "cwd": "/", "args": ["id"], "user": {"uid": 5, "gid": 6, "additionalGids": [7]}}
    assert dump_process(load_process(given)) == given
    with pytest.raises(UsageError, match=r"read process.json: args: must name a program"):
        load_process({"cwd": "/"})


def test_limits_alone_are_read_and_written_as_update_has_them() -> None:
    given = {
        "cpu": {"quota": 1000, "period": 100000},
        "rdma": {"mlx5": {"hcaHandles": 3}},
        "unified": {"pids.max": "9"},
    }
    assert dump_resources(load_resources(given)) == given


def test_a_seccomp_profile_alone_is_checked() -> None:
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": [], "action": "SCMP_ACT_ALLOW"}]}
    with pytest.raises(UsageError, match=r"read /x.json: syscalls\[0\].names: must name a system call"):
        load_seccomp(profile, "/x.json")


def test_records_are_hashable_throughout() -> None:
    mapped = replace(default(), linux=Linux(uid_mappings=(IdMapping(0, 1000, 1),), sysctl=(("net.a", "1"),)))
    assert len({default(), default(), mapped}) == 2
    assert isinstance(mapped, Spec)
