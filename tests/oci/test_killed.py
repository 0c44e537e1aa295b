"""The runtime, or one of its children, is killed at any step: `delete --force` removes what is left (see `clean` too).

JUBAKO_TEST_DEPTH=10 tries ten times as many moments.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from oci.conftest import call, left
from world.bundle import Bundle
from world.faults import faults_of, never_of
from world.kills import Kills, depth
from world.runtime import Container, Runtime, new_id, wait_for_end

FOLLOWED = pytest.mark.parametrize("followed", [False, True], ids=["the-runtime", "each-process"])
STATES = ("creating", "created", "running", "stopped")


def orphans() -> set[str]:
    """The children of the reaper: pytest itself, pauses of bases, and what has lost its parent."""
    reaper = os.environ.get("JUBAKO_TEST_REAPER", str(os.getpid()))
    with suppress(FileNotFoundError), open(f"/proc/{reaper}/task/{reaper}/children") as file:
        return {pid for pid in file.read().split() if not _is_zombie(pid)}
    return set()


def _is_zombie(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def nothing_stays(runtime: Runtime) -> Callable[[str, str], None]:
    """`nothing_stays(ID, WHEN)`: after a forced delete no file and no process is left."""
    before = orphans()

    def check(identifier: str, when: str) -> None:
        result = call(runtime, "delete", "--force", identifier, timeout=20)
        assert never_of(result) == [], (when, result)
        assert result.exit_code == 0, (when, result)
        assert left(runtime) == [], when
        until = time.monotonic() + 3
        while orphans() - before:
            assert time.monotonic() < until, (when, [_command(pid) for pid in orphans() - before])
            time.sleep(0.01)

    return check


def _command(pid: str) -> str:
    with suppress(OSError), open(f"/proc/{pid}/cmdline") as file:
        return f"{pid}: {file.read()}"
    return pid


@pytest.fixture
def hooked(bundle: Bundle) -> Bundle:
    """A bundle with a bit of everything that the steps of a container's making do."""
    bundle.sh("exec sleep 1000")
    for point in ("prestart", "createRuntime", "createContainer", "poststart", "poststop"):
        bundle.hook(point, "/bin/true")
    bundle.write()
    return bundle


def state_of(runtime: Runtime, identifier: str) -> str:
    """What `state` says, or that it says that there is none, or that its state is lost."""
    result = call(runtime, "state", identifier)
    assert never_of(result) == [], result
    if result.exit_code:
        assert faults_of(result) == [], result
        return ""
    status: str = result.json["status"]
    assert status in STATES
    return status


# --- one command after the other --------------------------------------------------------------------------------------


@FOLLOWED
@pytest.mark.parametrize("command", ["create", "run"])
def test_create_and_run_killed_at_any_step(
    command: str, followed: bool, runtime: Runtime, hooked: Bundle, nothing_stays: Callable[[str, str], None]
) -> None:
    kills = Kills(runtime, followed)
    words = ("create",) if command == "create" else ("run", "--detach")
    name = new_id()
    total = kills.count(*words, "--bundle", hooked.path, name)
    nothing_stays(name, "not killed")
    for when in kills.moments(total, 16 if command == "create" else 8):
        name = new_id()
        result = kills.at(when, *words, "--bundle", hooked.path, name)
        assert never_of(result) == [] or result.exit_code == -9, (when, result)
        state_of(runtime, name)
        nothing_stays(name, f"{command} killed at {when} of {total}")


@FOLLOWED
def test_start_killed_at_any_step(
    followed: bool, runtime: Runtime, hooked: Bundle, nothing_stays: Callable[[str, str], None]
) -> None:
    kills = Kills(runtime, followed)
    box = runtime.create(hooked)
    total = kills.count("start", box.id)
    nothing_stays(box.id, "not killed")
    for when in kills.moments(total, 5):
        box = runtime.create(hooked)
        kills.at(when, "start", box.id)
        assert state_of(runtime, box.id) in ("created", "running")
        if state_of(runtime, box.id) == "created":
            assert box.start().exit_code == 0, "it can be started again"
        assert box.status == "running"
        nothing_stays(box.id, f"start killed at {when} of {total}")


@FOLLOWED
def test_exec_killed_at_any_step(
    followed: bool, runtime: Runtime, hooked: Bundle, nothing_stays: Callable[[str, str], None]
) -> None:
    kills = Kills(runtime, followed)
    box = runtime.start_new(hooked)
    words = ("exec", "--detach", box.id, "sleep", "1000")
    total = kills.count(*words)
    for when in kills.moments(total, 10):
        kills.at(when, *words)
        assert box.exec("echo", "well").stdout == "well\n", f"after exec killed at {when} of {total}"
    nothing_stays(box.id, "exec killed")


@FOLLOWED
@pytest.mark.parametrize("force", [False, True], ids=["stopped", "forced"])
def test_delete_killed_at_any_step(
    force: bool, followed: bool, runtime: Runtime, hooked: Bundle, nothing_stays: Callable[[str, str], None]
) -> None:
    kills = Kills(runtime, followed)
    flags = ("--force",) if force else ()

    def make() -> Container:
        box = runtime.start_new(hooked)
        if not force:
            box.stop()
        return box

    total = kills.count("delete", *flags, make().id)
    for when in kills.moments(total, 5):
        box = make()
        kills.at(when, "delete", *flags, box.id)
        state_of(runtime, box.id)
        nothing_stays(box.id, f"delete killed at {when} of {total}")


def test_create_killed_at_any_moment(
    runtime: Runtime, hooked: Bundle, nothing_stays: Callable[[str, str], None]
) -> None:
    for number in range(12 * depth()):
        name = new_id()
        running = runtime.start("create", "--bundle", hooked.path, name)
        time.sleep(number / depth() * 0.008)
        running.kill()
        running.wait(10)
        nothing_stays(name, f"killed after {number * 8} ms")


def test_an_id_can_be_used_again_after_a_killed_create(runtime: Runtime, hooked: Bundle) -> None:
    name = new_id()
    running = runtime.start("create", "--bundle", hooked.path, name)
    while not (runtime.root / name / "state.json").exists():
        assert running.poll() is None
        time.sleep(0.001)
    running.kill()
    running.wait(10)
    again = call(runtime, "create", "--bundle", hooked.path, name)
    assert faults_of(again, "already exists", "delete it first") == []
    assert call(runtime, "delete", "--force", name).exit_code == 0
    box = runtime.start_new(hooked, id=name)
    assert box.status == "running"


# --- the container's own process --------------------------------------------------------------------------------------


@pytest.fixture
def killed(runtime: Runtime, hooked: Bundle) -> Container:
    """A container whose first process is killed between create and start."""
    box = runtime.create(hooked)
    pid = box.pid
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    return box


def test_a_first_process_killed_before_the_start_is_a_stopped_container(killed: Container) -> None:
    assert killed.status == "stopped"
    assert killed.pid == 0
    for command, *words in (("start",), ("kill", "TERM"), ("exec", "true"), ("pause",)):
        assert faults_of(call(killed.runtime, command, killed.id, *words)) == []
    killed.delete()
    assert left(killed.runtime) == []


def test_a_first_process_that_is_stopped_does_not_hang_a_forced_delete(runtime: Runtime, hooked: Bundle) -> None:
    for start in (False, True):
        box = runtime.start_new(hooked) if start else runtime.create(hooked)
        os.kill(box.pid, signal.SIGSTOP)
        assert state_of(runtime, box.id) in ("created", "running")
        assert call(runtime, "delete", "--force", box.id, timeout=20).exit_code == 0
        assert left(runtime) == []


def test_a_first_process_killed_while_start_waits_for_it(
    runtime: Runtime, bundle: Bundle, nothing_stays: Callable[[str, str], None]
) -> None:
    bundle.hook("startContainer", "/bin/sh", "-c", "echo hook >&2; sleep 1000")
    box = runtime.create(bundle)
    starting = runtime.start("start", box.id)
    pid = box.pid
    while "hook" not in box.errors:
        assert starting.poll() is None
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    starting.wait(10)
    assert box.status == "stopped"
    nothing_stays(box.id, "init killed")


def test_what_the_program_left_beside_it_ends_without_a_pid_namespace_too(
    runtime: Runtime, bundle: Bundle, nothing_stays: Callable[[str, str], None]
) -> None:
    bundle.no_namespace("pid")
    bundle.sh("(sleep 1000 &) ; sleep 1001 & echo ready; exec sleep 1002")
    for flags in ((), ("--cgroup-manager", "disabled")):
        runtime.flags = flags
        box = runtime.start_new(bundle)
        box.read_until("ready")
        nothing_stays(box.id, "a host's PID namespace")
