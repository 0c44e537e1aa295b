"""The facts of the host as the planner gets them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from jubako.ids.base import BaseIds
from jubako.ids.idmap import IdMap
from jubako.paths import Paths
from jubako.plan.host import STANDARD_DEVICES
from jubako.runtime import facts
from jubako.runtime.facts import gather_host, is_interpreter_writable, read_host_tree

MAP = IdMap.parse("0 1000 1\n1 100000 65536\n")
PATHS = Paths("/d", "/r", "/c")


def ids(writer: str = "newuidmap", **fields: object) -> BaseIds:
    return BaseIds(MAP, MAP, writer, caller_uid=1000, caller_gid=1000, **fields)  # type: ignore[arg-type]


def test_the_hosts_tree_is_its_system_directories_and_never_a_home() -> None:
    tree = read_host_tree()
    shown = {*tree.binds, *(path for path, _target in tree.links)}
    assert {"/usr", "/etc", "/bin"} <= shown
    fresh = {path for path, _mode in tree.fresh}
    assert {"/home", "/root", "/run", "/tmp", "/var", "/srv", "/mnt", "/proc", "/dev", "/sys"} <= fresh
    assert not shown & fresh
    assert all(os.path.isdir(path) and not os.path.islink(path) for path in tree.binds)
    assert dict(tree.fresh)["/tmp"] == 0o1777
    assert dict(tree.fresh)["/root"] == 0o700
    order = [path for path, _mode in tree.fresh]
    assert all(order.index(os.path.dirname(path)) < order.index(path) for path in order if path.count("/") > 1)


@pytest.mark.parametrize(
    ("home", "hidden"),
    [("/usr/me", ("/usr/me",)), ("/usr/a/x", ("/usr/a/x",)), ("/home/me", ()), ("/", ()), ("", ()), ("/usrs", ())],
)
def test_a_home_below_what_is_shown_is_hidden(
    monkeypatch: pytest.MonkeyPatch, home: str, hidden: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HOME", home)
    assert read_host_tree().hidden == hidden


def test_facts_are_gathered_for_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    host = gather_host(PATHS, ids(), host_image=False)
    assert (host.stage, host.foreign_proc) == ("/r/stage", "/r/proc")
    assert not host.privileged
    assert set(host.devices) <= set(STANDARD_DEVICES)
    assert ("/dev/null", 1, 3) in host.devices
    assert host.tree.binds == ()
    assert host.base_uid_map == host.base_gid_map == MAP.text()
    assert gather_host(PATHS, ids(), host_image=True).tree.binds


@pytest.mark.parametrize(
    ("euid", "writer", "whole", "privileged"),
    [(0, "direct", True, True), (0, "direct", False, False), (0, "single", True, False), (1000, "direct", True, False)],
)
def test_only_the_hosts_whole_root_is_privileged(
    monkeypatch: pytest.MonkeyPatch, euid: int, writer: str, whole: bool, privileged: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    monkeypatch.setattr(facts, "is_whole", lambda: whole)
    assert gather_host(PATHS, ids(writer), host_image=False).privileged == privileged


def test_a_device_is_one_by_its_number_only(tmp_path: Path) -> None:
    assert facts._is_device("/dev/null", 1, 3)
    assert not facts._is_device("/dev/null", 1, 5)
    assert not facts._is_device("/etc/passwd", 0, 0)
    assert not facts._is_device("/dev/none", 1, 3)
    (tmp_path / "null").symlink_to("/dev/null")
    assert not facts._is_device(f"{tmp_path}/null", 1, 3)


class _Status:
    def __init__(self, uid: int, mode: int) -> None:
        self.st_uid, self.st_mode = uid, stat.S_IFREG | mode


@pytest.mark.parametrize(
    ("owner", "mode", "caller", "writable"),
    [(0, 0o755, 1000, False), (1000, 0o755, 1000, True), (0, 0o775, 1000, True), (0, 0o757, 1000, True),
     (0, 0o755, 0, True), (5, 0o555, 1000, True)],
)  # fmt: skip
def test_an_interpreter_that_ids_of_containers_could_write_is_guarded(
    monkeypatch: pytest.MonkeyPatch, owner: int, mode: int, caller: int, writable: bool
) -> None:
    monkeypatch.setattr(os, "stat", lambda _path: _Status(owner, mode))
    monkeypatch.setattr(os, "getuid", lambda: caller)
    assert is_interpreter_writable() is writable
