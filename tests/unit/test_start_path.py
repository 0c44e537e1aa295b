"""The rooms of the start path, each loaded alone; `tests/e2e/test_start_path.py` looks at whole starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import jubako
from world.start_path import HEAVY

PACKAGE = Path(jubako.__file__).parent
ROOMS_OF_THE_START = (
    *("errors", "record", "jsontext", "paths", "linux", "ids", "spec", "plan", "runtime", "oci"),
    *("engine.options", "engine.build", "engine.run", "image.resolve", "cli.main", "cli.commands.run"),
)
TRIAL = """
import sys
sys.path.append(sys.argv[1])
for name in sys.argv[2:]:
    __import__(name)
print(*sorted(sys.modules))
"""


@pytest.mark.parametrize("room", ROOMS_OF_THE_START)
def test_a_room_of_the_start_path_loads_nothing_heavy(room: str) -> None:
    place = PACKAGE / room.replace(".", "/")
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    modules = [
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for file in files
        if file.is_file()
    ]
    done = subprocess.run(
        (sys.executable, "-I", "-S", "-c", TRIAL, str(PACKAGE.parent), *modules), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    heavy = HEAVY.intersection(done.stdout.split())
    assert not heavy, f"{', '.join(sorted(heavy))} in {room}: import it inside the function that needs it"
