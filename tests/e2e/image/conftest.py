"""A store of the test's own; the base is the account's, since it stays between commands by design."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jubako.image.inbase import run_in_base
from jubako.paths import Paths, find_paths
from jubako.record import replace
from jubako.runtime.base import in_base


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Paths]:
    """An empty store, removed with all its files of other ids."""
    for directory in (tmp_path, *tmp_path.parents[:2]):  # pytest's own are for the caller only, root's base is another
        if os.getuid() == 0:
            directory.chmod(0o711)
    found = replace(find_paths(), data=str(tmp_path / "store"))
    yield found
    if os.path.isdir(found.data):
        for top, names, _files in os.walk(found.data):
            if "fs" in names:
                names[:] = []
                fd = os.open(f"{top}/fs", os.O_PATH | os.O_DIRECTORY)
                run_in_base(found, "jubako.image.remove:empty_handle", {"handle": fd}, (fd,))
                os.close(fd)


@pytest.fixture
def inside(store: Paths) -> Callable[[Callable[[], Any]], Any]:
    """Calls a function inside the base, where the ids of layers' files can be seen, and gives what it returns."""

    def call(function: Callable[[], Any]) -> Any:
        reader, writer = os.pipe()
        try:
            in_base(store, lambda: os.write(writer, json.dumps(function()).encode()) and None)
        finally:
            os.close(writer)
        with open(reader, "rb") as file:
            return json.loads(file.read())

    return call
