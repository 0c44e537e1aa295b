"""Lists are for people on a terminal and for programs everywhere else."""

from __future__ import annotations

import io
import json
import sys

import pytest

from jubako.cli import output
from jubako.cli.flags import Command, parse
from jubako.cli.output import LIST_FLAGS, Column, print_rows
from jubako.errors import NotFoundError
from jubako.image.progress import Progress

ROWS = [
    {"ID": "0123456789abcdef", "Names": "web", "Command": "python3 -m http.server --bind 127.0.0.1 8000"},
    {"ID": "fedcba9876543210", "Names": "漆の箱", "Command": "true"},
]
COLUMNS = (
    Column("CONTAINER ID", "ID", show=output.short_id),
    Column("COMMAND", "Command", shrinks=True),
    Column("NAMES", "Names"),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(*argv: str, terminal: bool = False, rows=ROWS) -> str:
    values = parse(Command("ps", "list", LIST_FLAGS), argv)
    before, stream = sys.stdout, Terminal() if terminal else io.StringIO()
    sys.stdout = stream
    try:
        print_rows(values, rows, COLUMNS)
    finally:
        sys.stdout = before
    return stream.getvalue()


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")


def test_a_table_is_aligned_and_whole_where_no_terminal_reads_it():
    lines = shown().splitlines()
    assert lines[0].split() == ["CONTAINER", "ID", "COMMAND", "NAMES"]
    assert lines[1].startswith("0123456789ab   python3 -m http.server --bind 127.0.0.1 8000   web")
    assert lines[0].index("NAMES") == lines[1].index("web")


def test_on_a_terminal_the_table_fits():
    lines = shown(terminal=True).splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert "…" in lines[1]
    assert lines[1].endswith("web")


def test_a_hostile_name_cannot_steer_the_terminal():
    rows = [{"ID": "0", "Names": "web\x1b[2J\nroot", "Command": "\udcff\x9b31m\r"}]
    line = shown(rows=rows).splitlines()[1]
    assert line == r"0              \udcff\x9b31m\r   web\x1b[2J\nroot"


def test_no_trunc_shortens_nothing():
    lines = shown("--no-trunc", terminal=True).splitlines()
    assert lines[1].startswith("0123456789abcdef ")
    assert "8000" in lines[1]


def test_wide_characters_take_two_columns():
    assert output._width("漆の箱") == 6
    assert output._width("e\u0301") == 1
    assert output._width(output._shortened("漆の箱", 4)) <= 4


def test_quiet_prints_ids_alone():
    assert shown("-q") == "0123456789ab\nfedcba987654\n"
    assert shown("-q", "--no-trunc") == "0123456789abcdef\nfedcba9876543210\n"


def test_no_rows_leave_the_titles():
    assert shown(rows=[]).split() == ["CONTAINER", "ID", "COMMAND", "NAMES"]
    assert shown("--noheading", rows=[]) == ""
    assert json.loads(shown("--json", rows=[])) == []


def test_json_is_an_array_of_everything_known():
    assert json.loads(shown("--json")) == ROWS
    assert json.loads(shown("--json", terminal=True)) == ROWS
    assert shown("--json").count("\n") == 1
    assert shown("--json", terminal=True).count("\n") > 10


def test_format_json_is_an_object_a_line_as_docker_has_it():
    assert [json.loads(line) for line in shown("--format", "json").splitlines()] == ROWS


def test_a_template_sees_what_the_table_shows():
    assert shown("--format", "{{.ID}}={{.Names}}") == "0123456789ab=web\nfedcba987654=漆の箱\n"
    assert shown("--no-trunc", "--format", "{{.ID}}").startswith("0123456789abcdef\n")


def test_a_table_template_has_titles():
    lines = shown("--format", r"table {{.Names}}\t{{.ID}}").splitlines()
    assert lines[0].split() == ["NAMES", "CONTAINER", "ID"]
    assert lines[1].split() == ["web", "0123456789ab"]


def test_progress_is_silent_where_no_terminal_is(capsys):
    with output.progress_bar() as show:
        show(Progress("unpack", "layer", 1, 2, 5, 10))
    assert capsys.readouterr() == ("", "")


def test_progress_is_drawn_on_a_terminal(monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with output.progress_bar() as show:
        show(Progress("unpack", "0123[red]", 1, 2, 5, 10))
    assert "unpack 1/2 0123[red]" in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_one_failure_does_not_keep_the_others_from_their_turn(capsys):
    done = []

    def act(name: str) -> None:
        if name == "b":
            raise NotFoundError("remove", "b", reason="no such container")
        done.append(name)

    assert output.do_each(("a", "b", "c", "a"), act) == 125
    assert done == ["a", "c"]
    assert capsys.readouterr().err == "jubako: remove b: no such container\n"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (999, "999B"), (4_259_840, "4.26MB"), (1_000, "1kB"), (5 * 10**13, "50TB")]
)
def test_sizes_read_as_docker_writes_them(size, text):
    assert output.size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (61, "About a minute"),
        (600, "10 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (86400 * 3, "3 days"),
        (86400 * 20, "2 weeks"),
        (86400 * 100, "3 months"),
        (86400 * 800, "2 years"),
    ],
)
def test_spans_of_time_read_as_docker_writes_them(seconds, text):
    assert output.duration_text(seconds) == text
