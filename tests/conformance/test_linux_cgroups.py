"""config-linux.md, "Control groups" and "Unified", and the commands that need a group: in a private view of cgroup v2.

Only the core of cgroup v2 is there on every machine: freezing, killing, events, and limits on the number of groups.
A limit whose controller is missing must be an error, not a container without the limit.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from world.bundle import Bundle
from world.cgroup import cgroup2_mount
from world.rule import in_cgroup, rule
from world.runtime import Container, Runtime


def group_of(pid: int) -> str:
    """The path of a process's group in the cgroup v2 hierarchy."""
    line = next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    return line.removeprefix("0::")


def directory(path: str) -> Path:
    return cgroup2_mount() / path.lstrip("/")


@pytest.fixture
def path(runtime: Runtime) -> str:
    """A group below the test's own, as `cgroupsPath` names it."""
    script = next(word for word in runtime.prefix if word.startswith("jubako-test-"))
    return f"/{script}/box"


@pytest.fixture
def box(runtime: Runtime, bundle: Bundle, path: str) -> Container:
    bundle.linux["cgroupsPath"] = path
    bundle.sh("echo ready; i=0; while :; do i=$((i+1)); echo $i > /dev/shm/count; done")
    return runtime.create(bundle)


@pytest.fixture
def running(box: Container) -> Container:
    box.start()
    box.read_until("ready")
    return box


@in_cgroup
@rule("config-linux.md", "Cgroups Path", "MUST", "An absolute path is relative to the mount point of the cgroups.")
@rule("config-linux.md", "Cgroups Path", "MUST", "The group is made if it does not exist, and removed by delete.")
def test_an_absolute_path(box: Container, path: str):
    assert group_of(box.pid) == path
    assert str(box.pid) in (directory(path) / "cgroup.procs").read_text().split()
    box.stop()
    box.delete()
    assert not directory(path).exists()


@in_cgroup
@rule("config-linux.md", "Cgroups Path", "MUST", "The same path is the same place, whoever calls.")
def test_the_same_path_is_the_same_place(runtime: Runtime, bundle: Bundle, path: str):
    bundle.linux["cgroupsPath"] = path
    for _ in range(2):
        box = runtime.create(bundle)
        assert group_of(box.pid) == path
        box.delete("--force")


@in_cgroup
@rule("config-linux.md", "Control groups", "MUST", "A group that has processes is not fit for a new container.")
def test_a_group_in_use(box: Container, runtime: Runtime, bundle: Bundle):
    runtime.refuses(bundle)
    assert box.status == "created"


@in_cgroup
@rule("config-linux.md", "Namespaces", "MUST", "In a cgroup namespace the container's group is the top.")
def test_the_cgroup_namespace(runtime: Runtime, bundle: Bundle, path: str):
    bundle.linux["cgroupsPath"] = path
    assert runtime.says(bundle, "grep ^0:: /proc/self/cgroup") == "0::/"


@in_cgroup
@rule(
    "config-linux.md", "Cgroup ownership", "SHOULD", "/sys/fs/cgroup is the container's own group, read-only if asked."
)
def test_the_cgroup_file_system(runtime: Runtime, bundle: Bundle, path: str):
    bundle.linux["cgroupsPath"] = path
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"])
    said = runtime.says(bundle, "cat /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/new 2>/dev/null || echo refused")
    assert said.split()[0] == "1"
    assert said.split()[-1] == "refused"


@in_cgroup
@rule("config-linux.md", "Unified", "MUST", "Each key is a file of the group, and is written to.")
def test_unified(runtime: Runtime, bundle: Bundle, path: str):
    bundle.linux["cgroupsPath"] = path
    bundle.linux["resources"] = {"unified": {"cgroup.max.descendants": "7", "cgroup.max.depth": "3"}}
    runtime.create(bundle)
    assert (directory(path) / "cgroup.max.descendants").read_text() == "7\n"
    assert (directory(path) / "cgroup.max.depth").read_text() == "3\n"


@in_cgroup
@rule("config-linux.md", "Unified", "MUST", "A controller that is not there, or no file of the group, is an error.")
@pytest.mark.parametrize(
    ("key", "value"),
    [("nosuch.max", "1"), ("cgroup.nosuch", "1"), ("../cgroup.procs", "0"), ("cgroup.max.depth", "many"), ("", "1")],
)
def test_unified_that_cannot_be(runtime: Runtime, bundle: Bundle, path: str, key: str, value: str):
    bundle.linux["cgroupsPath"] = path
    bundle.linux["resources"] = {"unified": {key: value}}
    runtime.refuses(bundle)
    assert not directory(path).exists()


LIMITS: dict[str, dict[str, Any]] = {
    "memory": {"memory": {"limit": 64 << 20}},
    "cpu": {"cpu": {"shares": 512}},
    "cpuset": {"cpu": {"cpus": "0"}},
    "pids": {"pids": {"limit": 20}},
    "io": {"blockIO": {"weight": 100}},
    "rdma": {"rdma": {"mlx5_1": {"hcaHandles": 3}}},
}


@in_cgroup
@rule("config-linux.md", "Control groups", "MUST", "A limit whose controller the host lacks is an error.")
@pytest.mark.parametrize("controller", LIMITS)
def test_a_limit_without_its_controller(runtime: Runtime, bundle: Bundle, path: str, controller: str):
    """On a machine that has the controller the limit must hold, which other tests look at."""
    there = (cgroup2_mount() / "cgroup.controllers").read_text().split()
    bundle.linux["cgroupsPath"] = path
    bundle.linux["resources"] = LIMITS[controller]
    if controller in there:
        runtime.create(bundle)
    else:
        assert controller in runtime.refuses(bundle)
        assert not directory(path).exists()


@in_cgroup
@rule("config-linux.md", "Allowed Device list", "MUST", "Rules are applied in the listed order.")
def test_device_rules(runtime: Runtime, bundle: Bundle, path: str, who: str):
    bundle.linux["cgroupsPath"] = path
    bundle.linux["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}]
    every = {"allow": False, "access": "rwm"}
    allow = {"allow": True, "type": "c", "major": 10, "access": "rw"}
    deny = {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "r"}
    probe = bundle.use_probe()
    # In a user namespace nodes cannot be made: rules count as satisfied.
    refused = "EPERM" if who == "root in a cgroup" else "0"
    for rules, told in (([every, deny, allow], "0"), ([every, allow, deny], refused), ([every], refused)):
        bundle.linux["resources"] = {"devices": rules}
        said = runtime.says(bundle, f"{probe} open /dev/fuse; {probe} open /dev/null; {probe} open /dev/zero").split()
        assert said == [told, "0", "0"]


@in_cgroup
@rule(
    "config-linux.md", "Cgroup ownership", "SHOULD", "The owner of the group is not changed without a writable mount."
)
def test_the_owner_of_the_group(box: Container, path: str, runtime: Runtime):
    assert directory(path).stat().st_uid == runtime.account.uid


# --- pause, resume, events, update, ps --------------------------------------------------------------------------------


@in_cgroup
@rule("command line", "pause", "common", "`pause` freezes all processes; the status is `paused`, until `resume`.")
def test_pause_and_resume(running: Container, path: str):
    running.runtime("pause", running.id, check=True)
    assert running.status == "paused"
    assert "frozen 1" in (directory(path) / "cgroup.events").read_text()
    running.runtime("resume", running.id, check=True)
    assert running.status == "running"
    assert "frozen 0" in (directory(path) / "cgroup.events").read_text()


@in_cgroup
@rule("command line", "pause", "common", "What is not running cannot be paused, what is not paused not resumed.")
def test_pause_of_what_does_not_run(box: Container):
    assert box.runtime("resume", box.id).exit_code != 0
    box.stop()
    assert box.runtime("pause", box.id).exit_code != 0
    assert box.status == "stopped"


@in_cgroup
@rule("command line", "start", "common", "A container that was paused before its start is started after `resume` only.")
def test_start_of_a_paused_container(box: Container):
    box.runtime("pause", box.id, check=True)
    assert box.status == "paused"
    result = box.runtime("start", box.id)
    assert result.exit_code != 0
    assert "paused" in result.stderr
    box.runtime("resume", box.id, check=True)
    assert box.status == "created"
    box.start()
    assert box.status == "running"


@in_cgroup
@rule("command line", "exec", "common", "`exec` into a paused container is an error.")
def test_exec_into_a_paused_container(running: Container):
    running.runtime("pause", running.id, check=True)
    result = running.exec("true", check=False)
    assert result.exit_code != 0
    assert "paused" in result.stderr
    running.runtime("resume", running.id, check=True)
    running.exec("true")


@in_cgroup
@rule("command line", "delete", "common", "`delete --force` ends a paused container.")
def test_delete_of_a_paused_container(running: Container, path: str):
    running.runtime("pause", running.id, check=True)
    pid = running.pid
    running.delete("--force")
    running.wait(pid)
    assert not directory(path).exists()


@in_cgroup
@rule("command line", "kill", "common", "`kill --all` signals all processes of the container.")
def test_kill_all(runtime: Runtime, bundle: Bundle, path: str):
    bundle.linux["cgroupsPath"] = path
    bundle.sh("sleep 1000 & sleep 1000 & echo ready; wait")
    box = runtime.start_new(bundle)
    box.read_until("ready")
    pids = [int(pid) for pid in (directory(path) / "cgroup.procs").read_text().split()]
    assert len(pids) >= 3
    box.runtime("kill", "--all", box.id, "KILL", check=True)
    for pid in pids:
        box.wait(pid)


@in_cgroup
@rule("command line", "events", "common", "`events --stats` prints one JSON document: type `stats`, id, data.")
def test_events_stats(running: Container):
    result = running.runtime("events", "--stats", running.id, check=True)
    event = result.json
    assert event["type"] == "stats"
    assert event["id"] == running.id
    assert {"cpu", "memory", "pids"} <= set(event["data"])


@in_cgroup
@rule(
    "command line",
    "update",
    "common",
    "`update -r FILE` changes limits, `-r -` reads them; missing controllers are errors.",
)
@pytest.mark.parametrize("how", ["file", "standard input"])
def test_update(running: Container, path: str, place: Path, how: str):
    text = '{"unified": {"cgroup.max.descendants": "9"}}'
    (place / "resources.json").write_text(text)
    if how == "file":
        running.runtime("update", "-r", place / "resources.json", running.id, check=True)
    else:
        running.runtime("update", "--resources", "-", running.id, input=text, check=True)
    assert (directory(path) / "cgroup.max.descendants").read_text() == "9\n"
    if "pids" not in (cgroup2_mount() / "cgroup.controllers").read_text().split():
        assert running.runtime("update", "--pids-limit", "10", running.id).exit_code != 0


@in_cgroup
@rule("command line", "ps", "common", "`ps` shows the processes of the container, `-f json` their pids as an array.")
def test_ps(running: Container):
    pids = running.runtime("ps", "-f", "json", running.id, check=True).json
    assert running.pid in pids
    assert all(isinstance(pid, int) for pid in pids)
    table = running.runtime("ps", running.id, check=True).lines
    assert "PID" in table[0].split()
    assert any(str(running.pid) in line.split() for line in table[1:])


@in_cgroup
@rule("command line", "exec", "common", "A process of `exec` is in the container's group.")
def test_exec_is_in_the_group(running: Container, path: str):
    assert running.exec("cat", "/proc/self/cgroup").stdout.splitlines()[-1] == "0::/"
    assert os.listdir(directory(path))
