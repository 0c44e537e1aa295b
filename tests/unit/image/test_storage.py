"""The choice of storage: the fastest that works, never another one than was asked for."""

from __future__ import annotations

import errno

import pytest

from jubako.errors import JubakoError, UsageError
from jubako.image import storage
from jubako.image.storage import StorageFacts, choose_storage, read_facts
from jubako.paths import Paths

ALL = StorageFacts("", "/usr/bin/fuse-overlayfs", "")
NO_OVERLAY = StorageFacts("too old", "/usr/bin/fuse-overlayfs", "")
NOTHING = StorageFacts("too old", "", "not installed")


@pytest.mark.parametrize(
    ("facts", "asked", "kind"),
    [
        (ALL, "", "overlay"),
        (ALL, "overlay", "overlay"),
        (ALL, "fuse-overlayfs", "fuse-overlayfs"),
        (ALL, "copy", "copy"),
        (NO_OVERLAY, "", "fuse-overlayfs"),
        (NOTHING, "", "copy"),
        (NOTHING, "copy", "copy"),
    ],
)
def test_the_fastest_that_works_is_taken_unless_another_is_asked_for(
    facts: StorageFacts, asked: str, kind: str
) -> None:
    choice = choose_storage(facts, asked)
    assert choice.kind == kind
    assert choice.reason
    assert bool(choice.program) == (kind == "fuse-overlayfs")


def test_the_reason_names_what_stands_in_the_way() -> None:
    assert "too old" in choose_storage(NO_OVERLAY).reason
    assert "not installed" in choose_storage(NOTHING).reason


@pytest.mark.parametrize("asked", ["overlay", "fuse-overlayfs"])
def test_what_is_asked_for_and_impossible_is_refused_with_the_cause(asked: str) -> None:
    with pytest.raises(JubakoError, match=r"too old|not installed") as caught:
        choose_storage(NOTHING, asked)
    assert caught.value.hint


def test_an_unknown_kind_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="overlay, fuse-overlayfs, copy"):
        choose_storage(ALL, "btrfs")


def test_the_probe_is_made_once_a_boot(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[Paths] = []

    def probe(paths: Paths) -> StorageFacts:
        probed.append(paths)
        return NO_OVERLAY

    monkeypatch.setattr(storage, "probe", probe)
    paths = Paths(f"{tmp_path}/data", f"{tmp_path}", f"{tmp_path}/cache")
    assert read_facts(paths) == read_facts(paths) == NO_OVERLAY
    assert len(probed) == 1
    monkeypatch.setenv("PATH", "/elsewhere")  # another fuse-overlayfs may be found now
    read_facts(paths)
    assert len(probed) == 2


@pytest.mark.parametrize(("operation", "lasting"), [("mount overlay", True), ("make the base user namespace", False)])
def test_an_obstacle_on_the_way_to_overlayfs_is_not_kept_for_the_boot(
    operation: str, lasting: bool, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[JubakoError | None] = [JubakoError(operation, errno=errno.EPERM)]
    monkeypatch.setattr(storage, "_overlay_failure", lambda _: met[0])
    paths = Paths(f"{tmp_path}/data", f"{tmp_path}", f"{tmp_path}/cache")
    assert operation in read_facts(paths).overlay_obstacle
    met[0] = None  # put right
    assert (operation in read_facts(paths).overlay_obstacle) == lasting
