"""Hooks that are missing, cannot be executed, fail or hang: the container is not made, its processes and theirs end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oci.conftest import call, left
from world.bundle import Bundle
from world.faults import faults_of, never_of
from world.runtime import Runtime, new_id, wait_for_end

BEFORE = ("prestart", "createRuntime", "createContainer")
OUTSIDE = ("prestart", "createRuntime")
LATER = ("poststart", "poststop")


@pytest.mark.parametrize("point", BEFORE)
def test_a_hook_that_cannot_be_run(point: str, bundle: Bundle, refused: Callable[..., None]) -> None:
    closed = bundle.path / "closed"
    closed.write_text("#!/bin/sh\n")
    noise = bundle.path / "noise"
    noise.write_bytes(bytes(range(256)))
    noise.chmod(0o755)
    orphan = bundle.path / "orphan"
    orphan.write_text("#!/no/such/interpreter\n")
    orphan.chmod(0o755)
    (bundle.path / "loop").symlink_to("loop")
    for path, said in (
        ("/no/such/hook", "ENOENT"),
        (closed, "EACCES"),
        (bundle.path, "EACCES"),
        (noise, "ENOEXEC"),
        (orphan, "ENOENT"),
        (bundle.path / "loop", "ELOOP"),
        ("/" + "n" * 5000, "ENAMETOOLONG"),
    ):
        refused(bundle.config | {"hooks": {point: [{"path": os.fspath(path)}]}}, f"run the {point} hook", said)
    long = {"path": "/bin/true", "args": ["true", "x" * 1_000_000]}
    refused(bundle.config | {"hooks": {point: [long]}}, f"run the {point} hook", "E2BIG")


@pytest.mark.parametrize("point", BEFORE)
def test_a_hook_that_fails_or_is_killed(point: str, bundle: Bundle, refused: Callable[..., None]) -> None:
    for script, said in (("exit 3", "exit code 3"), ("kill -9 $$", "signal 9"), ("exec 1>&-; exit 255", "code 255")):
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}
        refused(bundle.config | {"hooks": {point: [hook]}}, f"run the {point} hook", said)


@pytest.mark.parametrize("point", BEFORE)
def test_a_hook_that_hangs_is_ended_at_its_timeout_with_its_children(
    point: str, bundle: Bundle, refused: Callable[..., None]
) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "sleep 1000 & sleep 1000"], "timeout": 1}
    begin = time.monotonic()
    refused(bundle.config | {"hooks": {point: [hook]}}, f"run the {point} hook", "timeout of 1 s", timeout=20)
    assert 1 <= time.monotonic() - begin < 5


def test_a_start_container_hook_that_hangs_fails_the_start(runtime: Runtime, bundle: Bundle) -> None:
    bundle.hook("startContainer", "/bin/sh", "-c", "sleep 1000 & sleep 1000", timeout=1)
    box = runtime.create(bundle)
    result = call(runtime, "start", box.id, timeout=20)
    assert faults_of(result, "startContainer hook", "timeout of 1 s") == []
    wait_for_end(box.pid or 1 << 21, 5)
    assert box.status == "stopped"
    box.delete()


BAD = (("/no/such/hook",), ("/bin/sh", "-c", "exit 3"), ("/bin/sh", "-c", "sleep 1000 & sleep 1000"))
TOLD = ("ENOENT", "exit code 3", "timeout of 1 s")


def test_poststop_hooks_that_are_bad_are_told_and_change_nothing(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh("exec sleep 1000")
    for path, *args in BAD:
        bundle.hook("poststop", path, *args, timeout=1)
    box = runtime.start_new(bundle)
    deleted = call(runtime, "delete", "--force", box.id, timeout=20)
    assert never_of(deleted) == []
    assert deleted.exit_code == 0, deleted
    assert [said for said in TOLD if said not in deleted.stderr] == []
    assert deleted.stderr.count("warning") == 3
    assert left(runtime) == []


@pytest.mark.parametrize("number", range(3), ids=["missing", "failing", "hanging"])
def test_a_poststart_hook_that_is_bad_is_told(number: int, runtime: Runtime, bundle: Bundle) -> None:
    path, *args = BAD[number]
    bundle.sh("exec sleep 1000")
    bundle.hook("poststart", path, *args, timeout=1)
    box = runtime.create(bundle)
    started = call(runtime, "start", box.id, timeout=20)
    assert never_of(started) == []
    assert "run the poststart hook" in started.stderr
    assert TOLD[number] in started.stderr
    assert call(runtime, "delete", "--force", box.id, timeout=20).exit_code == 0
    assert left(runtime) == []


def test_the_longest_timeout_is_no_error(runtime: Runtime, bundle: Bundle) -> None:
    bundle.args("/bin/true")
    for point in (*BEFORE, "startContainer", *LATER):
        bundle.hook(point, "/bin/true", timeout=2**31 - 1)
    assert runtime.run(bundle).stderr == ""


@pytest.mark.parametrize("point", [*BEFORE, "poststart"])
def test_a_forced_delete_does_not_wait_for_a_hook_without_end(
    point: str, runtime: Runtime, bundle: Bundle, place: Path
) -> None:
    mark = place / "mark"
    bundle.sh("exec sleep 1000")
    bundle.hook(point, "/bin/sh", "-c", f"echo $$ >{mark}; sleep 1000 & sleep 1000")
    bundle.write()
    name = new_id()
    running = runtime.start("run", "--detach", "--bundle", bundle.path, name)
    for _ in range(1000):
        if mark.exists() and mark.read_text().endswith("\n"):
            break
        time.sleep(0.01)
    result = call(runtime, "delete", "--force", name, timeout=25)
    assert never_of(result) == []
    assert result.exit_code == 0, result
    assert running.wait(10) in (1, -signal.SIGKILL)
    assert left(runtime) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_hook_ends_with_the_runtime(how: signal.Signals, runtime: Runtime, bundle: Bundle, place: Path) -> None:
    mark = place / "mark"
    bundle.hook("createRuntime", "/bin/sh", "-c", f"echo >{mark}; exec sleep 1000")
    bundle.write()
    name = new_id()
    running = runtime.start("create", "--bundle", bundle.path, name)
    for _ in range(1000):
        if mark.exists():
            break
        time.sleep(0.01)
    running.send_signal(how)
    assert running.wait(10) != 0
    assert call(runtime, "delete", "--force", name).exit_code == 0
    assert left(runtime) == []
