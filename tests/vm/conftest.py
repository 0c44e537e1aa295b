"""Tests that want a machine of their own: systemd, all of cgroup v2, another kernel. `./dev vm-test` boots it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from world.cgroup import GROUPS

IN_MACHINE = "JUBAKO_IN_MACHINE"
collect_ignore_glob = [] if os.environ.get(IN_MACHINE) else ["test_*.py"]

TESTER = 1000


@pytest.fixture
def group() -> Iterator[Path]:
    """A name for a group at the top of the hierarchy, which is removed again with all in it."""
    from jubako.oci.groups import remove_group

    path = Path(f"/sys/fs/cgroup/{GROUPS}{os.getpid()}")
    yield path
    remove_group(str(path))


@pytest.fixture
def as_tester() -> Callable[..., Any]:
    """Run Python as the ordinary user, with `scope` in a delegated group of its own systemd; what it prints as JSON."""

    def run(code: str, *arguments: str, scope: bool = False) -> Any:
        import json

        variables = {"XDG_RUNTIME_DIR": f"/run/user/{TESTER}", "PYTHONPATH": os.environ["PYTHONPATH"], "HOME": "/tmp"}
        prefix = (
            "setpriv",
            f"--reuid={TESTER}",
            f"--regid={TESTER}",
            "--clear-groups",
            "env",
            "-i",
            "PATH=/usr/bin:/bin",
        )
        around = ("systemd-run", "--user", "--scope", "--quiet", "-p", "Delegate=yes") if scope else ()
        words = (*prefix, *(f"{name}={value}" for name, value in variables.items()), *around, sys.executable, "-c")
        done = subprocess.run((*words, textwrap.dedent(code), *arguments), capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    return run


def show(unit: str, *names: str, user: bool = False) -> dict[str, str]:
    """Properties of a unit, as systemctl shows them."""
    machine = ("--machine=tester@", "--user") if user else ()
    command = ("systemctl", *machine, "show", unit, *(f"--property={name}" for name in names))
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}
