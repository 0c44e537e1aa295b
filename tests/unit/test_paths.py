"""Where things are kept, and that nobody else can have made those directories."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jubako.errors import JubakoError
from jubako.paths import Paths, _claim, find_paths, make_directory, make_run_directories

NAMES = ("JUBAKO_ROOT", "JUBAKO_RUN", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME")


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An ordinary user with a home and nothing else."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    monkeypatch.setattr("jubako.paths._claim", lambda path, mode: path)
    return monkeypatch


def test_a_user_keeps_things_at_home_and_in_tmp(user: pytest.MonkeyPatch) -> None:
    data = "/home/me/.local/share/jubako"
    assert find_paths() == Paths(data, "/tmp/jubako-4321", f"{data}/cache")


def test_a_user_with_xdg_directories_keeps_things_there(tmp_path: Path, user: pytest.MonkeyPatch) -> None:
    if tmp_path.stat().st_uid == 0:
        os.chown(tmp_path, 4321, -1)
    user.setattr(os, "getuid", lambda: tmp_path.stat().st_uid)
    user.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    user.setenv("XDG_DATA_HOME", "/d")
    user.setenv("XDG_CACHE_HOME", "/c")  # people show that one to their containers: not for code that is trusted
    assert find_paths() == Paths("/d/jubako", f"{tmp_path}/jubako", "/d/jubako/cache")


def test_root_keeps_things_where_the_system_does(user: pytest.MonkeyPatch) -> None:
    user.setattr(os, "getuid", lambda: 0)
    user.setattr(os, "access", lambda path, mode: path == "/var/lib")
    user.setenv("XDG_RUNTIME_DIR", "/run/user/0")
    assert find_paths() == Paths("/var/lib/jubako", "/run/jubako", "/var/lib/jubako/cache")


def test_root_of_a_user_namespace_keeps_things_where_the_user_does(user: pytest.MonkeyPatch) -> None:
    user.setattr(os, "getuid", lambda: 0)
    user.setattr(os, "access", lambda path, mode: False)
    assert find_paths().data == "/home/me/.local/share/jubako"


@pytest.mark.parametrize("runtime", ["relative", "/nowhere/at/all", "/proc/1"])
def test_a_runtime_directory_that_is_not_the_users_is_not_used(user: pytest.MonkeyPatch, runtime: str) -> None:
    user.setenv("XDG_RUNTIME_DIR", runtime)
    assert find_paths().run == "/tmp/jubako-4321"


def test_flags_win_over_variables_and_variables_over_defaults(user: pytest.MonkeyPatch) -> None:
    user.setenv("JUBAKO_ROOT", "/var-root")
    user.setenv("JUBAKO_RUN", "/var-run")
    assert (find_paths().data, find_paths().run) == ("/var-root", "/var-run")
    assert (find_paths("/a/../b", "/r/").data, find_paths("/a", "/r/").run) == ("/b", "/r")


def test_a_user_without_a_home_has_the_one_of_the_password_file(user: pytest.MonkeyPatch) -> None:
    user.setenv("HOME", "not absolute")
    assert find_paths().data == "/tmp/jubako-4321-home/.local/share/jubako"


def test_a_place_in_tmp_is_made_before_anybody_else_can(tmp_path: Path) -> None:
    path = f"{tmp_path}/jubako-1"
    assert _claim(path, 0o711) == path == _claim(path, 0o711)
    assert os.stat(path).st_mode & 0o777 == 0o711
    assert _claim(f"{tmp_path}/missing/jubako-1", 0o711), "that it cannot be made is said by whoever needs it"


@pytest.mark.parametrize("trick", ["link", "open", "file", "owner"])
def test_a_place_in_tmp_that_somebody_else_has_prepared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trick: str
) -> None:
    """Else `containers` in it could be a link to the user's home, in which what killed commands left is removed."""
    path = tmp_path / "jubako-1"
    if trick == "link":
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to(tmp_path / "elsewhere")
    elif trick == "file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o777 if trick == "open" else 0o711)
    if trick == "owner":
        monkeypatch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(JubakoError, match="not a directory of this user alone"):
        _claim(str(path), 0o711)


def test_a_directory_is_made_with_its_parents_and_again_without_harm(tmp_path: Path) -> None:
    path = f"{tmp_path}/a/b/c"
    old = os.umask(0o077)
    try:
        assert make_directory(path, 0o711) == path == make_directory(path, 0o711)
    finally:
        os.umask(old)
    assert os.stat(path).st_mode & 0o777 == 0o711


def test_somebody_elses_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "jubako-1"
    path.mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(JubakoError, match="not a directory of this user alone") as caught:
        make_directory(str(path))
    assert "XDG_RUNTIME_DIR" in caught.value.hint


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "d"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(JubakoError, match="this user alone"):
        make_directory(str(path))


def test_a_link_in_the_directorys_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(JubakoError, match="this user alone"):
        make_directory(f"{tmp_path}/link")


@pytest.mark.parametrize("inside", ["", "/below", "/far/below"])
def test_a_file_in_the_way_is_one_clear_error(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JubakoError):
        make_directory(f"{tmp_path}/file{inside}")


def test_a_place_that_cannot_be_written_is_told_with_the_remedy() -> None:
    with pytest.raises(JubakoError, match="make directory /proc/jubako") as caught:
        make_directory("/proc/jubako/x")
    assert "JUBAKO_ROOT" in caught.value.hint


def test_the_run_directory_can_be_passed_through_but_not_listed(tmp_path: Path) -> None:
    paths = Paths(f"{tmp_path}/data", f"{tmp_path}/run", f"{tmp_path}/cache")
    (tmp_path / "run").mkdir(mode=0o700)
    make_run_directories(paths)
    assert os.stat(paths.run).st_mode & 0o777 == 0o711
    assert os.listdir(paths.stage) == os.listdir(paths.foreign_proc) == []
    assert sorted(os.listdir(paths.run)) == ["containers", "proc", "stage"]
    assert not os.path.exists(paths.data)


def test_each_container_has_a_place_of_its_own() -> None:
    paths = Paths("/d", "/r", "/c")
    assert (paths.containers, paths.names, paths.run_of("x")) == ("/d/containers", "/d/names", "/r/containers/x")
