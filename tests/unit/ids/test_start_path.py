"""The ids room is imported by every container start: nothing heavy may come with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jubako.ids

HEAVY = {
    "typing",
    "dataclasses",
    "collections",
    "re",
    "json",
    "enum",
    "argparse",
    "pathlib",
    "contextlib",
    "functools",
    "subprocess",
    "socket",
    "struct",
    "logging",
    "tempfile",
    "shutil",
    "inspect",
    "asyncio",
    "threading",
    "selectors",
    "signal",
    "random",
    "warnings",
    "ctypes",
    "pwd",
}


def test_importing_all_of_ids_loads_nothing_heavy() -> None:
    room = Path(jubako.ids.__file__).parent
    modules = ", ".join(f"jubako.ids.{path.stem}" for path in room.glob("*.py") if path.stem != "__init__")
    program = f"import sys; sys.path.insert(0, {str(room.parent.parent)!r})\nimport {modules}\nprint(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(result.stdout.split())
    assert "jubako.ids.mapping" in loaded
    assert loaded.isdisjoint(HEAVY)
