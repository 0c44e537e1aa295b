"""The how-to pages: every `jubako` line is one that the program understands, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.cli import main, table
from jubako.cli.flags import parse

DOCS = next((parent / "docs" for parent in Path(__file__).parents if (parent / "docs").is_dir()), None)
if DOCS is None:
    pytest.skip("the documentation is not beside the tests", allow_module_level=True)


def command_lines() -> Iterator[tuple[str, str]]:
    """(page, line) of each command line that begins with jubako, also behind a pipe."""
    for page in sorted(DOCS.glob("how-to/*.md")):
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                for part in line.split(" | "):
                    if re.match(r"\$? ?jubako\s", part):
                        yield page.name, part.strip()


@pytest.mark.parametrize(("page", "line"), list(dict.fromkeys(command_lines())))
def test_every_command_line_is_understood(page, line):
    words = shlex.split(line, comments=True)[1:]
    if words[0] == "--root":
        words = words[2:]
    name, rest = table.resolve(words)
    assert name, f"{page}: no such command: {line}"
    parse(main.load(name).COMMAND, rest)


@pytest.mark.parametrize("page", sorted(DOCS.glob("**/*.md")), ids=lambda page: page.name)
def test_every_link_to_another_page_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
