"""Copy-up's links: which lead out of the directory, and what is made of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.rootless.steps.copy_up import find_links_out, leads_out, link_entries


@pytest.mark.parametrize(
    ("target", "depth", "out"),
    [
        ("../x", 1, False), ("../../x", 1, True), ("../../x", 2, False), ("../../../x", 2, True),
        ("a/../../x", 1, False), ("a/../../../x", 1, True), ("/etc/x", 1, False), ("x", 1, False),
        ("./../../x", 1, True), ("..", 1, False), ("../..", 1, True), ("", 1, False), ("..//..//x", 1, True),
    ],
)  # fmt: skip
def test_a_link_leads_out_where_it_climbs_above_the_top(target: str, depth: int, out: bool) -> None:
    assert leads_out(target, depth) == out


@given(st.lists(st.sampled_from(["..", ".", "a", ""]), max_size=8), st.integers(1, 4))
def test_it_agrees_with_paths(parts: list[str], depth: int) -> None:
    target = "/".join(parts)
    if target.startswith("/"):
        assert not leads_out(target, depth)
        return
    places = [os.path.normpath("/top" + "/d" * depth + "/" + "/".join(parts[:end])) for end in range(len(parts) + 1)]
    assert leads_out(target, depth) == any(not (place + "/").startswith("/top/") for place in places)


def test_the_directories_on_the_way_to_a_link_out_are_found(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "a/b/c").mkdir(parents=True)
    (top / "plain/deep").mkdir(parents=True)
    (top / "direct").symlink_to("../elsewhere")
    (top / "a/b/c/out").symlink_to("../../../../elsewhere")
    (top / "plain/deep/in").symlink_to("../../a")
    assert find_links_out(str(top)) == {"a", "a/b", "a/b/c"}


def test_what_may_not_be_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "top/secret").mkdir(parents=True)
    (tmp_path / "top/secret/out").symlink_to("../../elsewhere")
    (tmp_path / "top/secret").chmod(0)
    found = find_links_out(str(tmp_path / "top"))
    (tmp_path / "top/secret").chmod(0o700)
    assert found == ({"secret"} if os.getuid() == 0 else set())


def test_links_lead_to_the_same_files_as_before(tmp_path: Path) -> None:
    top = tmp_path / "top"
    hidden = top / ".ro1"
    (hidden / "a/b").mkdir(parents=True)
    (tmp_path / "elsewhere").write_text("elsewhere")
    (hidden / "file").write_text("file")
    (hidden / "a/other").write_text("other")
    (hidden / "a/out").symlink_to("../../elsewhere")
    (hidden / "a/b/file").write_text("deep")
    (hidden / "top").symlink_to("../elsewhere")
    link_entries(str(top), ".ro1", frozenset({"a"}))
    assert (top / "file").readlink() == Path(".ro1/file")
    assert not (top / "a").is_symlink()
    assert (top / "a/other").readlink() == Path("../.ro1/a/other")
    texts = {name: (top / name).read_text() for name in ("file", "a/other", "a/out", "a/b/file", "top")}
    assert texts == {"file": "file", "a/other": "other", "a/out": "elsewhere", "a/b/file": "deep", "top": "elsewhere"}
