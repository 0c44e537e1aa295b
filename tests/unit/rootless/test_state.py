"""The state directory: locked, wiped, removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jubako.errors import JubakoError
from jubako.rootless.state import StateDirectory, check_length, remove_tree


def test_it_is_made_and_removed(tmp_path: Path) -> None:
    state = StateDirectory(str(tmp_path / "a/b"), temporary=False)
    state.prepare()
    state.write("child_pid", "12", 0o444)
    assert sorted(os.listdir(state.path)) == ["child_pid", "lock"]
    assert Path(state.file("child_pid")).read_text() == "12"
    state.remove()
    assert not os.path.exists(state.path)
    state.remove()


def test_two_cannot_have_it(tmp_path: Path) -> None:
    first, second = (StateDirectory(str(tmp_path / "s"), temporary=False) for _ in range(2))
    first.prepare()
    first.write("api.sock", "")
    with pytest.raises(JubakoError, match="another fake root"):
        second.prepare()
    second.remove()
    assert os.path.exists(first.file("api.sock"))
    first.remove()
    second.prepare()
    second.remove()


def test_a_directory_of_somebody_elses_is_neither_wiped_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    state = StateDirectory(str(tmp_path), temporary=False)
    with pytest.raises(JubakoError, match="not those of a fake root"):
        state.prepare()
    state.remove()
    assert (tmp_path / "precious").read_text() == "data"


def test_no_link_is_followed_when_it_is_wiped(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    (tmp_path / "s/below/deep").mkdir(parents=True)
    (tmp_path / "s/lock").touch()
    (tmp_path / "s/below/link").symlink_to(tmp_path / "outside")
    (tmp_path / "s/netns").symlink_to(tmp_path / "outside")
    state = StateDirectory(str(tmp_path / "s"), temporary=False)
    state.prepare()
    assert os.listdir(state.path) == ["lock"]
    assert (tmp_path / "outside/file").exists()
    state.remove()
    remove_tree(str(tmp_path / "s"))


def test_a_lock_that_is_a_link_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s/lock").symlink_to(tmp_path / "target")
    with pytest.raises(JubakoError, match="ELOOP"):
        StateDirectory(str(tmp_path / "s"), temporary=False).prepare()
    assert not (tmp_path / "target").exists()


def test_a_path_leaves_room_for_the_socket() -> None:
    check_length("/" + "x" * 97)
    with pytest.raises(JubakoError, match="108 bytes"):
        check_length("/" + "x" * 98)
    with pytest.raises(JubakoError, match="bytes"):
        check_length("/" + "ü" * 49)
