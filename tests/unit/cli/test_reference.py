"""The reference page says what the program does, always."""

from __future__ import annotations

from pathlib import Path

from jubako.cli import table
from jubako.cli.reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


def test_the_reference_page_is_current():
    assert PAGE.read_text() == reference(), "run: python -m jubako.cli.reference > docs/reference/cli.md"


def test_every_visible_command_has_its_chapter():
    page = reference()
    for name, entry in table.COMMANDS.items():
        assert (f"\n## jubako {name}\n" in page) is not entry.hidden
