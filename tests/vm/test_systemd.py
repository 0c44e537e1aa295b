"""Scopes that a real systemd makes: the system's for root, and a user's own for that user."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import JubakoError
from jubako.linux import cgroup
from jubako.linux.cgroup import is_frozen
from jubako.oci.cgroups import choose_group
from jubako.oci.devices import restrict_devices
from jubako.oci.groups import freeze_group, processes, remove_group, thaw_group
from jubako.oci.systemd import start_scope, stop_unit
from jubako.oci.updating import update
from jubako.record import replace
from jubako.spec.defaults import default
from jubako.spec.load import load_resources
from jubako.spec.types import Spec
from vm.conftest import show

LIMITS = {
    "memory": {"limit": 64 << 20, "swap": 64 << 20, "reservation": 1 << 20},
    "cpu": {"shares": 2048, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 20},
    "unified": {"memory.high": str(60 << 20)},
}


@pytest.fixture
def init() -> Iterator[subprocess.Popen[bytes]]:
    """What will be the container's first process."""
    with subprocess.Popen(("sleep", "100")) as process:
        yield process
        process.kill()


def spec(path: str, resources: dict[str, Any] | None = None, **annotations: str) -> Spec:
    document = default()
    pairs = tuple((key.replace("__", "."), value) for key, value in annotations.items())
    linux = replace(document.linux, cgroups_path=path, resources=load_resources(resources or {}))
    return replace(document, linux=linux, annotations=pairs)


def start(document: Spec, pid: int) -> Any:
    choice = choose_group(document, "box", "systemd")
    return start_scope(choice, document.linux.resources, pid, "box")


def test_a_scope_has_the_process_its_limits_and_goes_with_the_container(init):
    choice = start(spec("machine.slice:jubako:one", LIMITS), init.pid)
    unit = "jubako-one.scope"
    assert (choice.path, choice.unit) == (f"/sys/fs/cgroup/machine.slice/{unit}", unit)
    assert processes(choice.path) == (init.pid,)
    names = ("MemoryMax", "MemoryLow", "MemorySwapMax", "MemoryHigh", "CPUWeight", "CPUQuotaPerSecUSec", "TasksMax")
    assert show(unit, *names) == {
        "MemoryMax": str(64 << 20),
        "MemoryLow": str(1 << 20),
        "MemorySwapMax": "0",
        "MemoryHigh": str(60 << 20),
        "CPUWeight": "174",
        "CPUQuotaPerSecUSec": "500ms",
        "TasksMax": "20",
    }
    shown = show(unit, "Delegate", "Slice", "AllowedCPUs", "Description", "ActiveState")
    assert shown == {
        "Delegate": "yes",
        "Slice": "machine.slice",
        "AllowedCPUs": "0",
        "Description": "jubako container box",
        "ActiveState": "active",
    }
    read = [cgroup.read(choice.path, name).strip() for name in ("memory.max", "pids.max", "cpu.max", "cpu.weight")]
    assert read == [str(64 << 20), "20", "50000 100000", "174"]
    remove_group(choice.path, choice.unit)
    assert init.wait(10) == -9
    assert not os.path.exists(choice.path)
    assert show(unit, "LoadState") == {"LoadState": "not-found"}


def test_update_reaches_systemd_and_lasts_over_a_reload(init):
    choice = start(spec("system.slice:jubako:two", LIMITS), init.pid)
    try:
        limits = load_resources({"memory": {"limit": 96 << 20}, "pids": {"limit": -1}, "cpu": {"shares": 512}})
        update("box", choice.path, "running", limits, unit=choice.unit)
        subprocess.run(("systemctl", "daemon-reload"), check=True)
        shown = show(choice.unit, "MemoryMax", "TasksMax", "CPUWeight")
        assert shown == {"MemoryMax": str(96 << 20), "TasksMax": "infinity", "CPUWeight": "59"}
        read = [cgroup.read(choice.path, name).strip() for name in ("memory.max", "pids.max", "cpu.weight")]
        assert read == [str(96 << 20), "max", "59"]
    finally:
        remove_group(choice.path, choice.unit)


def test_a_device_filter_outlasts_systemds_own_changes(init):
    choice = start(spec("system.slice:jubako:three"), init.pid)
    try:
        restrict_devices(choice.path, ())
        subprocess.run(("systemctl", "set-property", "--runtime", choice.unit, "TasksMax=50"), check=True)
        subprocess.run(("systemctl", "daemon-reload"), check=True)
        script = 'echo 0 > "$0/cgroup.procs"; head -c 1 /dev/vda; head -c 1 /dev/zero'
        done = subprocess.run(("sh", "-c", script, choice.path), capture_output=True)
        assert done.stdout == b"\0"
        assert b"Operation not permitted" in done.stderr
    finally:
        remove_group(choice.path, choice.unit)


def test_the_group_can_be_frozen(init):
    choice = start(spec(""), init.pid)
    try:
        assert choice.unit == "jubako-box.scope"
        freeze_group(choice.path)
        assert is_frozen(choice.path)
        thaw_group(choice.path)
    finally:
        remove_group(choice.path, choice.unit)


def test_the_process_may_go_into_a_group_below_the_scopes(init):
    document = spec(":jubako:four", {"pids": {"limit": 9}}, run__oci__systemd__subgroup="container")
    choice = start(document, init.pid)
    try:
        assert choice.inside == f"{choice.path}/container"
        assert cgroup.processes(choice.path) == ()
        assert cgroup.processes(choice.inside) == (init.pid,)
        assert cgroup.read(choice.path, "pids.max") == "9\n"
    finally:
        remove_group(choice.path, choice.unit)


def test_annotations_are_properties(init):
    document = spec(
        ":jubako:five",
        None,
        org__systemd__property__TimeoutStopSec="uint64 7",
        org__systemd__property__Description="'my own words'",
        org__systemd__property__ManagedOOMPreference="'avoid'",
    )
    choice = start(document, init.pid)
    try:
        shown = show(choice.unit, "TimeoutStopUSec", "Description", "ManagedOOMPreference")
        assert shown == {"TimeoutStopUSec": "7s", "Description": "my own words", "ManagedOOMPreference": "avoid"}
    finally:
        remove_group(choice.path, choice.unit)


@pytest.mark.parametrize(
    ("annotations", "text"),
    [
        ({"org__systemd__property__NoSuchThing": "true"}, "systemd refuses: .*NoSuchThing"),
        ({"org__systemd__property__Description": "7"}, "systemd refuses"),
    ],
)
def test_what_systemd_refuses_is_told_and_the_process_stays_where_it_was(init, annotations, text):
    before = cgroup.directory_of(init.pid)
    with pytest.raises(JubakoError, match=text):
        start(spec(":jubako:six", None, **annotations), init.pid)
    assert cgroup.directory_of(init.pid) == before
    assert show("jubako-six.scope", "ActiveState") == {"ActiveState": "inactive"}


def test_a_limit_that_the_kernel_refuses_leaves_no_scope(init):
    with pytest.raises(JubakoError, match=r"unified\.memory\.high"):
        start(spec(":jubako:seven", {"unified": {"memory.high": "much"}}), init.pid)
    assert show("jubako-seven.scope", "ActiveState") == {"ActiveState": "inactive"}


def test_a_name_that_is_in_use_is_refused_and_that_of_one_that_failed_is_not(init):
    choice = start(spec(":jubako:eight"), init.pid)
    with subprocess.Popen(("sleep", "100")) as other:
        with pytest.raises(JubakoError, match=r"jubako-eight\.scope.*(already|exist)"):
            start(spec(":jubako:eight"), other.pid)
        assert cgroup.directory_of(other.pid) != choice.path
        other.kill()
    remove_group(choice.path, choice.unit)
    stop_unit("jubako-eight.scope", user_manager=False)
    stop_unit("jubako-never-was.scope", user_manager=False)


def test_over_a_bus_it_works_as_over_the_private_socket(init, monkeypatch):
    from jubako.oci import bus

    address = bus._paths("unix:path=/run/dbus/system_bus_socket")
    monkeypatch.setattr(bus, "_addresses", lambda _user: [(path, True) for path in address])
    choice = start(spec(":jubako:nine", LIMITS), init.pid)
    assert show(choice.unit, "TasksMax") == {"TasksMax": "20"}
    remove_group(choice.path, choice.unit)
    assert show(choice.unit, "LoadState") == {"LoadState": "not-found"}


def test_a_user_has_scopes_of_its_own_systemd(as_tester):
    found = as_tester(
        """
        import json, os, subprocess, time
        from jubako.oci.cgroups import choose_group
        from jubako.oci.groups import processes, remove_group
        from jubako.oci.systemd import start_scope
        from jubako.oci.updating import update
        from jubako.record import replace
        from jubako.spec.defaults import default
        from jubako.spec.load import load_resources
        resources = load_resources({"pids": {"limit": 5}, "memory": {"limit": 50 << 20}, "cpu": {"quota": 30000}})
        document = default()
        document = replace(document, linux=replace(document.linux, resources=resources))
        init = subprocess.Popen(("sleep", "100"))
        choice = start_scope(choose_group(document, "mine", "systemd"), resources, init.pid, "mine")
        limits = [open(f"{choice.path}/{name}").read().split()[0] for name in ("pids.max", "memory.max", "cpu.max")]
        inside = list(processes(choice.path)) == [init.pid]
        update("mine", choice.path, "running", load_resources({"pids": {"limit": 9}}), unit=choice.unit)
        after = open(f"{choice.path}/pids.max").read()
        show = ("systemctl", "--user", "show", "-P", "TasksMax", choice.unit)
        shown = subprocess.run(show, capture_output=True, text=True).stdout
        remove_group(choice.path, choice.unit)
        answer = [choice.path, limits, inside, after, shown, init.wait(10), os.path.exists(choice.path)]
        print(json.dumps(answer))
        """
    )
    manager = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service"
    assert found == [
        f"{manager}/user.slice/jubako-mine.scope",
        ["5", str(50 << 20), "30000"],
        True,
        "9\n",
        "9\n",
        -9,
        False,
    ]


def test_a_user_in_a_user_namespace_is_known_by_its_outer_id(as_tester):
    found = as_tester(
        """
        import json, os, subprocess, sys
        inner = '''
        import json, os, subprocess
        from jubako.oci.cgroups import choose_group, is_rootless
        from jubako.oci.groups import remove_group
        from jubako.oci.systemd import start_scope
        from jubako.spec.defaults import default
        init = subprocess.Popen(("sleep", "100"))
        choice = start_scope(choose_group(default(), "inner", "systemd"), None, init.pid, "inner")
        remove_group(choice.path, choice.unit)
        print(json.dumps([os.getuid(), is_rootless(), choice.path.rpartition("/")[2], init.wait(10)]))
        '''
        import textwrap
        command = ("unshare", "--user", "--map-root-user", sys.executable, "-c", textwrap.dedent(inner))
        print(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        """
    )
    assert found == [0, True, "jubako-inner.scope", -9]


def test_the_scope_goes_by_itself_when_its_process_has_ended(init):
    choice = start(spec(":jubako:ten"), init.pid)
    init.kill()
    init.wait()
    end = time.monotonic() + 20
    while Path(choice.path).exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not Path(choice.path).exists()
    remove_group(choice.path, choice.unit)
