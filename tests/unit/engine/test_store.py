"""The containers on disk: names are reserved once, files are replaced whole, and dead supervisors are known."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jubako.engine import store
from jubako.engine.reserve import check_name, holder_of, link_name, list_names, release_name, reserve_name
from jubako.engine.store import (
    CREATED,
    CREATING,
    EXITED,
    PAUSED,
    RUNNING,
    Lock,
    State,
    find_container,
    list_containers,
    new_container,
    new_id,
    read_container,
    read_state,
    rename_container,
    write_document,
    write_state,
)
from jubako.errors import JubakoError, NotFoundError, UsageError
from jubako.linux.boot import boot_id
from jubako.linux.pidfd import start_time
from jubako.paths import Paths
from jubako.record import replace


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(f"{tmp_path}/data", f"{tmp_path}/run", f"{tmp_path}/cache")


Make = Callable[..., str]


@pytest.fixture
def make(paths: Paths) -> Make:
    """`make(NAME, **state)`: a container that is there, its id."""

    def make(name: str = "", identifier: str = "", document: dict[str, Any] | None = None, **state: Any) -> str:
        identifier = identifier or new_id()
        name, lock = new_container(paths, identifier, name)
        directory = store.container_directory(paths, identifier)
        write_document(f"{directory}/container.json", {"name": name, **(document or {})})
        write_state(directory, State(**{"status": CREATED, **state}))
        lock.release()
        return identifier

    return make


def me(**changes: Any) -> dict[str, Any]:
    """A state supervised by this very process."""
    alive = {"status": RUNNING, "monitor": os.getpid(), "monitor_start": start_time(os.getpid()), "boot": boot_id()}
    return {**alive, **changes}


# --- making and finding


def test_an_id_is_64_hexadecimal_digits_and_never_the_same() -> None:
    assert len({new_id() for _ in range(50)}) == 50
    assert all(len(new_id()) == 64 and int(new_id(), 16) >= 0 for _ in range(5))


def test_a_new_container_is_locked_and_says_who_makes_it(paths: Paths) -> None:
    name, lock = new_container(paths, "a" * 64, "web")
    directory = store.container_directory(paths, "a" * 64)
    assert name == "web"
    assert os.stat(paths.containers).st_mode & 0o066 == 0
    state = read_state(directory)
    assert state is not None
    assert (state.status, state.monitor, state.boot) == (CREATING, os.getpid(), boot_id())
    with pytest.raises(BlockingIOError), Lock(directory, wait=False):
        pass
    lock.release()
    with Lock(directory, wait=False):
        pass


def test_a_container_in_the_making_is_not_listed(paths: Paths, make: Make) -> None:
    _name, lock = new_container(paths, "a" * 64, "half")
    lock.release()
    done = make("done")
    assert [container.id for container in list_containers(paths)] == [done]
    assert sorted(store.list_ids(paths)) == sorted(["a" * 64, done])


def test_containers_are_listed_the_youngest_first(paths: Paths, make: Make) -> None:
    for age in (2, 3, 1):
        make(f"c{age}", created=age)
    assert [container.name for container in list_containers(paths)] == ["c3", "c2", "c1"]


def test_where_nothing_was_ever_made_nothing_is_listed(paths: Paths) -> None:
    assert list_containers(paths) == []
    assert list_names(paths) == []
    with pytest.raises(NotFoundError):
        find_container(paths, "x")


def test_a_container_is_found_by_name_by_id_and_by_the_beginning_of_it(paths: Paths, make: Make) -> None:
    make("web", "ab" + "0" * 62)
    make("ab", "cd" + "0" * 62)
    assert find_container(paths, "web").name == "web"
    assert find_container(paths, "ab" + "0" * 62).name == "web"
    assert find_container(paths, "cd").name == "ab"
    assert find_container(paths, "ab").name == "ab"  # a name goes before the beginning of an id
    assert find_container(paths, "ab0").name == "web"


@pytest.mark.parametrize("reference", ["none", "", ".", "..", "../containers", "f" * 64, "0", "web/"])
def test_what_is_no_container_is_not_found(paths: Paths, make: Make, reference: str) -> None:
    make("web", "ab" + "0" * 62)
    with pytest.raises(NotFoundError, match="no such container"):
        find_container(paths, reference)


def test_the_beginning_of_two_ids_is_refused(paths: Paths, make: Make) -> None:
    make("one", "ab1" + "0" * 61)
    make("two", "ab2" + "0" * 61)
    with pytest.raises(UsageError, match="2 ids begin so"):
        find_container(paths, "ab")
    assert find_container(paths, "ab2").name == "two"


def test_a_name_that_a_removed_container_left_finds_nothing(paths: Paths, make: Make) -> None:
    make("other")
    os.symlink("e" * 64, f"{paths.names}/ghost")
    with pytest.raises(NotFoundError):
        find_container(paths, "ghost")


# --- names


def test_a_name_that_is_taken_is_refused_and_nothing_of_the_second_container_stays(paths: Paths, make: Make) -> None:
    first = make("web")
    with pytest.raises(UsageError, match=f"the name belongs to container {first[:12]}"):
        new_container(paths, "b" * 64, "web")
    assert store.list_ids(paths) == [first]
    assert os.listdir(paths.containers) == [first]
    assert holder_of(paths, "web") == first


def test_a_name_whose_container_is_gone_is_taken_over(paths: Paths, make: Make) -> None:
    make("other")
    os.symlink("e" * 64, f"{paths.names}/web")
    second = make("web")
    assert holder_of(paths, "web") == second


@pytest.mark.parametrize("name", ["web", "a", "A.b-c_9", "9lives", "x" * 128])
def test_names_are_those_that_docker_takes(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "_a", "a/b", "a b", "é", "a\n", "..", "x" * 129, "a:b"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="name the container"):
        check_name(name)


def test_a_container_without_a_name_gets_one_that_is_free(
    paths: Paths, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jubako.engine import names

    tried: list[int] = []

    def three(attempt: int) -> str:
        tried.append(attempt)
        return f"name{min(attempt, 2)}"

    monkeypatch.setattr(names, "random_name", three)
    assert [read_container(paths, make()).name for _ in range(3)] == ["name0", "name1", "name2"]  # type: ignore[union-attr]
    identifier = make()
    assert read_container(paths, identifier).name == identifier[:12]  # type: ignore[union-attr]
    assert max(tried) == 99


def test_random_names_are_valid_and_soon_numbered() -> None:
    from jubako.engine.names import random_name

    assert all(check_name(random_name(attempt)) for attempt in range(12) for _ in range(20))
    assert any(random_name(5)[-1].isdigit() for _ in range(5))
    assert not any(random_name()[-1].isdigit() for _ in range(5))


def test_a_name_is_given_back_by_its_holder_only(paths: Paths, make: Make) -> None:
    holder = make("web")
    release_name(paths, "f" * 64, "web")
    assert holder_of(paths, "web") == holder
    release_name(paths, holder, "web")
    assert holder_of(paths, "web") == ""
    release_name(paths, holder, "web")
    release_name(paths, holder, "")


def test_names_are_looked_at_and_changed_under_one_lock(
    paths: Paths, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = make("other")
    looked: list[str] = []

    def is_held(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def change(*arguments: Any) -> None:
            fd = os.open(f"{paths.data}/names.lock", os.O_RDWR)
            with pytest.raises(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(fd)
            looked.append(name)
            real(*arguments)

        return change

    os.symlink("e" * 64, f"{paths.names}/stale")
    monkeypatch.setattr(os, "symlink", is_held("made", os.symlink))
    monkeypatch.setattr(os, "unlink", is_held("removed", os.unlink))
    link_name(paths, holder, "stale")
    release_name(paths, holder, "stale")
    assert looked == ["removed", "made", "removed"]


CLAIM = """
import sys
sys.path.append(sys.argv[1])
from jubako.engine.store import new_container
from jubako.errors import UsageError
from jubako.paths import Paths
paths = Paths(sys.argv[2], sys.argv[3], sys.argv[3])
sys.stdin.read()
won = 0
for number in range(20):
    try:
        _name, lock = new_container(paths, f"{int(sys.argv[4]):02}{number:02}" + "0" * 60, f"name{number}")
        lock.release()
        won += 1
    except UsageError:
        pass
print(won)
"""


def test_of_many_that_want_a_name_at_once_exactly_one_gets_it(paths: Paths) -> None:
    source = Path(store.__file__).parents[2]
    racers = [
        subprocess.Popen(
            (sys.executable, "-I", "-S", "-c", CLAIM, source, paths.data, paths.run, str(number)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
    won = [int(racer.stdout.read()) for racer in racers if racer.stdout is not None]
    assert [racer.wait() for racer in racers] == [0] * 4
    for racer in racers:
        if racer.stdout is not None:
            racer.stdout.close()
    assert sum(won) == 20
    assert len(store.list_ids(paths)) == 20
    assert sorted(list_names(paths)) == sorted(f"name{number}" for number in range(20))
    assert {holder_of(paths, name) for name in list_names(paths)} == set(store.list_ids(paths))


def test_renaming_moves_the_name_and_is_kept_in_the_document(paths: Paths, make: Make) -> None:
    identifier = make("old", document={"more": 1})
    rename_container(paths, find_container(paths, "old"), "new")
    found = find_container(paths, "new")
    assert (found.id, found.name, found.document["more"]) == (identifier, "new", 1)
    assert list_names(paths) == ["new"]
    rename_container(paths, found, "new")
    assert list_names(paths) == ["new"]


def test_renaming_to_what_is_taken_or_no_name_changes_nothing(paths: Paths, make: Make) -> None:
    make("one")
    make("two")
    one = find_container(paths, "one")
    for name in ("two", "no name"):
        with pytest.raises(UsageError):
            rename_container(paths, one, name)
    assert sorted(list_names(paths)) == ["one", "two"]
    assert find_container(paths, "one").id == one.id


# --- states


def test_a_supervisor_that_lives_keeps_its_container_running(paths: Paths, make: Make) -> None:
    container = read_container(paths, make("web", **me(pid=5)))
    assert container is not None
    assert container.running
    assert container.state.status == RUNNING


@pytest.mark.parametrize(
    "change",
    [{"monitor_start": 1}, {"boot": "another-boot"}, {"monitor": 4_000_000}, {"monitor": 0},
     {"monitor": 4_000_000, "monitor_start": 0}],
)  # fmt: skip
def test_a_supervisor_that_is_gone_left_its_container_killed(paths: Paths, make: Make, change: dict[str, Any]) -> None:
    container = read_container(paths, make("web", **me(pid=5, **change)))
    assert container is not None
    assert (container.state.status, container.state.exit_code, container.state.pid) == (EXITED, 137, 0)
    assert not container.running
    recorded = store.recorded_state(container.directory)
    assert recorded is not None
    assert recorded.status == RUNNING  # looking changes nothing on disk


def test_a_last_word_written_between_two_looks_is_believed(
    paths: Paths, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    identifier = make("web", **me(monitor_start=1))
    directory = store.container_directory(paths, identifier)

    def dies(*_who: object) -> bool:
        write_state(directory, State(EXITED, exit_code=3))
        return False

    monkeypatch.setattr(store, "is_alive", dies)
    state = read_state(directory)
    assert state is not None
    assert (state.status, state.exit_code) == (EXITED, 3)


def test_a_frozen_group_means_paused(paths: Paths, make: Make, tmp_path: Path) -> None:
    group = tmp_path / "group"
    group.mkdir()
    (group / "cgroup.freeze").write_text("1\n")
    identifier = make("web", **me(cgroup=str(group)))
    container = read_container(paths, identifier)
    assert container is not None
    assert container.state.status == PAUSED
    assert container.running
    (group / "cgroup.freeze").write_text("0\n")
    assert read_container(paths, identifier).state.status == RUNNING  # type: ignore[union-attr]


def test_a_container_that_is_being_removed_is_not_there(paths: Paths, make: Make) -> None:
    identifier = make("web")
    os.unlink(f"{store.container_directory(paths, identifier)}/container.json")
    assert read_container(paths, identifier) is None
    os.unlink(f"{store.container_directory(paths, identifier)}/state.json")
    assert read_container(paths, identifier) is None


def test_a_state_survives_the_disk(tmp_path: Path) -> None:
    state = State(RUNNING, 1, 2, 3, 4, "b", 5, 6, 7, 8, "caf\udce9", "/cg")
    write_state(str(tmp_path), state)
    assert store.recorded_state(str(tmp_path)) == state
    assert replace(state, pid=9) != state


# --- files


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for number in range(3):
        write_document(str(path), {"n": number})
    assert os.listdir(tmp_path) == ["x.json"]
    assert json.loads(path.read_text()) == {"n": 2}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{tmp_path}/x.json"
    write_document(path, {"n": 1})
    real = os.write

    def full(fd: int, data: bytes) -> int:
        real(fd, data[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(JubakoError, match=r"ENOSPC"):
        write_document(path, {"n": 2})
    monkeypatch.setattr(os, "write", real)
    assert os.listdir(tmp_path) == ["x.json"]
    assert store.read_document(path) == {"n": 1}


def test_a_large_document_is_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7]))
    write_document(f"{tmp_path}/x", {"text": "é" * 100})
    assert store.read_document(f"{tmp_path}/x") == {"text": "é" * 100}


def test_what_is_not_there_or_no_object_is_nothing_and_what_is_no_json_is_told(tmp_path: Path) -> None:
    assert store.read_document(f"{tmp_path}/none") is None
    assert store.read_document(f"{tmp_path}/none/none") is None
    (tmp_path / "list").write_text("[1]")
    assert store.read_document(f"{tmp_path}/list") is None
    (tmp_path / "torn").write_text('{"a": ')
    with pytest.raises(JubakoError, match="it is not JSON"):
        store.read_document(f"{tmp_path}/torn")


# --- locks


def test_a_lock_is_held_until_it_is_released_and_gone_with_its_directory(paths: Paths, make: Make) -> None:
    directory = store.container_directory(paths, make("web"))
    with Lock(directory), pytest.raises(BlockingIOError), Lock(directory, wait=False):
        pass
    lock = Lock(directory)
    with lock:
        pass
    assert lock.fd == -1
    os.rename(directory, directory + "x")
    with pytest.raises(NotFoundError, match="it has just been removed"), Lock(directory):
        pass


def test_whoever_waited_for_a_container_that_was_removed_meanwhile_is_told(
    paths: Paths, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = store.container_directory(paths, make("web"))
    real = fcntl.flock
    before = os.listdir("/proc/self/fd")

    def removed(fd: int, operation: int) -> None:
        real(fd, operation)
        if os.path.exists(directory):
            os.rename(directory, directory + "x")

    monkeypatch.setattr(fcntl, "flock", removed)
    with pytest.raises(NotFoundError, match="it has just been removed"), Lock(directory):
        pass
    assert os.listdir("/proc/self/fd") == before


def test_reserving_is_linking(paths: Paths, make: Make) -> None:
    identifier = make("web")
    link_name(paths, identifier, "also")
    assert reserve_name(paths, identifier, "third") == "third"
    assert {holder_of(paths, name) for name in ("web", "also", "third")} == {identifier}
