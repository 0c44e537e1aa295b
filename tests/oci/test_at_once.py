"""Commands of one container called at once: one of them does it, each of the others says why it does not."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from oci.conftest import call, left
from world.bundle import Bundle
from world.command import Result
from world.faults import faults_of, never_of
from world.runtime import Runtime, new_id


def at_once(runtime: Runtime, place: Path, *calls: tuple[str, ...]) -> list[Result]:
    """Start all calls before any is waited for; their results in the same order."""
    running = []
    for number, words in enumerate(calls):
        with open(place / f"{number}.said", "wb") as said:
            argv = runtime.argv(*words)
            running.append(
                subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
                    env=runtime.environment(), cwd=runtime.cwd,
                )
            )  # fmt: skip
    codes = [each.wait(60) for each in running]
    results = []
    for number, (process, code) in enumerate(zip(running, codes, strict=True)):
        text = (place / f"{number}.said").read_text(errors="backslashreplace")
        results.append(Result(tuple(process.args), "", text, code))  # type: ignore[arg-type]
        assert never_of(results[-1]) == [], results[-1]
    return results


def only_one(results: list[Result], *reasons: str) -> None:
    """One has done it; each of the others says one of `reasons`."""
    assert Counter(result.exit_code for result in results)[0] == 1, results
    for result in results:
        if result.exit_code:
            assert faults_of(result) == [], result
            assert any(reason in result.stderr for reason in reasons), result


@pytest.fixture
def waiting(bundle: Bundle) -> Bundle:
    bundle.sh("exec sleep 1000")
    bundle.write()
    return bundle


def test_creates_of_one_id_at_once_make_one_container(runtime: Runtime, waiting: Bundle, place: Path) -> None:
    name = new_id()
    words = ("create", "--bundle", str(waiting.path), name)
    only_one(at_once(runtime, place, *[words] * 6), "already exists")
    assert call(runtime, "start", name).exit_code == 0
    assert runtime("state", name, check=True).json["status"] == "running"
    assert call(runtime, "delete", "--force", name).exit_code == 0


def test_runs_of_one_bundle_at_once_are_containers_of_their_own(runtime: Runtime, waiting: Bundle, place: Path) -> None:
    names = [new_id() for _ in range(6)]
    calls = [("run", "--detach", "--bundle", str(waiting.path), name) for name in names]
    assert [result.exit_code for result in at_once(runtime, place, *calls)] == [0] * 6
    assert sorted(runtime("list", "--quiet", check=True).lines) == sorted(names)
    deleted = at_once(runtime, place, *(("delete", "--force", name) for name in names))
    assert [result.exit_code for result in deleted] == [0] * 6
    assert left(runtime) == []


def test_starts_at_once_start_it_once(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    bundle.sh("echo started; exec sleep 1000")
    for hooks in (0, 1):
        if hooks:
            bundle.hook("startContainer", "/bin/sh", "-c", "sleep 0.3")
        box = runtime.create(bundle)
        only_one(at_once(runtime, place, *[("start", box.id)] * 6), "cannot start a container that is running")
        box.read_until("started")
        assert box.output == "started\n"
        box.delete("--force")


@pytest.mark.parametrize("force", [False, True], ids=["stopped", "forced"])
def test_deletes_at_once_delete_it_once(force: bool, runtime: Runtime, waiting: Bundle, place: Path) -> None:
    waiting.hook("poststop", "/bin/sh", "-c", f"echo deleted >>{place}/deleted")
    box = runtime.start_new(waiting)
    if force:
        results = at_once(runtime, place, *[("delete", "--force", box.id)] * 6)
        assert [result.exit_code for result in results] == [0] * 6, results
        assert [result.stderr for result in results] == [""] * 6
    else:
        box.stop()
        only_one(at_once(runtime, place, *[("delete", box.id)] * 6), "does not exist")
    assert (place / "deleted").read_text() == "deleted\n"
    assert left(runtime) == []


def test_kills_at_once_are_no_harm(runtime: Runtime, waiting: Bundle, place: Path) -> None:
    box = runtime.start_new(waiting)
    for result in at_once(runtime, place, *[("kill", box.id, "KILL")] * 6):
        assert result.exit_code == 0 or faults_of(result, "not running") == []
    assert call(runtime, "delete", "--force", box.id).exit_code == 0


def test_everything_at_once(runtime: Runtime, waiting: Bundle, place: Path, bundles: Callable[..., Bundle]) -> None:
    """Whatever comes first: each command does its work or says why not, and the last one removes all."""
    for _ in range(4):
        name = new_id()
        create = ("create", "--bundle", str(waiting.path), name)
        results = at_once(
            runtime, place,
            create, ("start", name), ("exec", name, "true"), ("delete", "--force", name), create, ("start", name),
            ("kill", name, "KILL"), ("delete", name), ("pause", name), ("delete", "--force", name), create,
        )  # fmt: skip
        for result in results:
            killed = "exec" in result.argv and result.exit_code == 128 + signal.SIGKILL  # the program, by a delete
            assert result.exit_code == 0 or killed or faults_of(result) == [], result
        assert call(runtime, "delete", "--force", name).exit_code == 0
        assert left(runtime) == []


def test_containers_are_made_and_deleted_at_once(runtime: Runtime, waiting: Bundle, place: Path) -> None:
    """An id that is free again at every moment: nobody takes the directory that another one has made for its own."""
    for _ in range(6):
        name = new_id()
        create = ("create", "--bundle", str(waiting.path), name)
        delete = ("delete", "--force", name)
        for result in at_once(runtime, place, create, delete, create, delete, create, delete, create, delete):
            assert result.exit_code == 0 or faults_of(result) == [], result
        assert call(runtime, "delete", "--force", name).exit_code == 0
        assert left(runtime) == []
