"""config.md, "POSIX-platform Hooks", and the hooks' places in runtime.md's life cycle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from world.bundle import Bundle
from world.rule import rule
from world.runtime import Runtime

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
OUTSIDE = ("prestart", "createRuntime", "poststart", "poststop")
AT_CREATE = ("prestart", "createRuntime", "createContainer")
STATUS = {
    "prestart": "creating",
    "createRuntime": "creating",
    "createContainer": "creating",
    "startContainer": "created",
    "poststart": "running",
    "poststop": "stopped",
}
RECORD = """
to=$1 name=$2
cat > $to/$name.state
for kind in mnt pid net ipc uts; do echo $kind $(readlink /proc/self/ns/$kind); done > $to/$name.namespaces
env > $to/$name.env
pwd > $to/$name.cwd
echo "$0 $*" > $to/$name.args
echo $name >> $to/order
"""


@dataclass
class Recorded:
    """A bundle whose hooks write down how they were called: outside to `place`, inside to /mnt, which is the same."""

    bundle: Bundle
    place: Path

    def add(self, kind: str, name: str = "", **more: Any) -> None:
        inside = kind == "startContainer"
        script = self.bundle.script(f"record-{kind}", RECORD, inside)
        self.bundle.hook(kind, script, "/mnt" if inside else str(self.place), name or kind, **more)

    def fail(self, kind: str, script: str = "exit 7", **more: Any) -> None:
        path = self.bundle.script(f"fail-{kind}", script, kind == "startContainer")
        self.bundle.hook(kind, path, **more)

    @property
    def order(self) -> list[str]:
        file = self.place / "order"
        return file.read_text().split() if file.exists() else []

    def state(self, name: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.place / f"{name}.state").read_text())
        return state

    def namespaces(self, name: str) -> dict[str, str]:
        lines = (self.place / f"{name}.namespaces").read_text().splitlines()
        return dict(line.split() for line in lines)  # type: ignore[misc]


@pytest.fixture
def recorded(bundle: Bundle, place: Path) -> Recorded:
    record = place / "record"
    record.mkdir()
    bundle.mount("/mnt", "none", record, ["bind"])
    bundle.sh("echo program >> /mnt/order; exec sleep 1000")
    return Recorded(bundle, record)


def live_and_die(runtime: Runtime, recorded: Recorded) -> dict[str, Any]:
    """create, start, kill, delete; the state in between."""
    box = runtime.create(recorded.bundle)
    box.start()
    state = box.state
    box.stop()
    box.delete()
    return state


@rule(
    "config.md", "Hooks", "MUST", "prestart, createRuntime and createContainer are called by `create`, in this order."
)
@rule("config.md", "StartContainer Hooks", "MUST", "startContainer hooks are called by `start`, before the program.")
@rule("config.md", "Poststart", "MUST", "poststart hooks are called after the program is started, before `start` ends.")
@rule(
    "config.md", "Poststop", "MUST", "poststop hooks are called after the container is deleted, before `delete` ends."
)
def test_when_the_hooks_are_called(runtime: Runtime, recorded: Recorded):
    for kind in reversed(KINDS):
        recorded.add(kind)
    box = runtime.create(recorded.bundle)
    assert recorded.order == list(AT_CREATE)
    box.start()
    after_start = recorded.order
    assert after_start[3] == "startContainer"
    assert "poststart" in after_start
    assert "poststop" not in after_start
    box.stop()
    box.delete()
    assert recorded.order[-1] == "poststop"
    assert sorted(recorded.order) == sorted((*KINDS, "program"))
    assert recorded.order.index("startContainer") < recorded.order.index("program")


@rule("config.md", "Hooks", "MUST", "Hooks of one kind are called in the listed order.")
@pytest.mark.parametrize("kind", KINDS)
def test_hooks_are_called_in_the_listed_order(runtime: Runtime, recorded: Recorded, kind: str):
    for name in ("first", "second", "third"):
        recorded.add(kind, name)
    live_and_die(runtime, recorded)
    assert [name for name in recorded.order if name != "program"] == ["first", "second", "third"]


@rule("config.md", "Hooks", "MUST", "The state of the container comes to every hook on its standard input.")
@rule("runtime.md", "State", "MUST", "The status that a hook sees is the one of its place in the life cycle.")
@pytest.mark.parametrize("kind", KINDS)
def test_hooks_get_the_state(runtime: Runtime, recorded: Recorded, kind: str):
    recorded.bundle.config["annotations"] = {"com.example.who": "hook"}
    recorded.add(kind)
    outside = live_and_die(runtime, recorded)
    state = recorded.state(kind)
    assert state["id"] == outside["id"]
    assert state["ociVersion"] == outside["ociVersion"]
    assert state["bundle"] == str(recorded.bundle.path)
    assert state["annotations"] == {"com.example.who": "hook"}
    assert state["status"] == STATUS[kind]
    if kind in ("prestart", "createRuntime", "poststart"):
        assert state["pid"] == outside["pid"]


@rule("config.md", "Hooks", "MUST", "prestart, createRuntime, poststart and poststop run in the runtime's namespaces.")
@pytest.mark.parametrize("kind", OUTSIDE)
def test_hooks_of_the_runtime_run_outside(runtime: Runtime, recorded: Recorded, kind: str):
    recorded.add(kind)
    live_and_die(runtime, recorded)
    own = {each: os.readlink(f"/proc/self/ns/{each}") for each in ("mnt", "pid", "net", "ipc", "uts")}
    assert recorded.namespaces(kind) == own


@rule("config.md", "CreateContainer Hooks", "MUST", "createContainer hooks run in the container's namespaces.")
@rule("config.md", "StartContainer Hooks", "MUST", "startContainer hooks run in the container's namespaces.")
@pytest.mark.parametrize("kind", ["createContainer", "startContainer"])
def test_hooks_of_the_container_run_inside(runtime: Runtime, recorded: Recorded, kind: str):
    recorded.add(kind)
    box = runtime.start_new(recorded.bundle)
    inside = {each: os.readlink(f"/proc/{box.pid}/ns/{each}") for each in ("mnt", "pid", "net", "ipc", "uts")}
    assert recorded.namespaces(kind) == inside


@rule("config.md", "CreateContainer Hooks", "MUST", "Their path is one of the runtime's file system, before the pivot.")
def test_create_container_hooks_see_the_host_and_the_mounts(runtime: Runtime, recorded: Recorded):
    bundle = recorded.bundle
    look = f"cut -d' ' -f5 /proc/self/mountinfo > {recorded.place}/mounts; test -e {bundle.path}/config.json"
    bundle.hook("createContainer", bundle.script("look", look))
    runtime.create(bundle)
    points = (recorded.place / "mounts").read_text().split()
    assert any(point.endswith("rootfs/dev/shm") for point in points)


@rule("config.md", "StartContainer Hooks", "MUST", "Their path is one of the container's file system.")
def test_start_container_hooks_are_programs_of_the_container(runtime: Runtime, recorded: Recorded):
    bundle = recorded.bundle
    bundle.hook("startContainer", bundle.script("only-inside", "cat /test.txt > /mnt/seen", inside=True))
    runtime.start_new(bundle)
    assert (recorded.place / "seen").read_text() == "a file of the root file system\n"


@rule("config.md", "CreateRuntime Hooks", "MUST", "They are called when the namespaces are there, so can change them.")
@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_hooks_find_the_namespaces_of_the_container(runtime: Runtime, recorded: Recorded, kind: str):
    bundle = recorded.bundle
    look = """pid=$(sed 's/.*"pid": *//; s/[^0-9].*//' | tr -d '\\n'); readlink /proc/$pid/ns/net"""
    look += f" > {recorded.place}/net"
    bundle.hook(kind, bundle.script("look", look))
    box = runtime.start_new(bundle)
    assert (recorded.place / "net").read_text().strip() == os.readlink(f"/proc/{box.pid}/ns/net")


@rule("config.md", "Hooks", "MUST", "`args` is the hook's whole argv, its name too.")
def test_arguments_of_a_hook(runtime: Runtime, recorded: Recorded):
    bundle = recorded.bundle
    path = bundle.script("tell", f'tr "\\0" "\\n" < /proc/$$/cmdline > {recorded.place}/argv')
    bundle.config["hooks"] = {"createRuntime": [{"path": path, "args": ["name", "one", "two words", ""]}]}
    runtime.create(bundle)
    assert (recorded.place / "argv").read_text().splitlines()[-3:] == ["one", "two words", ""]


@rule("config.md", "Hooks", "MUST", "`env` is the hook's environment; nothing of the runtime's own is in it.")
@pytest.mark.parametrize("kind", KINDS)
def test_environment_of_a_hook(runtime: Runtime, recorded: Recorded, kind: str):
    runtime.env = {"JUBAKO_OUTSIDE": "leaked"}
    recorded.add(kind, env=["PATH=/bin:/usr/bin", "KEY=with = sign"])
    live_and_die(runtime, recorded)
    lines = (recorded.place / f"{kind}.env").read_text().splitlines()
    assert "KEY=with = sign" in lines
    assert not [line for line in lines if "leaked" in line]


@rule("config.md", "Hooks", "MUST", "A hook that goes on longer than `timeout` seconds is aborted and has failed.")
@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer", "poststart"])
def test_a_hook_that_takes_too_long(runtime: Runtime, recorded: Recorded, kind: str):
    recorded.fail(kind, "exec sleep 1000", timeout=1)
    if kind in AT_CREATE:
        runtime.refuses(recorded.bundle)
    else:
        assert runtime.create(recorded.bundle).start(check=False).exit_code != 0


@rule("config.md", "Hooks", "MUST", "`timeout` is greater than zero.")
@pytest.mark.parametrize("timeout", [0, -1, "1", 1.5])
def test_a_timeout_is_a_positive_number(runtime: Runtime, recorded: Recorded, timeout: object):
    recorded.add("createRuntime", timeout=timeout)
    assert "hooks.createRuntime[0].timeout" in runtime.refuses(recorded.bundle)
    assert recorded.order == []


@rule("config.md", "Hooks", "MUST", "The path of a hook is absolute.")
@pytest.mark.parametrize("kind", KINDS)
def test_the_path_of_a_hook_is_absolute(runtime: Runtime, recorded: Recorded, kind: str):
    recorded.bundle.hook(kind, "bin/true")
    assert "path" in runtime.refuses(recorded.bundle)


@rule(
    "runtime.md", "Lifecycle", "MUST", "A failing prestart, createRuntime or createContainer hook makes `create` fail."
)
@rule("runtime.md", "Lifecycle", "MUST", "After such a failure the container is destroyed.")
@pytest.mark.parametrize("how", ["exit code", "missing"])
@pytest.mark.parametrize("kind", AT_CREATE)
def test_a_failing_hook_of_create(runtime: Runtime, recorded: Recorded, kind: str, how: str):
    if how == "missing":
        recorded.bundle.hook(kind, "/nonexistent/hook")
    else:
        recorded.fail(kind, "echo the reason >&2; exit 7")
    runtime.refuses(recorded.bundle)
    assert recorded.order == []
    assert runtime("list", "-q").lines == []


@rule("runtime.md", "Lifecycle", "MUST", "After a failing hook of `create` the poststop hooks are called.")
@pytest.mark.parametrize("kind", AT_CREATE)
def test_poststop_hooks_follow_a_failing_create(runtime: Runtime, recorded: Recorded, kind: str):
    recorded.fail(kind)
    recorded.add("poststop")
    runtime.refuses(recorded.bundle)
    assert recorded.order == ["poststop"]


@rule("runtime.md", "Lifecycle", "MUST", "After a hook that failed no other hook of its kind is called.")
def test_the_first_failing_hook_ends_it(runtime: Runtime, recorded: Recorded):
    recorded.add("createRuntime", "before")
    recorded.fail("createRuntime")
    recorded.add("createRuntime", "after")
    runtime.refuses(recorded.bundle)
    assert recorded.order == ["before"]


@rule("runtime.md", "Lifecycle", "MUST", "A failing startContainer hook makes `start` fail; the program does not run.")
def test_a_failing_start_container_hook(runtime: Runtime, recorded: Recorded):
    recorded.fail("startContainer")
    box = runtime.create(recorded.bundle)
    pid = box.pid
    assert box.start(check=False).exit_code != 0
    box.wait(pid)
    assert recorded.order == []
    assert_over(runtime, box.id)


@rule("runtime.md", "Lifecycle", "MUST", "A failing poststart hook makes `start` fail and stops the container.")
def test_a_failing_poststart_hook(runtime: Runtime, recorded: Recorded):
    recorded.fail("poststart")
    box = runtime.create(recorded.bundle)
    pid = box.pid
    assert box.start(check=False).exit_code != 0
    box.wait(pid)
    assert_over(runtime, box.id)


@rule(
    "runtime.md", "Lifecycle", "MUST", "A failing poststop hook is a warning; the others are called, `delete` succeeds."
)
def test_a_failing_poststop_hook(runtime: Runtime, recorded: Recorded):
    recorded.add("poststop", "before")
    recorded.fail("poststop")
    recorded.bundle.hook("poststop", "/nonexistent/hook")
    recorded.add("poststop", "after")
    box = runtime.create(recorded.bundle)
    box.stop()
    result = box.delete()
    assert result.exit_code == 0
    assert recorded.order == ["before", "after"]
    assert "fail-poststop" in result.stderr or "hook" in result.stderr


@rule("config.md", "Hooks", "MUST", "`delete --force` of a running container calls the poststop hooks too.")
def test_poststop_hooks_of_a_forced_delete(runtime: Runtime, recorded: Recorded):
    recorded.add("poststop")
    box = runtime.start_new(recorded.bundle)
    box.delete("--force")
    assert recorded.order[-1] == "poststop"
    assert recorded.state("poststop")["status"] == "stopped"


@rule("config.md", "Hooks", "MUST", "`run` calls all hooks.")
def test_run_calls_all_hooks(runtime: Runtime, recorded: Recorded):
    for kind in KINDS:
        recorded.add(kind)
    recorded.bundle.sh("echo program >> /mnt/order; while ! grep -q poststart /mnt/order; do sleep 0.02; done")
    runtime.run(recorded.bundle)
    assert sorted(recorded.order) == sorted((*KINDS, "program"))


@rule("config.md", "Hooks", "MUST", "A hook may ignore its standard input.")
def test_a_hook_that_does_not_read(runtime: Runtime, bundles: Callable[..., Bundle]):
    bundle = bundles()
    bundle.config["annotations"] = {"com.example.long": "x" * 200_000}
    bundle.hook("createRuntime", "/bin/true")
    assert runtime.says(bundle, "echo here") == "here"


def assert_over(runtime: Runtime, id: str) -> None:
    """The container is destroyed, or at least stopped."""
    result = runtime("state", id)
    assert result.exit_code != 0 or result.json["status"] == "stopped"
