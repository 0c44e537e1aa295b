"""The world of the OCI runtime's tests is that of the conformance tests: see there.

`refused` calls the runtime with what no container can be made of, and looks at its answer and at what is left.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from conformance.conftest import (
    _leaves_nothing,
    bundle,
    bundles,
    busybox_program,
    place,
    probe_program,
    runtime,
    runtime_account,
    who,
    world_directory,
)
from world.bundle import Bundle
from world.command import Result
from world.faults import faults_of
from world.runtime import Runtime, new_id

__all__ = [
    "_leaves_nothing",
    "bundle",
    "bundles",
    "busybox_program",
    "place",
    "probe_program",
    "runtime",
    "runtime_account",
    "who",
    "world_directory",
]


class Refusals:
    """`refused(document, "process.args")`: what is wrong with the runtime's answer is gathered, and told at the end of
    the test, so that one test may look at many documents."""

    def __init__(self, runtime: Runtime, bundle: Bundle) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.complaints: list[str] = []

    def __call__(self, document: Any, *texts: str, flags: tuple[str, ...] = (), timeout: float = 30) -> None:
        """`create` with config.json as `document` (bytes, or what JSON can be made of) fails and says `texts`."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        (self.bundle.path / "config.json").write_bytes(data)
        name = new_id()
        result = call(self.runtime, "create", "--bundle", self.bundle.path, *flags, name, timeout=timeout)
        faults = faults_of(result, *texts)
        if result.exit_code == 0:
            self.runtime("delete", "--force", name, check=True)
        if left(self.runtime):
            faults.append(f"left {left(self.runtime)}")
        if faults:
            self.complaints.append(f"{'; '.join(faults)}\n  for {texts or data[:200]}: {str(result)[-2000:]}")


@pytest.fixture
def refused(runtime: Runtime, bundle: Bundle):
    refusals = Refusals(runtime, bundle)
    yield refusals
    assert not refusals.complaints, "\n\n".join(refusals.complaints)


def call(runtime: Runtime, *arguments: str | os.PathLike[str], timeout: float = 30) -> Result:
    """Call it with files for its output, not pipes, which the container's process would hold open."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        argv = runtime.argv(*arguments)
        streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
        done = subprocess.run(argv, env=runtime.environment(), cwd=runtime.cwd, timeout=timeout, **streams)
        out.seek(0), err.seek(0)
        said = [each.read().decode(errors="backslashreplace") for each in (out, err)]
    return Result(argv, *said, done.returncode)


def left(runtime: Runtime) -> list[str]:
    """What lies in the runtime's state directory."""
    return sorted(path.name for path in Path(runtime.root).iterdir()) if runtime.root.exists() else []
