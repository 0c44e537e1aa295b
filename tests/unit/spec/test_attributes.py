"""What version 1.3 of the specification added, and the values of the kernel's attributes: taken or refused by path."""

from __future__ import annotations

import time
from typing import Any

import pytest

from jubako import jsontext
from jubako.errors import UsageError
from jubako.spec.check_attributes import is_device_name, read_numbers
from jubako.spec.dump import dump
from jubako.spec.environment import last_wins, value_of
from jubako.spec.load import load
from jubako.spec.shape import MOST, Wrong
from jubako.spec.types import IntelRdt, MemoryPolicy, NetDevice

NETWORK = {"namespaces": [{"type": "network"}]}


def document(process: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    program = {"cwd": "/", "args": ["sh"], **(process or {})}
    return {"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "process": program, **changes}


def linux(**changes: Any) -> dict[str, Any]:
    return document(linux=changes)


def seccomp(**changes: Any) -> dict[str, Any]:
    return linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", **changes})


ONE = {"containerID": 0, "hostID": 0, "size": 1}
WRONG = [
    (document({"scheduler": {"policy": "SCHED_FAST"}}), "process.scheduler.policy: 'SCHED_FAST' is not one of SCHED_"),
    (document({"scheduler": {"policy": "SCHED_OTHER", "nice": 20}}), "process.scheduler.nice: must lie between -20"),
    (document({"scheduler": {"policy": "SCHED_OTHER", "priority": 1}}), "process.scheduler.priority: is for SCHED_FI"),
    (document({"scheduler": {"policy": "SCHED_RR"}}), "process.scheduler.priority: must lie between 1 and 99"),
    (document({"scheduler": {"policy": "SCHED_RR", "priority": 1, "period": 1}}), "process.scheduler.period: is for"),
    (document({"scheduler": {"policy": "SCHED_OTHER", "flags": ["X"]}}), "process.scheduler.flags[0]: 'X' is not one"),
    (document({"ioPriority": {"class": "BEST"}}), "process.ioPriority.class: 'BEST' is not one of IOPRIO_CLASS_RT"),
    (document({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}), "process.ioPriority.priority: must lie"),
    (document({"execCPUAffinity": {"initial": "0-"}}), "process.execCPUAffinity.initial: must be a list of numbers"),
    (document({"execCPUAffinity": {"final": "99999"}}), "process.execCPUAffinity.final: '99999' is no range"),
    (document({"env": ["A=1", "\ud800=2"]}), "process.env[1]: must not contain a lone surrogate"),
    (document(annotations={"": "x"}), "annotations: must not have an empty name"),
    (document(mounts=[{"destination": "/a"}] * (MOST + 1)), f"mounts: has {MOST + 1} entries, {MOST} are the most"),
    (document(mounts=[{"destination": "/a", "options": ["rbind", "idmap"]}]), "mounts[0].options: idmap wants uidM"),
    (linux(uidMappings=[{**ONE, "size": 0}]), "linux.uidMappings: 0 ids from 0 on cannot be mapped"),
    (linux(gidMappings=[ONE, {**ONE, "containerID": 5}]), "linux.gidMappings: the id 0 is mapped twice"),
    (linux(uidMappings=[{**ONE, "hostID": 2**32 - 1, "size": 2}]), "linux.uidMappings: 2 ids from 4294967295 on"),
    (linux(uidMappings=[ONE] * 341), "linux.uidMappings: has 341 entries, 340 are the most"),
    (linux(personality={"domain": "LINUX", "flags": ["X"]}), "linux.personality.flags[0]: 'X' is not known"),
    (linux(memoryPolicy={"mode": "MPOL_BAD"}), "linux.memoryPolicy.mode: 'MPOL_BAD' is not one of MPOL_DEFAULT"),
    (linux(memoryPolicy={"mode": "MPOL_BIND"}), "linux.memoryPolicy.nodes: must name the nodes of MPOL_BIND"),
    (linux(memoryPolicy={"mode": "MPOL_LOCAL", "nodes": "0"}), "linux.memoryPolicy.nodes: must be empty"),
    (linux(memoryPolicy={"mode": "MPOL_BIND", "nodes": "x"}), "linux.memoryPolicy.nodes: must be a list of numbers"),
    (
        linux(memoryPolicy={"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_FAST"]}),
        "linux.memoryPolicy.flags[0]: 'MPOL_F_FAST' is not one of",
    ),
    (document({"user": {"uid": 2**32 - 1}}), "process.user.uid: must lie between 0 and 4294967294"),
    (linux(devices=[{"path": "/dev/x", "type": "c", "minor": 1}]), "linux.devices[0].major: is required"),
    (linux(devices=[{"path": "/dev/x", "type": "b", "major": 1}]), "linux.devices[0].minor: is required"),
    (linux(devices=[{"path": "/dev/x", "type": "c", "major": 4096, "minor": 0}]), "linux.devices[0].major: must lie"),
    (linux(devices=[{"path": "/dev/x", "type": "c", "major": 0, "minor": -1}]), "linux.devices[0].minor: must lie"),
    (linux(netDevices={"eth0": {}}), "linux.netDevices: wants a network namespace"),
    (linux(**NETWORK, netDevices={"eth0": {"name": "a/b"}}), "linux.netDevices['eth0'].name: 'a/b' is no name"),
    (linux(**NETWORK, netDevices={"a" * 16: {}}), f"linux.netDevices['{'a' * 16}']: '{'a' * 16}' is no name"),
    (linux(**NETWORK, netDevices={"a": {"name": "b"}, "b": {}}), "linux.netDevices['b'].name: two devices"),
    (linux(intelRdt={"closID": "../x"}), "linux.intelRdt.closID: '../x' cannot be the name of a directory"),
    (linux(intelRdt={"schemata": ["L3:0=f", "a\nb"]}), "linux.intelRdt.schemata[1]: must be one line"),
    (linux(intelRdt={"l3CacheSchema": "MB:0=50"}), "linux.intelRdt.l3CacheSchema: must not set the memory bandwidth"),
    (seccomp(flags=["SECCOMP_FILTER_FLAG_X"]), "linux.seccomp.flags[0]: 'SECCOMP_FILTER_FLAG_X' is not one of"),
    (seccomp(architectures=["SCMP_ARCH_Z80"]), "linux.seccomp.architectures[0]: 'SCMP_ARCH_Z80' is not one of"),
    (seccomp(listenerMetadata="x"), "linux.seccomp.listenerMetadata: must not be set without listenerPath"),
]


@pytest.mark.parametrize(("value", "message"), WRONG, ids=[message[:60] for _, message in WRONG])
def test_a_wrong_value_is_refused_with_the_path_to_it(value: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(value)
    assert str(caught.value).startswith(f"read config.json: {message}")


def test_what_version_1_3_added_is_read_and_written_again() -> None:
    given = linux(
        **NETWORK,
        netDevices={"eth0": {"name": "net1"}, "eth1": {}},
        memoryPolicy={"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        intelRdt={"closID": "x", "schemata": ["L3:0=f"], "enableMonitoring": True},
    )
    spec = load(given)
    assert spec.linux.net_devices == (NetDevice("eth0", "net1"), NetDevice("eth1"))
    assert spec.linux.memory_policy == MemoryPolicy("MPOL_BIND", "0", ("MPOL_F_STATIC_NODES",))
    assert spec.linux.intel_rdt == IntelRdt("x", ("L3:0=f",), enable_monitoring=True)
    assert load(dump(spec)) == spec
    assert dump(spec)["linux"] == given["linux"]


def test_what_belongs_to_another_system_and_what_is_null_counts_as_absent() -> None:
    spec = load(document({"commandLine": 5, "scheduler": None, "env": None}, vm={}, windows=[], mounts=None))
    assert (spec.process.scheduler, spec.process.env, spec.mounts) == (None, (), ())


def test_a_mount_may_be_id_mapped_by_maps_of_its_own_or_those_of_the_container() -> None:
    mount = {"destination": "/a", "options": ["idmap"]}
    assert load(document(mounts=[{**mount, "uidMappings": [ONE], "gidMappings": [ONE]}])).mounts
    assert load(document(mounts=[mount], linux={"namespaces": [{"type": "user"}]})).mounts


def test_a_million_of_anything_is_refused_at_once() -> None:
    million = [{"destination": "/a"}] * 1_000_000
    started = time.monotonic()
    for wrong in (document(mounts=million), document(annotations={str(n): "" for n in range(1_000_000)})):
        with pytest.raises(UsageError, match="1000000 entries"):
            load(wrong)
    assert time.monotonic() - started < 5


def test_a_message_does_not_grow_with_what_is_wrong() -> None:
    for wrong in (document({"env": ["x" * 1_000_000]}), document(annotations={"y" * 1_000_000: 5})):
        with pytest.raises(UsageError) as caught:
            load(wrong)
        assert len(str(caught.value)) < 400


def test_deep_nesting_and_huge_numbers_are_errors_of_the_text() -> None:
    for text in ("[" * 1_000_000, '{"a":' * 1_000_000, "9" * 1_000_000):
        with pytest.raises(ValueError):
            jsontext.loads(text)


def test_numbers_are_read_as_cpusets_have_them() -> None:
    assert read_numbers("0-3,7, 5") == (0, 1, 2, 3, 5, 7)
    for wrong in ("", "-", "3-1", "a", "1,,2", "0-99999", "0x1", "1-2-3"):
        with pytest.raises(Wrong):
            read_numbers(wrong)


def test_names_of_network_devices_are_those_of_the_kernel() -> None:
    assert is_device_name("eth0.5")
    assert is_device_name("a" * 15)
    for wrong in ("", ".", "..", "a b", "a/b", "a:b", "a" * 16, "ä" * 8):
        assert not is_device_name(wrong)


def test_of_two_variables_of_one_name_the_later_holds_in_the_place_of_the_first() -> None:
    assert last_wins(("A=1", "B=2", "A=3", "A=")) == ("A=", "B=2")
    assert value_of(("PATH=/a", "PATH=/b"), "PATH") == "/b"
    assert value_of((), "PATH") == ""
