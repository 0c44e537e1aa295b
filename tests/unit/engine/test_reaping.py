"""What a killed maker left is removed by whoever comes next; what a living one is at is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jubako.engine.reaping import reap
from jubako.engine.store import State, new_id, write_state
from jubako.linux.boot import boot_id
from jubako.linux.pidfd import start_time
from jubako.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = Paths(f"{tmp_path}/data", f"{tmp_path}/run", f"{tmp_path}/cache")
    os.makedirs(found.containers)
    os.makedirs(found.names)
    return found


def unborn(paths: Paths, pid: object, begun: object, *, state: bool) -> str:
    directory = f"{paths.containers}/{new_id()}.{pid}.{begun}.new"
    os.mkdir(directory)
    if state:
        write_state(directory, State(boot=boot_id()))
    return directory


@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize(("pid", "begun"), [(os.getpid(), 1), (4_000_000, 5), ("", ""), ("x", "-1")])
def test_a_directory_whose_maker_is_gone_goes_at_once(paths: Paths, pid: object, begun: object, state: bool) -> None:
    directory = unborn(paths, pid, begun, state=state)
    reap(paths)
    assert not os.path.exists(directory)


@pytest.mark.parametrize("state", [True, False])
def test_a_directory_whose_maker_lives_stays(paths: Paths, state: bool) -> None:
    directory = unborn(paths, os.getpid(), start_time(os.getpid()), state=state)
    reap(paths)
    assert os.path.exists(directory)
