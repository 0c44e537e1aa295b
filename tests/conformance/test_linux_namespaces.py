"""config-linux.md: "Namespaces", "User namespace mappings", "Offset for Time Namespace"; config.md: host names."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world.bundle import Bundle, mapping
from world.rule import only_root, only_rootless, rule
from world.runtime import Container, Runtime

FILES = {"pid": "pid", "network": "net", "mount": "mnt", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "user": "user"}


@pytest.fixture
def holder(runtime: Runtime, bundles: Callable[..., Bundle]) -> Container:
    """A container whose namespaces others join."""
    bundle = bundles("holder")
    bundle.sh("echo ready; exec sleep 1000")
    box = runtime.start_new(bundle)
    box.read_until("ready")
    return box


def waiting(bundle: Bundle) -> Bundle:
    bundle.sh("echo ready; exec sleep 1000")
    return bundle


@rule("config-linux.md", "Namespaces", "MUST", "Without a path a new namespace of the type is made.")
@rule("config-linux.md", "Namespaces", "SHOULD", "pid, network, mount, ipc, uts, user, cgroup and time are supported.")
@pytest.mark.parametrize("kind", [*FILES, "time"])
def test_a_new_namespace(runtime: Runtime, bundle: Bundle, kind: str):
    if kind == "user" and not any(each["type"] == "user" for each in bundle.linux["namespaces"]):
        bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = mapping((0, 200000, 65536))
    if kind in ("user", "time"):
        bundle.namespace(kind)
    box = runtime.start_new(waiting(bundle))
    box.read_until("ready")
    name = FILES.get(kind, kind)
    assert os.readlink(f"/proc/{box.pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")


@rule("config-linux.md", "Namespaces", "MUST", "A type that is not listed is inherited from the runtime.")
@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup"])
def test_a_namespace_that_is_inherited(runtime: Runtime, bundle: Bundle, kind: str):
    bundle.no_namespace(kind)
    if kind == "network":  # sysfs shows the network, so a new one cannot be mounted without its own
        bundle.unmount("/sys")
        bundle.linux["maskedPaths"] = []
    if kind == "ipc":
        bundle.unmount("/dev/mqueue")
    if kind == "uts":
        del bundle.config["hostname"]
    box = runtime.start_new(waiting(bundle))
    box.read_until("ready")
    assert os.readlink(f"/proc/{box.pid}/ns/{FILES[kind]}") == os.readlink(f"/proc/self/ns/{FILES[kind]}")


@only_root
@rule("config-linux.md", "Namespaces", "MUST", "The pid namespace too is inherited when it is not listed.")
def test_the_pid_namespace_is_inherited(runtime: Runtime, bundle: Bundle):
    bundle.no_namespace("pid")
    box = runtime.start_new(waiting(bundle))
    box.read_until("ready")
    assert os.readlink(f"/proc/{box.pid}/ns/pid") == os.readlink("/proc/self/ns/pid")


@rule("config-linux.md", "Namespaces", "MUST", "With a path the process is in the namespace of that file.")
@pytest.mark.parametrize("kind", ["network", "ipc", "uts"])
def test_a_namespace_by_its_path(runtime: Runtime, holder: Container, bundle: Bundle, kind: str):
    name = FILES[kind]
    join_user(bundle, holder)
    bundle.namespace(kind, f"/proc/{holder.pid}/ns/{name}")
    bundle.unmount("/sys")
    bundle.unmount("/dev/mqueue")
    bundle.linux["maskedPaths"] = []
    bundle.config.pop("hostname")
    box = runtime.start_new(waiting(bundle))
    box.read_until("ready")
    assert os.readlink(f"/proc/{box.pid}/ns/{name}") == os.readlink(f"/proc/{holder.pid}/ns/{name}")
    other = "ipc" if kind != "ipc" else "uts"
    assert os.readlink(f"/proc/{box.pid}/ns/{other}") != os.readlink(f"/proc/{holder.pid}/ns/{other}")


@rule("config-linux.md", "Namespaces", "MUST", "In a joined pid namespace the processes of both are seen.")
def test_a_pid_namespace_by_its_path(runtime: Runtime, holder: Container, bundle: Bundle):
    join_user(bundle, holder)
    bundle.namespace("pid", f"/proc/{holder.pid}/ns/pid")
    bundle.sh("cat /proc/1/cmdline | tr '\\0' ' '; echo; echo $$; exec sleep 1000")
    box = runtime.start_new(bundle)
    lines = box.read_until("\n").splitlines()
    assert lines[0] == "sleep 1000 "
    box.read_until(f"{lines[0]}\n")
    assert os.readlink(f"/proc/{box.pid}/ns/pid") == os.readlink(f"/proc/{holder.pid}/ns/pid")
    box.stop()
    assert holder.status == "running"


@rule("config-linux.md", "Namespaces", "MUST", "A file that is no namespace of the type is an error.")
@pytest.mark.parametrize("what", ["another type", "a file", "missing"])
def test_a_path_of_something_else(runtime: Runtime, bundle: Bundle, holder: Container, place: Path, what: str):
    (place / "file").touch()
    path = {"another type": f"/proc/{holder.pid}/ns/uts", "a file": place / "file", "missing": place / "nothing"}[what]
    bundle.namespace("ipc", str(path))
    runtime.refuses(bundle)


@rule("config-linux.md", "Namespaces", "MUST", "The path is absolute.")
def test_a_relative_path(runtime: Runtime, bundle: Bundle):
    bundle.namespace("ipc", "proc/self/ns/ipc")
    assert "linux.namespaces[" in runtime.refuses(bundle)


@rule("config-linux.md", "Namespaces", "MUST", "Two entries of one type are an error.")
@pytest.mark.parametrize("kind", ["pid", "mount", "user"])
def test_a_type_twice(runtime: Runtime, bundle: Bundle, kind: str):
    bundle.namespace(kind)
    bundle.linux["namespaces"].append({"type": kind})
    bundle.linux.setdefault("uidMappings", mapping((0, 200000, 65536)))
    bundle.linux.setdefault("gidMappings", mapping((0, 200000, 65536)))
    runtime.refuses(bundle)


@rule("config-linux.md", "Namespaces", "MUST", "A type that does not exist is an error.")
@pytest.mark.parametrize("kind", ["", "net", "mnt", "none"])
def test_an_unknown_type(runtime: Runtime, bundle: Bundle, kind: str):
    bundle.linux["namespaces"].append({"type": kind})
    assert f"linux.namespaces[{len(bundle.linux['namespaces']) - 1}].type" in runtime.refuses(bundle)


# --- user namespaces --------------------------------------------------------------------------------------------------


@rule("config-linux.md", "User namespace mappings", "MUST", "The maps are those of the process's user namespace.")
@pytest.mark.parametrize("maps", ["one", "all"])
def test_the_id_maps(runtime: Runtime, bundles: Callable[..., Bundle], maps: str):
    bundle = bundles(maps=maps)
    bundle.namespace("user")
    bundle.linux.setdefault("uidMappings", mapping((0, 200000, 1000), (1000, 300000, 5)))
    bundle.linux.setdefault("gidMappings", mapping((0, 400000, 1000)))
    box = runtime.start_new(waiting(bundle))
    for name in ("uid", "gid"):
        rows = [[int(number) for number in line.split()] for line in box.proc(f"{name}_map").splitlines()]
        wanted = [[each["containerID"], each["hostID"], each["size"]] for each in bundle.linux[f"{name}Mappings"]]
        assert rows == wanted


@only_rootless
@rule("config-linux.md", "User namespace mappings", "MUST", "A map that the account may not write is an error.")
def test_ids_of_others(runtime: Runtime, bundle: Bundle):
    bundle.linux["uidMappings"] = mapping((0, 0, 1))
    runtime.refuses(bundle)


@rule("config-linux.md", "User namespace mappings", "SHOULD", "The owners of the root file system are not changed.")
def test_owners_are_not_changed(runtime: Runtime, bundles: Callable[..., Bundle]):
    bundle = bundles(maps="all")
    before = (bundle.rootfs / "test.txt").stat()
    if not any(each["type"] == "user" for each in bundle.linux["namespaces"]):
        bundle.namespace("user")
        bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = mapping((0, 200000, 65536))
    runtime.says(bundle, "true")
    after = (bundle.rootfs / "test.txt").stat()
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


@only_rootless
@rule("command line", "Rootless", "common", "Without a user namespace in the configuration an ordinary user gets one.")
def test_an_ordinary_user_gets_a_user_namespace(runtime: Runtime, bundle: Bundle):
    bundle.no_namespace("user")
    del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
    first, *_ = runtime.says(bundle, "cat /proc/self/uid_map").splitlines()
    assert [int(number) for number in first.split()] == [0, os.getuid(), 1]


# --- time and names ---------------------------------------------------------------------------------------------------


@rule("config-linux.md", "Offset for Time Namespace", "MUST", "`timeOffsets` shift the clocks of the time namespace.")
def test_time_offsets(runtime: Runtime, bundle: Bundle):
    bundle.namespace("time")
    bundle.linux["timeOffsets"] = {"monotonic": {"secs": 100_000}, "boottime": {"secs": 200_000, "nanosecs": 5}}
    bundle.args(bundle.use_probe(), "clocks")
    said = dict(word.split("=") for word in runtime.run(bundle).stdout.split())
    assert int(said["monotonic"]) - time.clock_gettime(time.CLOCK_MONOTONIC) > 99_000
    assert int(said["boottime"]) - time.clock_gettime(time.CLOCK_BOOTTIME) > 199_000


@rule("config-linux.md", "Offset for Time Namespace", "MUST", "A clock that has no offset is an error.")
def test_an_unknown_clock(runtime: Runtime, bundle: Bundle):
    bundle.namespace("time")
    bundle.linux["timeOffsets"] = {"realtime": {"secs": 1}}
    assert "linux.timeOffsets" in runtime.refuses(bundle)


@rule(
    "config-linux.md",
    "Offset for Time Namespace",
    "MUST",
    "Offsets without a time namespace of one's own are an error.",
)
def test_offsets_without_a_namespace(runtime: Runtime, bundle: Bundle):
    bundle.linux["timeOffsets"] = {"monotonic": {"secs": 1}}
    runtime.refuses(bundle)


@rule("config.md", "Hostname", "MUST", "`hostname` is the host name inside.")
def test_the_host_name(runtime: Runtime, bundle: Bundle):
    bundle.config["hostname"] = "mrs-dalloway.example"
    assert runtime.says(bundle, "hostname") == "mrs-dalloway.example"


@rule("config.md", "Domainname", "MUST", "`domainname` is the domain name inside.")
def test_the_domain_name(runtime: Runtime, bundle: Bundle):
    bundle.config["domainname"] = "foobarbaz.test"
    assert runtime.says(bundle, "cat /proc/sys/kernel/domainname") == "foobarbaz.test"


@rule("config.md", "Hostname", "MUST", "The host's own name is never changed: without a UTS namespace it is an error.")
@pytest.mark.parametrize("field", ["hostname", "domainname"])
def test_a_name_without_a_namespace(runtime: Runtime, bundle: Bundle, field: str):
    bundle.no_namespace("uts")
    bundle.config.pop("hostname")
    bundle.config[field] = "changed"
    before = os.uname().nodename
    runtime.refuses(bundle)
    assert os.uname().nodename == before


@rule("config.md", "Hostname", "MUST", "A name that the kernel does not take is an error.")
@pytest.mark.parametrize("field", ["hostname", "domainname"])
def test_a_name_that_is_too_long(runtime: Runtime, bundle: Bundle, field: str):
    bundle.config[field] = "x" * 65
    assert field in runtime.refuses(bundle)


# --- sysctl, personality, memory policy -------------------------------------------------------------------------------


@rule("config-linux.md", "Sysctl", "MUST", "`sysctl` sets kernel parameters of the container's namespaces.")
def test_kernel_parameters(runtime: Runtime, bundle: Bundle):
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}
    said = runtime.says(bundle, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced")
    assert said == "1\n1"
    assert Path("/proc/sys/kernel/shm_rmid_forced").read_text() == "0\n"


@rule(
    "config-linux.md",
    "Sysctl",
    "MUST",
    "A parameter of the host, or of a namespace that is not the container's, is an error.",
)
@pytest.mark.parametrize(
    "name", ["vm.swappiness", "kernel.panic", "net.core.nosuch", "no.such", "../vm/swappiness", ""]
)
def test_parameters_of_the_host(runtime: Runtime, bundle: Bundle, name: str):
    before = Path("/proc/sys/vm/swappiness").read_text()
    bundle.linux["sysctl"] = {name: "1"}
    runtime.refuses(bundle)
    assert Path("/proc/sys/vm/swappiness").read_text() == before


@rule("config-linux.md", "Sysctl", "MUST", "A parameter of a namespace that is the host's is an error.")
@pytest.mark.parametrize(("name", "kind"), [("net.ipv4.ip_forward", "network"), ("kernel.shm_rmid_forced", "ipc")])
def test_parameters_of_a_shared_namespace(runtime: Runtime, bundle: Bundle, name: str, kind: str):
    bundle.no_namespace(kind)
    bundle.unmount("/sys" if kind == "network" else "/dev/mqueue")
    bundle.linux["maskedPaths"] = []
    bundle.linux["sysctl"] = {name: "1"}
    runtime.refuses(bundle)
    assert Path("/proc/sys/kernel/shm_rmid_forced").read_text() == "0\n"


@rule("config-linux.md", "Personality", "MUST", "`personality` LINUX32 makes uname(2) tell a 32-bit processor.")
@pytest.mark.parametrize(("domain", "told"), [("LINUX32", "i686"), ("LINUX", "x86_64")])
def test_the_personality(runtime: Runtime, bundle: Bundle, domain: str, told: str):
    bundle.linux["personality"] = {"domain": domain}
    assert runtime.says(bundle, "uname -m") == told


@rule("config-linux.md", "Personality", "MUST", "Other domains, and flags, of which there are none, are an error.")
@pytest.mark.parametrize(
    "given", [{}, {"domain": "SOLARIS"}, {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}], ids=str
)
def test_an_unknown_personality(runtime: Runtime, bundle: Bundle, given: dict[str, object]):
    bundle.linux["personality"] = given
    assert "linux.personality" in runtime.refuses(bundle)


@rule("config-linux.md", "Memory policy", "MUST", "`memoryPolicy` is the process's NUMA policy: mode, nodes, flags.")
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "mode=2 flags=0 nodes=1"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, "mode=3 flags=0 nodes=1"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "mode=1 flags=0 nodes=1"),
        ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}, "mode=5 flags=0 nodes=1"),
        ({"mode": "MPOL_LOCAL"}, "mode=4 flags=0 nodes=0"),
        ({"mode": "MPOL_DEFAULT"}, "mode=0 flags=0 nodes=0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "mode=2 flags=0x8000 nodes=1"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}, "mode=3 flags=0x4000 nodes=1"),
    ],
    ids=str,
)
def test_the_memory_policy(runtime: Runtime, bundle: Bundle, given: dict[str, object], told: str):
    bundle.linux["memoryPolicy"] = given
    bundle.args(bundle.use_probe(), "mempolicy")
    assert runtime.run(bundle).stdout.strip() == told


@rule("config-linux.md", "Memory policy", "MUST", "A mode, flag or list of nodes that does not exist is an error.")
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"mode": "MPOL_NONE"},
        {"mode": "MPOL_BIND", "nodes": "x"},
        {"mode": "MPOL_BIND", "nodes": "1000"},
        {"mode": "MPOL_BIND"},
        {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NONE"]},
    ],
    ids=str,
)
def test_a_memory_policy_that_cannot_be(runtime: Runtime, bundle: Bundle, given: dict[str, object]):
    bundle.linux["memoryPolicy"] = given
    assert "mory" in runtime.fails(bundle)


@rule("config-linux.md", "IntelRdt", "MUST", "`intelRdt` without a mounted resctrl file system is an error.")
def test_resource_director(runtime: Runtime, bundle: Bundle):
    bundle.linux["intelRdt"] = {"closID": "group", "schemata": ["MB:0=20"]}
    text = runtime.refuses(bundle)
    assert "resctrl" in text or "intelRdt" in text


# --- network devices --------------------------------------------------------------------------------------------------


@pytest.fixture
def device() -> Iterator[str]:
    """One end of a veth pair of the host, with an address."""
    name = f"jub{os.getpid() % 100000}"
    ip("link", "add", name, "type", "veth", "peer", "name", f"{name}p")
    ip("addr", "add", "10.123.45.67/24", "dev", name)
    ip("addr", "add", "fd00:1234::5/64", "dev", name)
    yield name
    for each in (name, f"{name}p"):
        subprocess.run(("ip", "link", "del", each), capture_output=True)


def ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True)


def devices() -> set[str]:
    """Of the network namespace in which the tests run; /sys may show another one's."""
    return {name for _, name in socket.if_nameindex()}


@only_root
@rule(
    "config-linux.md",
    "Network Devices",
    "MUST",
    "A device of the host is moved into the container, under its new name.",
)
@rule("config-linux.md", "Network Devices", "MUST", "Its permanent global addresses are kept, and it is set up.")
@pytest.mark.parametrize("name", [None, "eth7", "lan%d"], ids=str)
def test_a_network_device(runtime: Runtime, bundle: Bundle, device: str, name: str | None):
    bundle.linux["netDevices"] = {device: {} if name is None else {"name": name}}
    inside = {None: device, "eth7": "eth7", "lan%d": "lan0"}[name]
    said = runtime.says(bundle, f"ip addr show dev {inside}")
    assert "10.123.45.67/24" in said
    assert "fd00:1234::5/64" in said
    assert ",UP" in said.partition(">")[0]


@only_root
@rule(
    "config-linux.md", "Network Devices", "MUST", "A name that exists in the container is an error; the device stays."
)
@pytest.mark.parametrize("name", ["lo", "a/b", "", "x" * 16])
def test_a_network_device_under_a_name_that_cannot_be(runtime: Runtime, bundle: Bundle, device: str, name: str):
    bundle.linux["netDevices"] = {device: {"name": name}}
    if name == "":
        bundle.linux["netDevices"] = {"nosuchdevice": {}}
    runtime.refuses(bundle)
    assert device in devices()


@only_root
@rule(
    "config-linux.md", "Network Devices", "MUST", "Without a network namespace of the container's own it is an error."
)
def test_a_network_device_without_a_namespace(runtime: Runtime, bundle: Bundle, device: str):
    bundle.no_namespace("network")
    bundle.linux["netDevices"] = {device: {"name": "eth7"}}
    runtime.refuses(bundle)
    assert device in devices()


def join_user(bundle: Bundle, holder: Container) -> None:
    """An ordinary user may join namespaces only from the user namespace that owns them."""
    if any(each["type"] == "user" for each in bundle.linux["namespaces"]):
        bundle.namespace("user", f"/proc/{holder.pid}/ns/user")
        bundle.linux["namespaces"].sort(key=lambda each: each["type"] != "user")
        bundle.linux.pop("uidMappings", None)
        bundle.linux.pop("gidMappings", None)
