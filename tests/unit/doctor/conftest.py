"""The machine on paper as a fixture, see `paper`."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from jubako.doctor.host import Host
from jubako.doctor.trial import Trial
from unit.doctor import paper

Machine = Callable[..., Host]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """`machine(files, attempts, environ, **fields)`: the machine on paper, changed."""
    return lambda *arguments, **fields: paper.build(tmp_path, *arguments, **fields)


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., None]:
    """`program(path, mode)` puts a program there."""
    return lambda path, mode=0o755: paper.put_program(tmp_path, path, mode)


@pytest.fixture
def refused() -> Trial:
    return Trial(errno.EPERM, "unshare user: Operation not permitted (EPERM)")
