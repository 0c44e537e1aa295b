"""Which sentence of a specification a test proves; the page of the conformance tests is made from these marks.

@rule("config.md", "Mounts", "MUST", "Entries are mounted in the listed order.")
def test_mounts_are_made_in_order(...)

Marks are read from the source (`world.conformance`), so their arguments are plain strings. Besides the documents of the
OCI runtime specification (`runtime.md`, `config-linux.md` …) there is `command line`: what runc and crun have in common
and engines rely on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

_Test = TypeVar("_Test", bound=Callable[..., Any])


def rule(document: str, section: str, level: str, sentence: str) -> Callable[[_Test], _Test]:
    """Marks a test; several marks at one test are several rules. `level` is MUST, SHOULD, MAY or `common`."""

    def mark(test: _Test) -> _Test:
        return test

    return mark


def only_root(test: _Test) -> _Test:
    """The test runs in root's pass only."""
    marked: _Test = pytest.mark.parametrize("who", [pytest.param("root", marks=pytest.mark.root)], indirect=True)(test)
    return marked


def only_rootless(test: _Test) -> _Test:
    """The test runs as an ordinary user only."""
    marked: _Test = pytest.mark.parametrize("who", ["rootless"], indirect=True)(test)
    return marked


def in_cgroup(test: _Test) -> _Test:
    """The test runs in a private view of cgroup v2, as root and as a user with a delegated group; in root's pass."""
    cases = [pytest.param(who, marks=pytest.mark.root) for who in ("root in a cgroup", "user in a cgroup")]
    marked: _Test = pytest.mark.parametrize("who", cases, indirect=True)(test)
    return marked
