"""Limits that hold, and others after `update`, with every controller of cgroup v2."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import JubakoError
from jubako.linux import cgroup
from jubako.oci.cgroups import CGROUPFS, GroupChoice, make_group
from jubako.oci.events import stats_event, stream_events
from jubako.oci.updating import update
from jubako.spec.load import load_resources

MIB = 1 << 20


def limited(group: Path, **resources: Any) -> str:
    return make_group(GroupChoice(str(group), str(group), CGROUPFS), load_resources(resources))


def change(group: str, **resources: Any) -> None:
    update("box", group, "running", load_resources(resources))


def run_in(group: str, *argv: str, **words: Any) -> subprocess.Popen[str]:
    """A program that is in the group from its first instruction."""
    inside = ("sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', group, *argv)
    return subprocess.Popen(inside, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **words)


def allocate(group: str, size: int) -> int:
    """The exit code of a program that fills `size` bytes."""
    code = f"b = bytearray({size})\nfor i in range(0, {size}, 4096): b[i] = 1"
    return run_in(group, sys.executable, "-S", "-c", code).wait(60)


def fork(group: str, count: int) -> str:
    """How a shell fares that starts `count` children at once."""
    script = f"n=0; while [ $n -lt {count} ]; do sleep 2 & n=$((n+1)); done; echo all"
    return run_in(group, "sh", "-c", script).communicate(timeout=60)[0]


def burn(group: str, seconds: float) -> float:
    """The processor time that a program got which wanted all of it for `seconds`."""
    spinner = run_in(group, "sh", "-c", "while :; do :; done")
    before = cgroup.numbers(cgroup.read(group, "cpu.stat"))["usage_usec"]
    time.sleep(seconds)
    used = cgroup.numbers(cgroup.read(group, "cpu.stat"))["usage_usec"] - before
    spinner.kill()
    spinner.wait()
    return used / 1e6


def test_memory_is_limited_and_update_lifts_it(group):
    path = limited(group, memory={"limit": 40 * MIB, "swap": 40 * MIB})
    assert allocate(path, 80 * MIB) == -9
    change(path, memory={"limit": 200 * MIB, "swap": 200 * MIB})
    assert allocate(path, 80 * MIB) == 0
    data = stats_event("box", path, "running")["data"]
    assert data["memory"]["usage"]["limit"] == 200 * MIB
    assert data["memory"]["usage"]["max"] >= 39 * MIB
    assert data["memory"]["raw"]["pgfault"] > 0


def test_a_limit_below_what_is_in_use_is_refused_on_demand(group):
    path = limited(group, memory={"limit": 200 * MIB})
    code = f"b = bytearray({60 * MIB})\nfor i in range(0, len(b), 4096): b[i] = 1\nprint(flush=True)\ninput()"
    holder = run_in(path, sys.executable, "-S", "-c", code, stdin=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(JubakoError, match=r"memory\.limit: 20971520 is not above what is in use"):
        change(path, memory={"limit": 20 * MIB, "checkBeforeUpdate": True})
    assert holder.poll() is None
    holder.kill()
    holder.wait()


@pytest.fixture
def events(group: Path) -> Iterator[list[str]]:
    """The types of the events that the group's stream tells, as they come."""
    path = limited(group, memory={"limit": 30 * MIB, "swap": 30 * MIB})
    keeper = run_in(path, "sleep", "60")
    while not cgroup.processes(path):
        time.sleep(0.01)
    seen: list[str] = []
    follow = stream_events("box", path, "running", 100)
    thread = threading.Thread(target=lambda: seen.extend(event["type"] for event in follow))
    thread.start()
    yield seen
    keeper.kill()
    keeper.wait()
    thread.join(20)
    assert not thread.is_alive(), "the stream outlives its container"


def test_each_kill_for_want_of_memory_is_an_event(group, events):
    for count in (1, 2):
        assert allocate(str(group), 60 * MIB) == -9
        end = time.monotonic() + 20
        while events.count("oom") < count and time.monotonic() < end:
            time.sleep(0.05)
        assert events == ["oom"] * count


def test_the_number_of_processes_is_limited_and_update_lifts_it(group):
    path = limited(group, pids={"limit": 5})
    assert "all" not in fork(path, 12)
    change(path, pids={"limit": -1})
    assert "all" in fork(path, 12)
    assert stats_event("box", path, "running")["data"]["pids"].keys() <= {"current"}


def test_processor_time_is_limited_and_update_changes_it(group):
    path = limited(group, cpu={"quota": 20_000, "period": 100_000})
    assert burn(path, 3) < 0.45 * 3
    change(path, cpu={"period": 50_000})  # the quota stays: twice the share
    assert cgroup.read(path, "cpu.max") == "20000 50000\n"
    change(path, cpu={"quota": -1})
    assert cgroup.read(path, "cpu.max") == "max 50000\n"
    assert burn(path, 3) > 0.45 * 3
    assert stats_event("box", path, "running")["data"]["cpu"]["throttling"]["throttledPeriods"] > 0


def test_a_burst_may_rise_and_fall_with_its_quota(group):
    path = limited(group, cpu={"quota": 50_000, "period": 100_000, "burst": 50_000})
    assert cgroup.read(path, "cpu.max.burst") == "50000\n"
    change(path, cpu={"quota": 10_000, "burst": 10_000})
    change(path, cpu={"quota": 90_000, "burst": 80_000})
    assert (cgroup.read(path, "cpu.max"), cgroup.read(path, "cpu.max.burst")) == ("90000 100000\n", "80000\n")


def test_weights_idleness_and_sets_are_taken(group):
    path = limited(group, cpu={"shares": 2048, "cpus": "1", "mems": "0"}, memory={"reservation": MIB})
    read = {
        name: cgroup.read(path, name).strip() for name in ("cpu.weight", "cpuset.cpus", "cpuset.mems", "memory.low")
    }
    assert read == {"cpu.weight": "174", "cpuset.cpus": "1", "cpuset.mems": "0", "memory.low": str(MIB)}
    shown = run_in(path, "grep", "Cpus_allowed_list", "/proc/self/status").communicate()[0]
    assert shown.split() == ["Cpus_allowed_list:", "1"]
    change(path, cpu={"idle": 1, "cpus": "0-1"})
    assert cgroup.read(path, "cpu.idle") == "1\n"
    assert cgroup.read(path, "cpuset.cpus") == "0-1\n"


def test_writing_to_a_disk_is_limited_and_update_lifts_it(group):
    status = os.stat("/")
    major, minor = os.major(status.st_dev), os.minor(status.st_dev)
    limit = {"major": major, "minor": minor, "rate": MIB}
    path = limited(group, blockIO={"weight": 500, "throttleWriteBpsDevice": [limit]})
    target = f"/var/tmp/{os.getpid()}"
    command = ("dd", "if=/dev/zero", f"of={target}", "bs=256k", "count=16", "oflag=direct")
    took = []
    for lift in (False, True):
        if lift:
            change(path, blockIO={"throttleWriteBpsDevice": [{**limit, "rate": 0}]})
        begin = time.monotonic()
        assert run_in(path, *command).wait(60) == 0
        took.append(time.monotonic() - begin)
    os.unlink(target)
    assert took[0] > 2.5
    assert took[1] < took[0] / 2
    blkio = stats_event("box", path, "running")["data"]["blkio"]
    written = [entry["value"] for entry in blkio["ioServiceBytesRecursive"] if entry["op"] == "Write"]
    assert sum(written) >= 8 * MIB


def test_unified_is_written_and_a_wrong_value_refused(group):
    path = limited(group, unified={"memory.high": str(50 * MIB), "pids.max": "7"})
    assert (cgroup.read(path, "memory.high"), cgroup.read(path, "pids.max")) == (f"{50 * MIB}\n", "7\n")
    with pytest.raises(JubakoError, match=r"unified\.pids\.max \(pids\.max: many\): Invalid argument"):
        change(path, unified={"pids.max": "many"})
    with pytest.raises(JubakoError, match=r"unified\.nothing\.max: the controller nothing is not available"):
        change(path, unified={"nothing.max": "1"})


def test_the_group_of_a_user_is_limited_where_systemd_delegated_it(as_tester):
    found = as_tester(
        """
        import json, os, subprocess
        from jubako.oci.cgroups import choose_group, make_group
        from jubako.oci.groups import remove_group
        from jubako.record import replace
        from jubako.spec.defaults import default
        from jubako.spec.load import load_resources
        document = default()
        resources = load_resources({"pids": {"limit": 3}, "memory": {"limit": 50 << 20}, "cpu": {"quota": 50000}})
        document = replace(document, linux=replace(document.linux, resources=resources))
        choice = choose_group(document, "one")
        make_group(choice, resources)
        script = 'echo 0 > "$0/cgroup.procs"; sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait'
        done = subprocess.run(("sh", "-c", script, choice.path), capture_output=True, text=True)
        limits = [open(f"{choice.path}/{name}").read().split()[0] for name in ("pids.max", "memory.max", "cpu.max")]
        remove_group(choice.path)
        print(json.dumps([choice.path, limits, done.stderr, os.path.exists(choice.path)]))
        """,
        scope=True,
    )
    assert found[0].startswith("/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/")
    assert found[0].endswith(".scope/jubako-one")
    assert found[1] == ["3", str(50 * MIB), "50000"]
    assert "fork" in found[2]
    assert found[3] is False


def test_what_systemd_has_not_delegated_is_left_to_it(as_tester):
    """The user may write there, but systemd would take the controllers away from it."""
    text = as_tester(
        """
        import json, os, time
        from jubako.errors import JubakoError
        from jubako.linux import cgroup
        from jubako.oci.cgroups import choose_group, make_group
        from jubako.record import replace
        from jubako.spec.defaults import default
        from jubako.spec.load import load_resources
        resources = load_resources({"pids": {"limit": 3}})
        document = default()
        document = replace(document, linux=replace(document.linux, resources=resources))
        own = cgroup.directory_of()
        child = os.fork()  # somebody else in the group: then nobody steps aside
        if not child:
            time.sleep(60)
        choice = choose_group(document, "one")
        try:
            make_group(choice, resources)
        except JubakoError as failure:
            print(json.dumps([choice.path == own + "/jubako-one", str(failure), os.listdir(own).count("jubako-one")]))
        os.kill(child, 9)
        """,
        scope=True,
    )
    assert text[0]
    assert "a group that has processes itself can hand no controller down" in text[1]
    assert text[2] == 0


def test_a_user_outside_of_a_delegated_group_is_told_what_to_do(as_tester):
    text = as_tester(
        """
        import json
        from jubako.errors import JubakoError
        from jubako.oci.cgroups import choose_group
        from jubako.record import replace
        from jubako.spec.defaults import default
        from jubako.spec.load import load_resources
        document = default()
        resources = load_resources({"pids": {"limit": 3}})
        try:
            choose_group(replace(document, linux=replace(document.linux, resources=resources)), "one")
        except JubakoError as failure:
            print(json.dumps([str(failure), choose_group(document, "one").reason]))
        """
    )
    assert "linux.resources.pids.limit: /sys/fs/cgroup/system.slice" in text[0]
    assert "systemd-run --user --scope -p Delegate=yes" in text[0]
    assert "is not delegated to this user" in text[1]
