"""The documentation does what it says: its sessions run as written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from world import pages
from world.account import Account
from world.command import installed_command

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
SESSIONS = [page for page in PAGES if pages.MARK in page.read_text()]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A reader's: `jubako` on the PATH, a plain terminal's width."""
    programs = tmp_path_factory.mktemp("bin")
    (programs / "jubako").write_text(f'#!/bin/sh\nexec {installed_command()} "$@"\n')
    (programs / "jubako").chmod(0o755)
    path = f"{programs}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return {**os.environ, "PATH": path, "COLUMNS": "80", "LC_ALL": "C.UTF-8"}


@pytest.mark.parametrize("page", SESSIONS, ids=name_of)
def test_the_session_of_a_page_says_what_the_page_shows(
    page: Path, environment: Mapping[str, str], tmp_path: Path, account: Account
):
    if account.uid == 0:
        pytest.skip("the pages' reader is an ordinary user")
    if not account.ranges:
        pytest.skip("the pages' reader has subordinate ids")
    session = pages.read_session(page)
    outputs = pages.run_session(session, tmp_path, environment)
    told = pages.differences(session, outputs, account)
    if told:
        pytest.fail("\n\n".join(told), pytrace=False)


def test_there_are_pages_with_sessions():
    assert {"docs/how-a-container-is-made.md", "docs/tutorial.md"} <= {name_of(page) for page in SESSIONS}
