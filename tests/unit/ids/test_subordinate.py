"""subuid(5) and getsubids(1) as they are found in the wild."""

from __future__ import annotations

from pathlib import Path

import pytest

from jubako.errors import JubakoError
from jubako.ids import subordinate
from jubako.ids.subordinate import (
    SubordinateRange,
    ask_getsubids,
    asks_a_service,
    find_overlaps,
    read_all_ranges,
    read_ranges_of,
    suggest_range,
)


@pytest.fixture
def subuid(tmp_path: Path) -> Path:
    return tmp_path / "subuid"


def spans(ranges: tuple[SubordinateRange, ...]) -> list[tuple[int, int]]:
    return [(entry.start, entry.count) for entry in ranges]


def test_a_users_ranges_come_by_name_and_by_number_in_the_files_order(subuid: Path) -> None:
    subuid.write_text("ann:100000:65536\nbob:200000:10\n1000:300000:5\nann:400000:7\n")
    assert spans(read_ranges_of(str(subuid), "ann", 1000)) == [(100000, 65536), (300000, 5), (400000, 7)]


def test_a_user_without_a_name_is_found_by_number(subuid: Path) -> None:
    subuid.write_text("1000:300000:5\n:1:2\n")
    assert spans(read_ranges_of(str(subuid), "", 1000)) == [(300000, 5)]


def test_comments_blank_lines_blanks_and_a_missing_last_newline_are_no_trouble(subuid: Path) -> None:
    subuid.write_text("# ours\n\n  ann : 100000 : 65536  \r\n#ann:1:1\nann:300000:5")
    assert spans(read_ranges_of(str(subuid), "ann", 1000)) == [(100000, 65536), (300000, 5)]


def test_a_missing_file_has_no_ranges(subuid: Path) -> None:
    assert read_ranges_of(str(subuid), "ann", 1000) == ()
    assert read_all_ranges(str(subuid)) == ((), ())


def test_a_range_of_no_ids_is_left_out(subuid: Path) -> None:
    subuid.write_text("ann:100000:0\n")
    assert read_ranges_of(str(subuid), "ann", 1000) == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ann:100000", "must be OWNER:START:COUNT"),
        ("ann", "must be OWNER:START:COUNT"),
        ("ann:100000:1:2", "must be OWNER:START:COUNT"),
        ("ann:abc:65536", "start 'abc' is not a number"),
        ("ann:100000:-5", "count '-5' is not a number"),
        ("ann:100000:", "count '' is not a number"),
        ("ann:4294967000:65536", "ids go beyond 4294967294"),
    ],
)
def test_a_broken_line_of_the_user_names_file_and_line(subuid: Path, line: str, reason: str) -> None:
    subuid.write_text(f"# first\nbob:100000:65536\n{line}\n")
    with pytest.raises(JubakoError) as caught:
        read_ranges_of(str(subuid), "ann", 1000)
    assert f"{subuid} line 3 ({line!r})" in caught.value.subject
    assert reason in caught.value.reason


def test_a_broken_line_of_somebody_else_is_not_this_users_trouble(subuid: Path) -> None:
    subuid.write_bytes(b"bob:oops:65536\n\xff\xfe\nann:100000:65536\n")
    assert spans(read_ranges_of(str(subuid), "ann", 1000)) == [(100000, 65536)]
    ranges, broken = read_all_ranges(str(subuid))
    assert spans(ranges) == [(100000, 65536)]
    assert len(broken) == 2


def test_an_unreadable_file_is_an_error_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(JubakoError, match="EISDIR"):
        read_ranges_of(str(tmp_path), "ann", 1000)


def test_overlaps_of_different_owners_are_found() -> None:
    ann, own = SubordinateRange("ann", 100000, 65536), SubordinateRange("1000", 100000, 65536)
    bob, eve = SubordinateRange("bob", 165535, 10), SubordinateRange("eve", 165536, 10)
    assert find_overlaps((ann, eve)) == ()
    assert find_overlaps((ann, bob, eve)) == ((ann, bob), (bob, eve))
    assert find_overlaps((ann, own, bob, eve), ("ann", "1000")) == ((ann, bob), (own, bob))
    assert find_overlaps((ann, bob), ("mallory",)) == ()


def test_a_suggested_range_is_nobodys() -> None:
    assert suggest_range(()) == (100000, 65536)
    assert suggest_range((SubordinateRange("ann", 100000, 65536), SubordinateRange("bob", 300000, 5))) == (
        300005,
        65536,
    )
    assert suggest_range((SubordinateRange("containers", 2147483647, 2147483648),)) == (100000, 65536)


@pytest.mark.parametrize(
    ("text", "service"),
    [
        ("passwd: files\n", ""),
        ("subid: files\n", ""),
        ("subid:\n", ""),
        ("# subid: sss\n", ""),
        ("passwd: files\nsubid:   sss files # directory\n", "sss"),
    ],
)
def test_the_service_for_subordinate_ids_is_read_from_nsswitch(tmp_path: Path, text: str, service: str) -> None:
    path = tmp_path / "nsswitch.conf"
    path.write_text(text)
    assert asks_a_service(str(path)) == service


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_getsubids_is_asked_for_the_user(tmp_path: Path) -> None:
    path = program(
        tmp_path / "getsubids", 'echo "0: $2 100000 65536"; echo "1: $2 300000 5"; echo "2: $2 1 0"; test "$1" = -g'
    )
    assert spans(ask_getsubids(path, "ann", "-g")) == [(100000, 65536), (300000, 5)]


def test_getsubids_that_fails_means_no_ranges(tmp_path: Path) -> None:
    path = program(tmp_path / "getsubids", "echo Error fetching ranges >&2; exit 1")
    assert ask_getsubids(path, "ann") == ()


def test_what_getsubids_never_says_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JubakoError, match="getsubids printed 'hello'"):
        ask_getsubids(program(tmp_path / "getsubids", "echo hello"), "ann")


def test_a_service_is_asked_instead_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nsswitch.conf").write_text("subid: sss\n")
    monkeypatch.setattr(subordinate, "asks_a_service", lambda: asks_a_service(str(tmp_path / "nsswitch.conf")))
    program(tmp_path / "getsubids", 'echo "0: $1 700000 65536"')
    monkeypatch.setenv("PATH", str(tmp_path))
    assert spans(subordinate.read_subordinate_uids("ann", 1000)) == [(700000, 65536)]


def test_a_service_without_getsubids_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subordinate, "asks_a_service", lambda: "sss")
    monkeypatch.setattr("jubako.ids.newidmap.find_program", lambda name: "")
    with pytest.raises(JubakoError, match="'sss'") as caught:
        subordinate.read_subordinate_gids("ann", 1000)
    assert "uidmap" in caught.value.hint
