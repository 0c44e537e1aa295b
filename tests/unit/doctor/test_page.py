"""The page of common problems says what the doctor says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from unit.doctor import paper

PAGE = "docs/how-to/fix-your-machine.md"


def page() -> str:
    for directory in Path(__file__).parents:
        if (directory / PAGE).exists():
            return (directory / PAGE).read_text()
    pytest.skip("the documentation is not beside the tests")


def test_every_remedy_on_the_page_is_the_doctors_own(tmp_path):
    text = page()
    for name, remedy in paper.remedies(tmp_path).items():
        assert remedy, name
        assert f"```sh\n{remedy}\n```" in text, name


def test_every_remedy_can_be_pasted_into_a_shell(tmp_path):
    for name, remedy in paper.remedies(tmp_path).items():
        read = subprocess.run(["sh", "-n"], input=remedy, text=True, capture_output=True)
        assert read.returncode == 0, (name, read.stderr)
