"""The runtime's commands on a machine with systemd: limits, devices, groups of whole containers; root and a user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vm.conftest import TESTER, show

ROOT, USER = "root", "user"
Run = Callable[..., subprocess.CompletedProcess[str]]


class Runtime:
    """`jubako oci` as root or as the ordinary user, whose shell is in a group of its own systemd's."""

    def __init__(self, who: str, manager: str, place: Path) -> None:
        self.who, self.manager, self.place = who, manager, place
        self.bundle = place / "bundle"
        self.id = f"{who}-{manager}"

    def argv(self, *words: str) -> list[str]:
        command = [sys.executable, "-m", "jubako", "oci", "--root", f"{self.place}/state"]
        command += ["--cgroup-manager", self.manager, *words]
        if self.who == ROOT:
            return command
        variables = {
            "XDG_RUNTIME_DIR": f"/run/user/{TESTER}",
            "PYTHONPATH": os.environ["PYTHONPATH"],
            "HOME": "/home/tester",
        }
        scope = ["systemd-run", "--user", "--scope", "--quiet", "-p", "Delegate=yes"]
        become = [
            "setpriv",
            f"--reuid={TESTER}",
            f"--regid={TESTER}",
            "--clear-groups",
            "env",
            "-i",
            "PATH=/usr/bin:/bin",
        ]
        return [*become, *(f"{name}={value}" for name, value in variables.items()), *scope, *command]

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self.argv(*words), capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, done.stderr
        return done

    def write(self, script: str, resources: dict[str, Any], **linux: Any) -> None:
        path = self.bundle / "config.json"
        path.unlink(missing_ok=True)
        self("spec", "--bundle", str(self.bundle), *(("--rootless",) if self.who == USER else ()))
        document = json.loads(path.read_text())
        document["process"].update(terminal=False, args=["sh", "-c", script])
        document["linux"].setdefault("resources", {}).update(resources)
        document["linux"].update(linux)
        path.write_text(json.dumps(document))

    def start(self) -> None:
        """Create and start, with output into a file: nobody waits for the container's ends of pipes."""
        with (self.place / "output").open("w") as output:
            for words in (("create", "--bundle", str(self.bundle), self.id), ("start", self.id)):
                argv = self.argv(*words)
                done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=100)
                assert done.returncode == 0, self.output()

    def output(self) -> str:
        return (self.place / "output").read_text()

    def state(self) -> dict[str, Any]:
        return dict(json.loads(self("state", self.id).stdout))

    def group(self) -> Path:
        lines = Path(f"/proc/{self.state()['pid']}/cgroup").read_text()
        return Path("/sys/fs/cgroup" + lines.strip().removeprefix("0::"))


@pytest.fixture(params=[(ROOT, "cgroupfs"), (ROOT, "systemd"), (USER, "cgroupfs"), (USER, "systemd")], ids="-".join)
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    who, manager = request.param
    place = Path(f"/var/tmp/{who}-{manager}-{os.getpid()}")
    (place / "bundle/rootfs/bin").mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", place / "bundle/rootfs/bin/busybox")
    for name in ("sh", "sleep", "cat", "head", "tail", "dd", "true", "id"):
        (place / f"bundle/rootfs/bin/{name}").symlink_to("busybox")
    if who == USER:
        subprocess.run(("chown", "-R", f"{TESTER}:{TESTER}", place), check=True)
    made = Runtime(who, manager, place)
    yield made
    made("delete", "--force", made.id)
    shutil.rmtree(place)


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


LIMITS = {"pids": {"limit": 16}, "memory": {"limit": 64 << 20, "swap": 64 << 20}, "cpu": {"quota": 50_000}}


def test_a_container_from_its_limits_to_its_end(runtime: Runtime) -> None:
    runtime.write("cat /proc/self/cgroup; while :; do sleep 1; done", LIMITS)
    runtime.start()
    assert eventually(lambda: runtime.output() == "0::/\n")  # the group is the root of what the container sees
    group = runtime.group()
    unit = group.name
    assert unit == {"cgroupfs": runtime.id, "systemd": f"jubako-{runtime.id}.scope"}[runtime.manager] or (
        runtime.who == USER and unit == f"jubako-{runtime.id}"
    )
    read = [(group / name).read_text().split()[0] for name in ("pids.max", "memory.max", "cpu.max")]
    assert read == ["16", str(64 << 20), "50000"]
    if runtime.manager == "systemd":
        assert show(unit, "TasksMax", user=runtime.who == USER) == {"TasksMax": "16"}

    runtime("update", "--pids-limit", "20", "--memory", "96m", "--memory-swap", "96m", runtime.id)
    assert (group / "pids.max").read_text() == "20\n"
    assert (group / "memory.max").read_text() == f"{96 << 20}\n"
    if runtime.manager == "systemd":
        assert show(unit, "TasksMax", user=runtime.who == USER) == {"TasksMax": "20"}

    event = json.loads(runtime("events", "--stats", runtime.id).stdout)
    assert (event["type"], event["id"], event["data"]["pids"]["limit"]) == ("stats", runtime.id, 20)
    assert event["data"]["memory"]["usage"]["limit"] == 96 << 20
    pids = json.loads(runtime("ps", "--format", "json", runtime.id).stdout)
    assert runtime.state()["pid"] in pids

    runtime("pause", runtime.id)
    assert runtime.state()["status"] == "paused"
    assert "frozen 1" in (group / "cgroup.events").read_text()
    runtime("resume", runtime.id)
    assert runtime.state()["status"] == "running"
    assert runtime("exec", runtime.id, "cat", "/proc/self/cgroup").stdout == "0::/\n"

    runtime("kill", "--all", runtime.id, "KILL")
    assert eventually(lambda: runtime.state()["status"] == "stopped")
    runtime("delete", runtime.id)
    assert not group.exists()
    if runtime.manager == "systemd":
        assert show(unit, "LoadState", user=runtime.who == USER) == {"LoadState": "not-found"}


def test_what_asks_for_too_much_memory_is_killed_and_told_of(runtime: Runtime) -> None:
    limits = {"memory": {"limit": 24 << 20, "swap": 24 << 20}}
    runtime.write("while :; do sleep 1; [ ! -e /go ] || { tail /dev/zero; echo $?; sleep 100; }; done", limits)
    config = json.loads((runtime.bundle / "config.json").read_text())
    config["root"]["readonly"] = False
    (runtime.bundle / "config.json").write_text(json.dumps(config))
    runtime.start()
    words = runtime.argv("events", "--interval", "100s", runtime.id)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout is not None
        time.sleep(5)
        (runtime.bundle / "rootfs/go").touch()
        assert json.loads(events.stdout.readline()) == {"type": "oom", "id": runtime.id}
        assert eventually(lambda: runtime.output() == "Killed\n137\n")
        runtime("kill", runtime.id, "KILL")
        assert events.wait(20) == 0


def test_a_limit_that_cannot_be_is_an_error_and_leaves_nothing(runtime: Runtime) -> None:
    runtime.write("true", {"unified": {"memory.high": "much"}})
    done = runtime("create", "--bundle", str(runtime.bundle), runtime.id, check=False)
    assert done.returncode == 1
    assert "linux.resources.unified.memory.high" in done.stderr
    assert not [path for path in Path("/sys/fs/cgroup").rglob(f"*{runtime.id}*") if path.is_dir()]
    assert runtime("state", runtime.id, check=False).returncode == 1


def test_devices_of_the_host_are_out_of_roots_reach(runtime: Runtime) -> None:
    if runtime.who == USER:
        pytest.skip("in a user namespace no device can be opened that the user may not open")
    script = "head -c 1 /vda | dd of=/dev/null; head -c 4 /dev/zero | dd of=/dev/null"
    runtime.write(script, {"devices": [{"allow": False, "access": "rwm"}]})
    path = runtime.bundle / "config.json"
    document = json.loads(path.read_text())
    document["mounts"].append({"destination": "/vda", "source": "/dev/vda", "options": ["bind"]})
    for allowed in (False, True):
        if allowed:
            document["linux"]["resources"]["devices"].append({"allow": True, "type": "b", "access": "r"})
        document["root"]["readonly"] = False
        path.write_text(json.dumps(document))
        done = runtime("run", "--bundle", str(runtime.bundle), runtime.id)
        assert ("Operation not permitted" in done.stderr) is not allowed, done.stderr
        assert done.stderr.count("0+1 records in") == 1 + allowed  # zero's bytes, and the disk's
