"""On a full disk nothing new can be made, but what is there can be listed and removed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from jubako.engine import store
from jubako.engine.reaping import reap_container
from jubako.errors import JubakoError
from jubako.paths import Paths


def refuse(path: str, document: object) -> None:
    raise JubakoError("write", path, errno=errno.ENOSPC)


def test_a_container_whose_end_cannot_be_written_down_is_settled_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, identifier = Paths(f"{tmp_path}/data", f"{tmp_path}/run", f"{tmp_path}/cache"), "a" * 64
    directory = store.container_directory(paths, identifier)
    os.makedirs(directory)
    store.write_document(directory + "/container.json", {"name": "one"})
    store.write_state(directory, store.State(store.RUNNING, monitor=4_000_000, monitor_start=1))
    monkeypatch.setattr(store, "write_document", refuse)
    reap_container(paths, identifier)
    found = store.read_container(paths, identifier)
    assert found is not None
    assert (found.state.status, found.state.exit_code) == (store.EXITED, store.KILLED)


def test_a_container_that_cannot_be_begun_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = Paths(f"{tmp_path}/data", f"{tmp_path}/run", f"{tmp_path}/cache")
    monkeypatch.setattr(store, "write_document", refuse)
    with pytest.raises(JubakoError):
        store.new_container(paths, "b" * 64, "one")
    assert os.listdir(paths.containers) == os.listdir(paths.names) == []
