"""The state directory: what is written comes back, damage is told, and the kernel says what a container does."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import JubakoError, NotFoundError, UsageError
from jubako.linux.boot import boot_id
from jubako.linux.pidfd import start_time
from jubako.oci.state import Container, State, check_id, find_container, is_id, list_containers, now, report
from jubako.record import replace

STATE = State("c1", "1.3.0", "/b", "/b/rootfs", annotations=(("a", "ü"), ("b", "")), boot=boot_id(), made=True)


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    made = Container(str(tmp_path), "c1")
    made.make()
    yield made
    made.unlock()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(("sleep", "60")) as running:
        yield running
        running.kill()


def of(process: subprocess.Popen[bytes], **changes: object) -> State:
    return replace(STATE, pid=process.pid, pid_start=start_time(process.pid), **changes)


def test_what_is_written_comes_back(container: Container) -> None:
    container.write(STATE)
    assert container.read() == STATE
    assert sorted(os.listdir(container.directory)) == ["lock", "state.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"id": 3}', "null", "\udcff"])
def test_a_damaged_state_is_told_with_its_remedy(container: Container, text: str) -> None:
    Path(container.directory, "state.json").write_text(text, errors="surrogateescape")
    with pytest.raises(JubakoError, match="damaged") as caught:
        container.read()
    assert "delete --force" in caught.value.hint


def test_a_field_of_another_type_is_damage(container: Container) -> None:
    container.write(STATE)
    path = Path(container.directory, "state.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": "1"}))
    with pytest.raises(JubakoError, match="pid is no int"):
        container.read()


def test_what_does_not_exist_is_said_to_be_so(tmp_path: Path) -> None:
    for action in (Container(str(tmp_path), "c2").read, Container(str(tmp_path), "c2").lock):
        with pytest.raises(NotFoundError, match="container does not exist"):
            action()


def test_an_id_in_use_is_refused(container: Container) -> None:
    with pytest.raises(UsageError, match="already exists"):
        Container(container.root, "c1").make()


def test_a_directory_that_was_deleted_and_made_anew_is_anothers(tmp_path: Path) -> None:
    class Late(Container):
        def _hold(self, moment: float = 0) -> None:
            """Between our directory and our lock there was time for a whole life of another container."""
            Container(str(tmp_path), "c1").remove()
            with_lock = Container(str(tmp_path), "c1")
            with_lock.make()
            with_lock.write(STATE)
            with_lock.unlock()
            super()._hold(moment)

    with pytest.raises(UsageError, match="already exists"):
        Late(str(tmp_path), "c1").make()
    assert Container(str(tmp_path), "c1").read() == STATE
    Container(str(tmp_path), "c1").lock()


def test_who_removes_a_container_leaves_alone_what_is_made_at_its_path(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Container(container.root, container.id)
    rmdir = os.rmdir

    def made_anew(path: str) -> None:
        monkeypatch.setattr(os, "rmdir", rmdir)
        rmdir(path)
        other.make()
        rmdir(path)

    monkeypatch.setattr(os, "rmdir", made_anew)
    container.remove()
    assert os.listdir(other.directory) == ["lock"]
    other.unlock()


def test_who_waits_for_the_lock_of_a_removed_container_hears_that_it_is_gone(container: Container) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        container.unlock()  # the child's own copy of the descriptor
        try:
            Container(container.root, "c1").lock()
        except NotFoundError:
            code = 0
        finally:
            os._exit(code)
    time.sleep(0.2)  # it waits by now; if not, it finds nothing to wait for
    container.remove()
    assert os.waitpid(pid, 0)[1] == 0


def test_a_live_process_without_the_lock_is_running(container: Container, process: subprocess.Popen[bytes]) -> None:
    assert container.status(of(process)) == "running"


def test_a_live_process_that_holds_the_lock_is_created(container: Container, process: subprocess.Popen[bytes]) -> None:
    fd = os.open(container.directory + "/waiting", os.O_RDONLY | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert container.status(of(process)) == "created"
    os.close(fd)
    assert container.status(of(process)) == "running"


@pytest.mark.parametrize("changes", [{"pid_start": 1}, {"boot": "another"}, {"pid": 0}])
def test_another_process_of_that_pid_is_not_the_containers(
    container: Container, process: subprocess.Popen[bytes], changes: dict[str, object]
) -> None:
    assert container.status(replace(of(process), **changes)) == "stopped"


def test_what_is_being_made_says_so_as_long_as_its_maker_lives(container: Container) -> None:
    maker = replace(STATE, made=False, creator=os.getpid(), creator_start=start_time(os.getpid()))
    assert container.status(maker) == "creating"
    assert container.status(replace(maker, creator_start=1)) == "stopped"


@pytest.mark.parametrize("identifier", ["a", "A0_+-.", "+", "_x", "-", "9", "x" * 255])
def test_ids_of_the_allowed_characters_are_taken(identifier: str) -> None:
    check_id(identifier)


@pytest.mark.parametrize("identifier", ["", ".", "..", ".a", "a/b", "../x", "ä", "a b", "a\n", "a\0", "x" * 256])
def test_other_ids_are_refused(identifier: str) -> None:
    with pytest.raises(UsageError, match="use container id"):
        find_container("/nowhere", identifier)


@given(st.text())
def test_no_id_leads_out_of_the_directory(text: str) -> None:
    if is_id(text):
        assert os.path.normpath(f"/root/{text}") == f"/root/{text}"


def test_only_containers_are_listed(tmp_path: Path, container: Container) -> None:
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "file").touch()
    assert [one.id for one in list_containers(str(tmp_path))] == ["c1"]
    assert list_containers(str(tmp_path / "nowhere")) == []


def test_the_report_has_the_fields_of_the_specification(container: Container) -> None:
    found = report(container, replace(STATE, pid=7), "running")
    assert found["annotations"] == {"a": "ü", "b": ""}
    names = ("ociVersion", "id", "status", "pid", "bundle")
    assert [found[name] for name in names] == ["1.3.0", "c1", "running", 7, "/b"]
    assert report(container, replace(STATE, pid=7), "stopped")["pid"] == 0
    assert "annotations" not in report(container, replace(STATE, annotations=()), "running")


def test_times_are_rfc_3339() -> None:
    date, _, rest = now().partition("T")
    assert len(date) == 10
    assert rest.endswith("Z")
    assert len(rest.partition(".")[2]) == 10
