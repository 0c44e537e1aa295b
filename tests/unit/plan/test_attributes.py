"""The planners for attributes, parameters, labels and devices: what is done by whom, and what this host cannot keep."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import UsageError
from jubako.linux import mount as mnt
from jubako.linux.clone import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUSER
from jubako.plan import attributes
from jubako.plan.attributes import Modules
from jubako.plan.capabilities import known_sets, unknown_capabilities
from jubako.plan.devices import plan_devices
from jubako.plan.namespaces import NamespaceSet
from jubako.plan.step import RUNTIME, SUPERVISOR, Slots
from jubako.plan.steps import attributes as steps
from jubako.plan.steps import devices, oci_mounts, resctrl, terminal
from jubako.record import replace
from jubako.spec.types import (
    Capabilities,
    CpuAffinity,
    Device,
    IdMapping,
    IntelRdt,
    IoPriority,
    Linux,
    MemoryPolicy,
    Mount,
    NetDevice,
    Personality,
    Process,
    Scheduler,
    TimeOffset,
)
from unit.linux.forked import in_child
from unit.plan.plans import ALL, ROOT, USER, make_spec

OWN = NamespaceSet(ALL, ())
FLAT = NamespaceSet(tuple(kind for kind in ALL if kind != "user"), ())
NONE = Modules()


def names(found: Any) -> list[str]:
    return [type(step).__name__ for step in found]


# --- attributes


def test_scheduling_is_set_from_outside_and_by_a_program_that_joins_itself() -> None:
    program = Process(
        scheduler=Scheduler("SCHED_FIFO", priority=5), io_priority=IoPriority("IOPRIO_CLASS_BE", 3), args=("x",)
    )
    first, second = attributes.plan_scheduling(program)
    assert (type(first).__name__, first.actor, first.priority) == ("SetScheduler", RUNTIME, 5)  # type: ignore[attr-defined]
    assert (type(second).__name__, second.needs) == ("SetIoPriority", ("init_pid",))
    joined = list(attributes.plan_scheduling(program, joined=True))
    assert names(joined) == ["SetOwnScheduler", "SetOwnIoPriority"]
    assert all(not step.needs for step in joined)
    assert not list(attributes.plan_scheduling(Process()))


def test_what_the_document_does_not_say_is_not_done() -> None:
    assert not list(attributes.plan_memory(Linux()))
    assert not list(attributes.plan_personality(Linux()))
    assert not list(attributes.plan_labels(Process(), NONE))
    assert not list(attributes.plan_net_devices(Linux()))
    assert not list(attributes.plan_resctrl(Linux(), NONE, "box"))
    assert not list(attributes.plan_initial_affinity(Process()))
    assert not list(attributes.plan_final_affinity(Process()))


def test_affinity_is_that_of_the_joiner_first_and_of_the_program_later() -> None:
    program = Process(exec_cpu_affinity=CpuAffinity("0", "0-1"))
    (first,), (second,) = attributes.plan_initial_affinity(program), attributes.plan_final_affinity(program)
    assert (first.actor, first.cpus) == (SUPERVISOR, (0,))  # type: ignore[attr-defined]
    assert second.cpus == (0, 1)  # type: ignore[attr-defined]


def test_attributes_are_those_of_the_process_that_sets_them() -> None:
    def look() -> list[Any]:
        slots = Slots({"init_pid": os.getpid()})
        steps.SetScheduler("SCHED_BATCH", 3).apply(slots)
        steps.SetIoPriority("IOPRIO_CLASS_IDLE").apply(slots)
        steps.SetOwnScheduler("SCHED_OTHER", 4).apply(Slots())
        steps.SetOwnIoPriority("IOPRIO_CLASS_BE", 7).apply(Slots())
        steps.SetPersonality("LINUX").apply(Slots())
        steps.SetMemoryPolicy("MPOL_PREFERRED", (0,)).apply(Slots())
        steps.SetFinalAffinity((0,)).apply(Slots())
        return [os.nice(0), list(os.sched_getaffinity(0))]

    assert in_child(look) == [4, [0]]


def test_memory_and_personality_are_read_from_the_document() -> None:
    policy = Linux(memory_policy=MemoryPolicy("MPOL_BIND", "0-1", ("MPOL_F_STATIC_NODES",)))
    (step,) = attributes.plan_memory(policy)
    assert (step.nodes, step.flags) == ((0, 1), ("MPOL_F_STATIC_NODES",))  # type: ignore[attr-defined]
    (step,) = attributes.plan_personality(Linux(personality=Personality("LINUX32")))
    assert "PER_LINUX32" in step.call()


# --- labels


def test_a_label_without_its_module_is_refused() -> None:
    with pytest.raises(UsageError, match="AppArmor is not enabled"):
        list(attributes.plan_labels(Process(apparmor_profile="x"), NONE))
    with pytest.raises(UsageError, match="SELinux is not enabled"):
        list(attributes.plan_labels(Process(selinux_label="x"), NONE))
    with pytest.raises(UsageError, match="SELinux is not enabled"):
        attributes.mount_label(Linux(mount_label="x"), NONE)
    assert not list(attributes.plan_labels(Process(apparmor_profile="unconfined"), NONE))


def test_a_label_is_written_where_its_module_reads_it() -> None:
    modules = Modules(apparmor=True, selinux=True)
    first, second = attributes.plan_labels(Process(apparmor_profile="p", selinux_label="l"), modules)
    assert "attr/apparmor/exec" in first.call()
    assert '"exec p"' in first.call()
    assert '/attr/exec"' in second.call()
    assert attributes.mount_label(Linux(mount_label="x"), modules) == "x"


# --- parameters of the kernel


def parameters(*pairs: tuple[str, str], spaces: NamespaceSet = OWN, hosts: tuple[str, ...] = ()) -> list[Any]:
    spec = make_spec(linux={"sysctl": pairs})
    return list(attributes.plan_parameters(spec, spaces, hosts))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.ip_forward", "sys/net/ipv4/ip_forward"), ("net/ipv4/ip_forward", "sys/net/ipv4/ip_forward"),
        ("net.ipv4.conf.eth0/1.forwarding", "sys/net/ipv4/conf/eth0.1/forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "sys/net/ipv4/conf/eth0.1/forwarding"),
        ("kernel.shmmax", "sys/kernel/shmmax"), ("kernel.msg_next_id", "sys/kernel/msg_next_id"),
        ("fs.mqueue.msg_max", "sys/fs/mqueue/msg_max"), ("kernel.domainname", "sys/kernel/domainname"),
    ],
)  # fmt: skip
def test_parameters_of_own_namespaces_are_set(name: str, path: str) -> None:
    (step,) = parameters((name, "1"))
    assert (step.path, step.value) == (path, "1")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("kernel.panic", "belongs to the whole machine"), ("vm.swappiness", "belongs to the whole machine"),
        ("fs.file-max", "belongs to the whole machine"), ("kernel.hostname", "conflicts with config.json's hostname"),
        ("net", "belongs to the whole machine"), ("net..ipv4", "not the name of one"), ("", "not the name of one"),
        ("net/../vm/swappiness", "not the name of one"), ("net.//.x", "not the name of one"),
        ("/net/x", "not the name of one"), ("networks.x", "belongs to the whole machine"),
    ],
)  # fmt: skip
def test_parameters_of_the_machine_are_refused(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parameters((name, "1"))


def test_parameters_want_the_namespace_that_they_belong_to() -> None:
    for name, kind in (("net.x", "network"), ("kernel.sem", "ipc"), ("kernel.domainname", "uts")):
        without = NamespaceSet(tuple(one for one in ALL if one != kind), ())
        with pytest.raises(UsageError, match=f"no {kind} namespace of its own"):
            parameters((name, "1"), spaces=without)
        joined = replace(without, joined=(kind,))
        assert parameters((name, "1"), spaces=joined)
        with pytest.raises(UsageError, match=f"no {kind} namespace of its own"):
            parameters((name, "1"), spaces=joined, hosts=(kind,))


def test_a_parameter_is_set_in_the_namespace_of_the_process() -> None:
    def look() -> list[str]:
        for step in parameters(("net.ipv4.ip_unprivileged_port_start", "81"), ("kernel.shmmni", "99")):
            step.apply(Slots())
        found = []
        for path in ("net/ipv4/ip_unprivileged_port_start", "kernel/shmmni"):
            with open(f"/proc/sys/{path}") as file:
                found.append(file.read().strip())
        return found

    assert in_child(look, CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC) == ["81", "99"]


def test_a_parameter_that_is_not_there_is_told() -> None:
    (step,) = parameters(("net.none.such", "1"))
    with pytest.raises(OSError) as caught:
        step.apply(Slots())
    assert step.hint(caught.value.errno)


def test_what_belongs_to_namespaces_that_are_not_there_is_refused() -> None:
    def told(new: tuple[str, ...], **changes: Any) -> str:
        try:
            attributes.check_namespaces(make_spec(new, **changes), NamespaceSet(new, ()))
        except UsageError as failure:
            return str(failure)
        return ""

    assert told(ALL) == ""
    flat = ("mount", "uts")
    assert told(flat) == ""
    assert "no uts namespace" in told(("mount",), hostname="x")
    assert "no uts namespace" in told(("mount",), hostname="", domainname="x")
    assert told(("mount",), hostname="") == ""
    assert "no time namespace" in told(flat, linux={"time_offsets": (TimeOffset("boottime", 1),)})
    assert "linux.uidMappings is missing" in told(ALL, maps=())
    assert "no user namespace" in told(flat, linux={"gid_mappings": (IdMapping(0, 0, 1),)})


# --- network devices, resctrl


def test_network_devices_are_moved_under_their_new_names() -> None:
    moved = list(attributes.plan_net_devices(Linux(net_devices=(NetDevice("a", "b"), NetDevice("c")))))
    assert [(step.device, step.name, step.actor) for step in moved] == [("a", "b", RUNTIME), ("c", "c", RUNTIME)]  # type: ignore[attr-defined]


def test_resctrl_is_refused_where_it_is_not_mounted(tmp_path: Path) -> None:
    linux = Linux(intel_rdt=IntelRdt(schemata=("L3:0=f",), enable_monitoring=True))
    with pytest.raises(UsageError, match="resctrl is not mounted on this host"):
        list(attributes.plan_resctrl(linux, NONE, "box"))
    (step,) = attributes.plan_resctrl(linux, Modules(resctrl=str(tmp_path)), "box")
    assert (step.group, step.schemata, step.watched) == ("box", ("L3:0=f",), "box")  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="box/schemata"):
        step.apply(Slots({"init_pid": 1}))
    assert not (tmp_path / "box").exists()
    with pytest.raises(OSError, match="must exist already"):
        resctrl.PlaceInResctrl(str(tmp_path), "shared").apply(Slots({"init_pid": 1}))


def test_capabilities_that_this_kernel_does_not_have_are_named_and_left_out() -> None:
    sets = Capabilities(("CAP_CHOWN", "CAP_FLY"), ("CAP_CHOWN",), (), ("CAP_SWIM", "CAP_BPF"), ("CAP_FLY",))
    kept, unknown = known_sets(sets, 30)
    assert kept == Capabilities(("CAP_CHOWN",), ("CAP_CHOWN",), (), (), ())
    assert unknown == ("CAP_FLY", "CAP_SWIM", "CAP_BPF")


def test_capabilities_that_no_kernel_has_are_told() -> None:
    sets = Capabilities(("CAP_CHOWN", "CAP_FLY"), (), (), ("CAP_SWIM",), ("CAP_FLY",))
    assert unknown_capabilities(sets) == ("CAP_FLY", "CAP_SWIM")
    assert unknown_capabilities(None) == ()


# --- devices


def test_the_hosts_root_makes_devices_and_a_user_namespace_binds_them() -> None:
    spec = make_spec(linux={"devices": (Device("/dev/fuse", "c", 10, 229, 0o20640, 5, 6), Device("/dev/p", "p"))})
    made = list(plan_devices(spec, FLAT, ROOT))
    assert names(made) == ["MakeNode"] * 8 + ["LinkDevices"]
    fuse = made[6]
    assert (fuse.path, fuse.major, fuse.minor, fuse.mode, fuse.uid, fuse.gid) == ("/dev/fuse", 10, 229, 0o640, 5, 6)  # type: ignore[attr-defined]
    assert names(plan_devices(spec, OWN, ROOT)) == ["BindNode"] * 7 + ["MakeNode", "LinkDevices"]
    assert names(plan_devices(spec, OWN, USER)) == ["BindNode"] * 7 + ["MakeNode", "LinkDevices"]


def test_a_device_of_the_document_replaces_the_default_one_and_a_bound_dev_has_its_own() -> None:
    spec = make_spec(linux={"devices": (Device("/dev/null", "c", 1, 3, 0o600),)})
    made = [step for step in plan_devices(spec, FLAT, ROOT) if getattr(step, "path", "") == "/dev/null"]
    assert [step.mode for step in made] == [0o600]  # type: ignore[attr-defined]
    bound = replace(spec, mounts=(Mount("/dev/", "bind", "/dev", ("rbind",)),))
    assert names(plan_devices(bound, FLAT, ROOT)) == ["MakeNode"]


def world(place: Path) -> Slots:
    mnt.mount(None, "/", None, mnt.MS_REC | mnt.MS_PRIVATE)
    mnt.mount("t", str(place), "tmpfs", 0)
    slots = Slots({"root": os.open(place, os.O_PATH)})
    oci_mounts.MountNew("tmpfs", "t", "/dev", data=("mode=755",)).apply(slots)
    return slots


def test_a_device_is_bound_and_known_by_its_number(tmp_path: Path) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        devices.BindNode("/dev/null", "c", 1, 3).apply(slots)
        devices.MakeNode("/dev/zero", "c", 1, 5).apply(slots)  # not allowed to: the host's
        devices.MakeNode("/dev/sub/fifo", "p", mode=0o640).apply(slots)
        devices.MakeNode("/dev/sub/fifo", "p", mode=0o600).apply(slots)
        devices.LinkDevices((("/dev/ptmx", "pts/ptmx"), ("/dev/fd", "/proc/self/fd"))).apply(slots)
        devices.LinkDevices((("/dev/ptmx", "pts/ptmx"), ("/dev/fd", "elsewhere"))).apply(slots)
        with open(tmp_path / "dev/null", "w") as null:
            null.write("x")
        try:
            devices.BindNode("/dev/full", "c", 1, 3).apply(slots)
        except OSError as failure:
            wrong = failure.strerror
        return [
            os.stat(tmp_path / "dev/null").st_rdev == os.makedev(1, 3),
            os.stat(tmp_path / "dev/zero").st_rdev == os.makedev(1, 5),
            stat.filemode(os.stat(tmp_path / "dev/sub/fifo").st_mode),
            os.readlink(tmp_path / "dev/ptmx"),
            os.readlink(tmp_path / "dev/fd"),
            wrong,
        ]

    fifo = "prw-r-----"
    told = "not the character device 1:3"
    assert in_child(look, CLONE_NEWUSER | CLONE_NEWNS) == [True, True, fifo, "pts/ptmx", "/proc/self/fd", told]


def test_the_console_is_the_containers_own_terminal_and_no_link(tmp_path: Path) -> None:
    def look(link: str) -> list[Any]:
        slots = world(tmp_path)
        oci_mounts.MountNew("devpts", "devpts", "/dev/pts", data=("newinstance", "ptmxmode=0666")).apply(slots)
        (tmp_path / "file").touch()
        if link:
            (tmp_path / "dev/console").symlink_to(link)
        try:
            terminal.OpenTerminal(5, 6).apply(slots)
        except OSError as failure:
            return [failure.errno, os.stat(tmp_path / "file").st_size]
        same = os.path.samestat(os.fstat(slots["slave"]), os.stat(tmp_path / "dev/console"))
        return [same, list(os.get_terminal_size(slots["master"]))]

    assert in_child(lambda: look(""), CLONE_NEWUSER | CLONE_NEWNS) == [True, [6, 5]]
    for link in ("/file", "pts/ptmx", "/none"):
        assert in_child(lambda link=link: look(link), CLONE_NEWUSER | CLONE_NEWNS)[0] == errno.ELOOP


def test_a_multiplexer_that_is_none_is_not_opened(tmp_path: Path) -> None:
    def look() -> list[Any]:
        slots = world(tmp_path)
        (tmp_path / "dev/pts").mkdir()
        os.mkfifo(tmp_path / "dev/pts/ptmx")
        try:
            terminal.OpenTerminal().apply(slots)
        except OSError as failure:
            return [failure.strerror]
        return []

    assert in_child(look, CLONE_NEWUSER | CLONE_NEWNS) == ["there is no devpts"]


@pytest.mark.parametrize("link", ["dev", "dev/null"])
def test_a_link_in_a_devices_place_or_on_its_way_is_refused(tmp_path: Path, link: str) -> None:
    def look() -> list[Any]:
        mnt.mount(None, "/", None, mnt.MS_REC | mnt.MS_PRIVATE)
        mnt.mount("t", str(tmp_path), "tmpfs", 0)
        (tmp_path / "target").mkdir()
        (tmp_path / "file").write_text("")
        if link != "dev":
            (tmp_path / "dev").mkdir()
        (tmp_path / link).symlink_to("/file" if link != "dev" else "target")
        slots = Slots({"root": os.open(tmp_path, os.O_PATH)})
        found = []
        for step in (devices.BindNode("/dev/null", "c", 1, 3), devices.MakeNode("/dev/null", "p")):
            try:
                step.apply(slots)
            except OSError as failure:
                found.append(failure.strerror)
        return [*found, os.listdir(tmp_path / "target"), os.path.isfile(tmp_path / "file")]

    first, second, inside, is_file = in_child(look, CLONE_NEWUSER | CLONE_NEWNS)
    assert "symbolic link" in first
    assert "symbolic link" in second or "something else" in second
    assert (inside, is_file) == ([], True)
