"""newuidmap and newgidmap, played by small scripts, and maps written directly."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from jubako.errors import JubakoError
from jubako.ids.idmap import IdMap
from jubako.ids.newidmap import (
    begin_id_maps,
    explain_failure,
    find_obstacle,
    find_program,
    join_id_maps,
    write_id_maps,
)
from jubako.linux import clone

UIDS = IdMap.of((0, 1000, 1), (1, 100000, 65536))
GIDS = IdMap.of((0, 1001, 1))


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of programs that goes first in PATH; each helper notes its arguments in NAME.args."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("newuidmap", "newgidmap"):
        say(tmp_path, name, "exit 0")
    return tmp_path


def say(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.write_text(f'#!/bin/sh\necho "$@" > {path}.args\n{text}\n')
    path.chmod(0o755)


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_both_helpers_get_the_process_and_its_ranges(helpers: Path) -> None:
    before = open_descriptors()
    join_id_maps(begin_id_maps(4711, UIDS, GIDS))
    assert (helpers / "newuidmap.args").read_text() == "4711 0 1000 1 1 100000 65536\n"
    assert (helpers / "newgidmap.args").read_text() == "4711 0 1001 1\n"
    assert open_descriptors() == before


def test_the_helpers_run_side_by_side(helpers: Path) -> None:
    fifo = helpers / "fifo"
    os.mkfifo(fifo)
    # Each end of a FIFO waits for the other: one after the other, they would wait forever.
    say(helpers, "newuidmap", f"read line < {fifo}")
    say(helpers, "newgidmap", f"echo there > {fifo}")
    join_id_maps(begin_id_maps(1, UIDS, GIDS))


def test_a_failure_carries_the_helpers_words_the_ranges_and_a_hint(helpers: Path) -> None:
    say(helpers, "newuidmap", 'echo "newuidmap: uid range [1-65537) -> [100000-165536) not allowed" >&2; exit 1')
    before = open_descriptors()
    with pytest.raises(JubakoError) as caught:
        join_id_maps(begin_id_maps(4711, UIDS, GIDS))
    error = caught.value
    assert error.operation == "write uid map of process"
    assert error.subject == f"4711 (0:1000:1, 1:100000:65536) with {helpers}/newuidmap"
    assert error.reason == "uid range [1-65537) -> [100000-165536) not allowed"
    assert "usermod --add-subuids" in error.hint
    assert open_descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_silent_failure_tells_how_the_helper_ended(helpers: Path) -> None:
    say(helpers, "newgidmap", "kill -9 $$")
    with pytest.raises(JubakoError, match=r"write gid map .* signal 9 and said nothing"):
        join_id_maps(begin_id_maps(4711, UIDS, GIDS))


def test_a_missing_helper_names_its_package_and_leaves_no_child(helpers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "jubako.ids.newidmap.find_program", lambda name: str(helpers / name) if name == "newuidmap" else ""
    )
    before = open_descriptors()
    with pytest.raises(JubakoError, match="newgidmap is not installed") as caught:
        begin_id_maps(4711, UIDS, GIDS)
    assert "uidmap" in caught.value.hint
    assert open_descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_callers_that_ignore_their_children_are_served_too(helpers: Path) -> None:
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        join_id_maps(begin_id_maps(4711, UIDS, GIDS))
        say(helpers, "newgidmap", 'echo "newgidmap: write to gid_map failed: Operation not permitted"; exit 1')
        with pytest.raises(JubakoError, match="write to gid_map failed"):
            join_id_maps(begin_id_maps(4711, UIDS, GIDS))
    finally:
        signal.signal(signal.SIGCHLD, previous)


def test_a_helper_without_set_uid_bit_or_capability_is_recognised(helpers: Path) -> None:
    program = str(helpers / "newuidmap")
    assert "neither set-uid root nor has a file capability" in find_obstacle(program)[0]
    hint = explain_failure(program, "write to uid_map failed: Operation not permitted")
    assert f"chmod u+s {program}" in hint


def test_no_new_privs_is_recognised(helpers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jubako.ids.newidmap.no_new_privs", lambda: True)
    hint = explain_failure(str(helpers / "newuidmap"), "write to uid_map failed: Operation not permitted")
    assert "NoNewPrivs" in hint
    assert "start jubako outside" in hint


def test_a_powerful_helper_that_fails_points_at_the_surrounding_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jubako.ids.newidmap.find_obstacle", lambda program: ("", ""))
    assert "/proc/self/gid_map" in explain_failure("/usr/bin/newgidmap", "write failed: Operation not permitted")
    assert "newgrp" in explain_failure("/usr/bin/newuidmap", "Target process 5 is owned by a different user: uid:0")


def test_programs_are_not_looked_for_in_relative_directories(helpers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say(helpers, "newuidmap-of-nobody", "exit 0")
    monkeypatch.chdir(helpers)
    monkeypatch.setenv("PATH", ".::")
    assert find_program("newuidmap-of-nobody") == ""
    monkeypatch.setenv("PATH", f"{helpers}/")
    assert find_program("newuidmap-of-nobody") == f"{helpers}/newuidmap-of-nobody"


def test_setgroups_is_denied_before_the_maps_are_written(tmp_path: Path) -> None:
    for name in ("uid_map", "gid_map", "setgroups"):
        (tmp_path / name).touch()
    write_id_maps(str(tmp_path), UIDS, GIDS)
    assert (tmp_path / "setgroups").read_text() == ""
    write_id_maps(str(tmp_path), UIDS, GIDS, setgroups_deny=True)
    assert (tmp_path / "uid_map").read_text() == "0 1000 1\n1 100000 65536\n"
    assert (tmp_path / "gid_map").read_text() == "0 1001 1\n"
    assert (tmp_path / "setgroups").read_text() == "deny"


def test_a_process_that_is_gone_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(JubakoError, match=r"write .*/uid_map \(0 1000 1, 1 100000 65536\): .*ENOENT"):
        write_id_maps(str(tmp_path), UIDS, GIDS)


def test_everybody_may_map_their_own_ids_and_only_once() -> None:
    ready, tell_ready = os.pipe()
    done, tell_done = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            clone.unshare(clone.CLONE_NEWUSER)
            os.write(tell_ready, b"y")
            os.close(tell_done)
            os.read(done, 1)
        except OSError:
            os.write(tell_ready, b"n")
        finally:
            os._exit(0)
    try:
        if os.read(ready, 1) == b"n":
            pytest.skip("this host has no unprivileged user namespaces")
        uids, gids = IdMap.of((0, os.geteuid(), 1)), IdMap.of((0, os.getegid(), 1))
        write_id_maps(child, uids, gids, setgroups_deny=True)
        assert IdMap.parse(Path(f"/proc/{child}/uid_map").read_text()) == uids
        assert Path(f"/proc/{child}/setgroups").read_text() == "deny\n"
        with pytest.raises(JubakoError, match="EPERM"):
            write_id_maps(child, uids, gids)
    finally:
        for fd in (ready, tell_ready, done, tell_done):
            os.close(fd)
        os.waitpid(child, 0)
