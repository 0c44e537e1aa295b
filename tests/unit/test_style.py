"""The project's own rules, checked by tools: ruff, mypy --strict, the rooms' import order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
TOOLS = {
    "ruff": ("ruff", "check", "--no-fix", "--output-format", "concise", "."),
    "mypy": ("mypy",),
    "import order": ("lint-imports", "--no-cache"),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("tool", TOOLS)
def test_the_linters_have_nothing_to_say(tool: str, tmp_path: Path) -> None:
    name, *arguments = TOOLS[tool]
    environment = {"RUFF_CACHE_DIR": f"{tmp_path}/ruff", "MYPY_CACHE_DIR": f"{tmp_path}/mypy", **os.environ}
    environment["PYTHONPATH"] = str(PROJECT / "src")  # the source, not what is installed
    done = subprocess.run(
        (Path(sys.executable).with_name(name), *arguments), cwd=PROJECT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_developers_script_is_plain_sh() -> None:
    for script in ("dev", "bin/jubako", "tests/clients/make_root.sh"):
        subprocess.run(("sh", "-n", PROJECT / script), check=True)
        assert os.access(PROJECT / script, os.X_OK), f"{script} lacks its run bit"
