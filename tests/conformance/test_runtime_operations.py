"""runtime.md, "Operations": state, create, start, kill, delete, and the errors that each of them must give."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from world.bundle import Bundle
from world.rule import rule
from world.runtime import Container, Runtime, new_id

WAITING = "echo running; exec sleep 1000"


@pytest.fixture
def created(runtime: Runtime, bundle: Bundle) -> Container:
    """A container that waits for its start."""
    bundle.sh(WAITING)
    return runtime.create(bundle)


@pytest.fixture
def running(created: Container) -> Container:
    created.start()
    return created


@pytest.fixture
def stopped(running: Container) -> Container:
    running.stop()
    return running


# --- query state ------------------------------------------------------------------------------------------------------


@rule("runtime.md", "Query State", "MUST", "`state` without the id of a container is an error.")
@rule("runtime.md", "Start", "MUST", "`start` without the id of a container is an error.")
@rule("runtime.md", "Kill", "MUST", "`kill` without the id of a container is an error.")
@rule("runtime.md", "Delete", "MUST", "`delete` without the id of a container is an error.")
@rule("runtime.md", "Create", "MUST", "`create` without the id of a container is an error.")
@pytest.mark.parametrize("command", ["state", "start", "kill", "delete", "create"])
def test_no_operation_goes_without_an_id(runtime: Runtime, bundle: Bundle, command: str):
    bundle.write()
    result = runtime(command, cwd=bundle.path)
    assert result.exit_code != 0
    assert result.stderr != ""


@rule("runtime.md", "Query State", "MUST", "`state` of a container that does not exist is an error.")
@rule("runtime.md", "Start", "MUST", "`start` of a container that does not exist is an error.")
@rule("runtime.md", "Kill", "MUST", "`kill` of a container that does not exist is an error.")
@rule("runtime.md", "Delete", "MUST", "`delete` of a container that does not exist is an error.")
@pytest.mark.parametrize("command", ["state", "start", "kill", "delete", "exec", "ps", "pause", "resume", "update"])
def test_no_operation_finds_a_container_that_does_not_exist(runtime: Runtime, command: str):
    words = {"kill": ("KILL",), "exec": ("true",)}.get(command, ())
    result = runtime(command, new_id(), *words)
    assert result.exit_code != 0
    assert result.stderr != ""
    assert result.stdout == ""


# --- create -----------------------------------------------------------------------------------------------------------


@rule("runtime.md", "Create", "MUST", "A bundle that does not exist, or has no `config.json`, is an error.")
def test_create_wants_a_bundle(runtime: Runtime, place: Path, runtime_account):
    empty = place / "empty"
    empty.mkdir()
    for path in (place / "nothing", empty):
        result = runtime("create", "--bundle", path, new_id())
        assert result.exit_code != 0
        assert result.stderr != ""
    assert runtime("list", "-q").lines == []


@rule("runtime.md", "Create", "MUST", "An id that is in use is an error, and no new container is made.")
def test_create_refuses_an_id_that_is_in_use(runtime: Runtime, created: Container, bundles: Callable[..., Bundle]):
    before = created.state
    other = bundles("another")
    other.write()
    result = runtime("create", "--bundle", other.path, created.id)
    assert result.exit_code != 0
    assert result.stderr != ""
    assert created.state == before


@rule("runtime.md", "Create", "MUST", "An id that is in use stays so while the container is running or stopped.")
def test_an_id_is_in_use_until_delete(runtime: Runtime, stopped: Container, bundles: Callable[..., Bundle]):
    other = bundles("another")
    other.write()
    assert runtime("create", "--bundle", other.path, stopped.id).exit_code != 0
    assert stopped.status == "stopped"


@rule("runtime.md", "Create", "MUST", "An id that is not valid is an error, and no new container is made.")
@pytest.mark.parametrize(
    "bad",
    ["", ".", "..", "a/b", "/a", "../a", "a b", ".a", "a\n", "a:b", "ä", "a%2f", "a*", "x" * 10_000],
    ids=lambda bad: repr(bad)[:12],
)
def test_create_refuses_a_malformed_id(runtime: Runtime, bundle: Bundle, bad: str):
    before = set(os.listdir(bundle.path.parent))
    box = runtime.create(bundle, "--", id=bad, check=False)
    runtime.containers.clear()
    try:
        assert box.created.exit_code != 0
        assert runtime("list", "-q").lines == []
        assert set(os.listdir(bundle.path.parent)) - before <= {"state"}
    finally:
        if box.created.exit_code == 0:
            runtime("delete", "--force", "--", bad)


@rule("command line", "Ids", "common", "Ids are letters, digits, `_`, `+`, `-` and, not at the beginning, `.`.")
@pytest.mark.parametrize("kind", ["A.b_c+d-9", "_under", "+plus", "1"])
def test_create_takes_every_wellformed_id(runtime: Runtime, bundle: Bundle, kind: str):
    id = f"{kind}-{new_id()}" if kind != "1" else f"1{new_id()}"
    box = runtime.create(bundle, id=id)
    assert box.state["id"] == id
    assert runtime("list", "-q").lines == [id]


@rule("command line", "Ids", "common", "An id may begin with `-` after `--`.")
def test_an_id_may_begin_with_a_dash(runtime: Runtime, bundle: Bundle):
    bundle.write()
    id = f"-{new_id()}"
    result = runtime("run", "--bundle", bundle.path, "--", id)
    assert result.exit_code == 0, str(result)


@rule("runtime.md", "Create", "MUST", "`create` makes the container, whose status then is `created`.")
@rule("runtime.md", "Create", "MUST", "`create` makes all resources of the container: namespaces, mounts, cgroup.")
def test_create_makes_the_container(created: Container):
    state = created.state
    assert state["status"] == "created"
    pid = next(line for line in created.proc("status").splitlines() if line.startswith("NSpid:")).split()
    assert pid[1:] == [str(state["pid"]), "1"]
    if os.getuid() == 0:  # a process that waits for its start may be closed to others
        assert "/dev/shm" in created.proc("mountinfo")


@rule("runtime.md", "Create", "MUST", "The user's program does not run before `start`.")
def test_create_does_not_run_the_program(created: Container):
    assert created.output == ""
    created.start()
    created.read_until("running")


@rule("runtime.md", "Create", "MUST", "Changes of `config.json` after `create` have no effect.")
def test_changes_after_create_have_no_effect(runtime: Runtime, bundle: Bundle):
    bundle.sh("echo the first; hostname")
    bundle.config["hostname"] = "first"
    box = runtime.create(bundle)
    bundle.sh("echo the second; hostname")
    bundle.config["hostname"] = "second"
    bundle.config["hooks"] = {"poststop": [{"path": "/nonexistent"}]}
    bundle.write()
    pid = box.pid
    box.start()
    box.wait(pid)
    assert box.output == "the first\nfirst\n"
    assert box.delete().exit_code == 0


@rule("runtime.md", "Create", "MUST", "`config.json` may even go away after `create`.")
def test_the_configuration_is_needed_by_create_only(runtime: Runtime, bundle: Bundle):
    bundle.sh("echo here")
    box = runtime.create(bundle)
    (bundle.path / "config.json").unlink()
    pid = box.pid
    box.start()
    box.wait(pid)
    assert box.output == "here\n"
    assert box.status == "stopped"


# --- start ------------------------------------------------------------------------------------------------------------


@rule("runtime.md", "Start", "MUST", "`start` runs the program of `process`; the status then is `running`.")
def test_start_runs_the_program(created: Container):
    created.start()
    created.read_until("running")
    assert created.status == "running"


@rule("runtime.md", "Start", "MUST", "`start` of a started container is an error without effect on it.")
def test_start_works_only_once(running: Container):
    running.read_until("running")
    before = running.state
    again = running.start(check=False)
    assert again.exit_code != 0
    assert again.stderr != ""
    assert running.state == before
    assert running.output == "running\n"


@rule("runtime.md", "Start", "MUST", "`start` of a stopped container is an error.")
def test_start_refuses_a_stopped_container(stopped: Container):
    again = stopped.start(check=False)
    assert again.exit_code != 0
    assert stopped.status == "stopped"
    assert stopped.output in ("", "running\n")


@rule("runtime.md", "Start", "MUST", "Without `process` the `start` is an error.")
def test_start_needs_a_process(runtime: Runtime, bundle: Bundle):
    del bundle.config["process"]
    box = runtime.create(bundle, check=False)
    if box.created.exit_code == 0:  # to be refused at once is allowed too
        assert box.start(check=False).exit_code != 0
    assert box.output == ""


# --- kill -------------------------------------------------------------------------------------------------------------


@rule("runtime.md", "Kill", "MUST", "`kill` sends the given signal to the container's process.")
@pytest.mark.parametrize("name", ["USR1", "SIGUSR1", "10"])
def test_kill_sends_the_signal(runtime: Runtime, bundle: Bundle, name: str):
    bundle.sh("trap 'echo got it; exit 0' USR1; echo ready; while :; do sleep 0.02; done")
    box = runtime.start_new(bundle)
    box.read_until("ready")
    box.kill(name)
    box.read_until("got it")


@rule("command line", "kill", "common", "Without a signal `kill` sends SIGTERM.")
def test_kill_sends_term_by_itself(runtime: Runtime, bundle: Bundle):
    bundle.sh("trap 'echo terminated; exit 0' TERM; echo ready; while :; do sleep 0.02; done")
    box = runtime.start_new(bundle)
    box.read_until("ready")
    box.kill()
    box.read_until("terminated")


@rule("runtime.md", "Kill", "MUST", "`kill` of a container that is neither created nor running is an error.")
def test_kill_refuses_a_stopped_container(stopped: Container):
    result = stopped.kill("KILL", check=False)
    assert result.exit_code != 0
    assert result.stderr != ""
    assert stopped.status == "stopped"


@rule("runtime.md", "Kill", "MUST", "A container that is created can be killed; it is `stopped` then.")
def test_kill_ends_a_created_container(created: Container):
    created.stop()
    assert created.status == "stopped"
    assert created.output == ""


@rule("runtime.md", "Kill", "MUST", "A container whose process has ended for whatever reason is `stopped`.")
@pytest.mark.parametrize("script", ["exit 0", "exit 3", "exec sleep 1000"])
def test_a_process_that_has_ended_is_stopped(runtime: Runtime, bundle: Bundle, script: str):
    bundle.sh(script)
    box = runtime.create(bundle)
    pid = box.pid
    box.start()
    if "sleep" in script:
        os.kill(pid, signal.SIGKILL)
    box.wait(pid)
    assert box.status == "stopped"


@rule("command line", "kill", "common", "A signal that does not exist is refused.")
@pytest.mark.parametrize("name", ["SIGNOTHING", "0x", "-1", "999"])
def test_kill_refuses_what_is_no_signal(running: Container, name: str):
    result = running.runtime("kill", "--", running.id, name)
    assert result.exit_code != 0
    assert running.status == "running"


# --- delete -----------------------------------------------------------------------------------------------------------


@rule("runtime.md", "Delete", "MUST", "`delete` of a container whose process is running is an error.")
def test_delete_refuses_a_running_container(running: Container):
    running.read_until("running")
    result = running.delete(check=False)
    assert result.exit_code != 0
    assert result.stderr != ""
    assert running.status == "running"


@rule("runtime.md", "Delete", "MUST", "`delete` of a stopped container removes what `create` made.")
def test_delete_removes_the_container(stopped: Container):
    stopped.delete()
    assert stopped.runtime("state", stopped.id).exit_code != 0
    assert stopped.runtime("list", "-q").lines == []
    assert not (stopped.runtime.root / stopped.id).exists()


@rule("runtime.md", "Delete", "MUST", "What `create` did not make is not deleted: bundle, root file system, volumes.")
def test_delete_removes_nothing_else(runtime: Runtime, bundle: Bundle, place: Path):
    volume = place / "volume"
    volume.mkdir()
    (volume / "data").write_text("mine")
    bundle.mount("/mnt", "none", volume, ["bind"])
    bundle.sh("exit 0")
    box = runtime.create(bundle)
    pid = box.pid
    box.start()
    box.wait(pid)
    before = sorted(path for path, _, _ in os.walk(bundle.path))
    box.delete()
    assert sorted(path for path, _, _ in os.walk(bundle.path)) == before
    assert (volume / "data").read_text() == "mine"
    assert json.loads((bundle.path / "config.json").read_text()) == bundle.config


@rule("runtime.md", "Delete", "MAY", "After `delete` the id can be used again.")
def test_an_id_can_be_used_again(runtime: Runtime, bundle: Bundle):
    bundle.sh("echo once more")
    id = new_id()
    for _ in range(2):
        assert runtime.run(bundle, id=id).stdout == "once more\n"
