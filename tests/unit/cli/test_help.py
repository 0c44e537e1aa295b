"""`--help` reads like a manual page and fits where it is read."""

from __future__ import annotations

import re

import pytest

from jubako.cli import help as pages
from jubako.cli import main, table
from jubako.cli.flags import LIST, SWITCH, Argument, Command, Flag

EXAMPLE = Command(
    "paint",
    "paint a fence",
    (
        Flag(("-q", "--quiet"), "say nothing", SWITCH),
        Flag(("--colour",), "the colour to paint it in", choices=("red", "green"), group="Paint"),
        Flag(("--layer",), "one more layer of " + "thick " * 30, LIST, metavar="NAME[:THICKNESS]", group="Paint"),
        Flag(("--secret",), "not shown", SWITCH, hidden=True),
    ),
    (Argument("FENCE", "fence", help="which fence to paint"),),
    description="""
        Paints.

            indented text stays

        And a second paragraph.
    """,
    examples=(("Paint it red.", "jubako paint --colour red fence"),),
)


@pytest.mark.parametrize("name", list(table.COMMANDS))
@pytest.mark.parametrize("columns", [80, 100])
def test_the_help_of_every_command_fits_the_columns(name, columns):
    page = pages.command_help(main.load(name).COMMAND, columns)
    assert [line for line in page.splitlines() if len(line) > columns] == []


def test_the_general_help_fits_eighty_columns():
    pagetexts = [pages.general_help(80), *(pages.noun_help(noun, 80) for noun in table.NOUNS)]
    for page in pagetexts:
        assert [line for line in page.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("name", list(table.COMMANDS))
def test_every_flag_has_one_meaning_and_an_explanation(name):
    command = main.load(name).COMMAND
    names = [spelling for flag in command.flags for spelling in flag.names]
    assert len(names) == len(set(names))
    for flag in command.flags:
        assert flag.help
        assert not flag.help.endswith("."), flag.names
        assert not flag.help[0].isupper() or flag.help.split()[0].isupper() or flag.help[1].isupper(), flag.names


def test_a_page_has_its_parts_in_order():
    page = pages.command_help(EXAMPLE, 80)
    headings = re.findall(r"^[A-Z]+$", page, re.MULTILINE)
    assert headings == ["NAME", "SYNOPSIS", "DESCRIPTION", "ARGUMENTS", "OPTIONS", "PAINT", "EXAMPLES"]
    assert "jubako paint [OPTIONS] FENCE" in page
    assert "\n        indented text stays\n" in page
    assert "--colour red|green" in page
    assert "(may be repeated)" in page
    assert "--secret" not in page
    assert page.endswith("        jubako paint --colour red fence\n")


def test_headings_are_bold_only_when_asked_for():
    assert "\x1b[1mNAME\x1b[0m" in pages.command_help(EXAMPLE, 80, bold=True)
    assert "\x1b" not in pages.command_help(EXAMPLE, 80)


class Terminal:
    """Stands for standard output on a terminal."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError


def test_no_color_keeps_headings_plain(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert pages.wants_bold(Terminal())  # type: ignore[arg-type]
    monkeypatch.setenv("NO_COLOR", "1")
    assert not pages.wants_bold(Terminal())  # type: ignore[arg-type]


def test_the_width_is_the_wish_within_reason(monkeypatch):
    for wish, columns in (("72", 72), ("3", 40), ("300", 100), ("many", 80)):
        monkeypatch.setenv("COLUMNS", wish)
        assert pages.columns_of(Terminal()) == columns  # type: ignore[arg-type]
