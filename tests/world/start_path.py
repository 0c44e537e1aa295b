"""Which modules a command loads, in this process and in those it forks: each is paid for at every start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = frozenset(
    """
    argparse asyncio collections contextlib dataclasses enum functools importlib.metadata importlib.resources inspect
    json logging pathlib random re rich selectors shutil signal site socket sqlite3 subprocess tempfile threading
    traceback typing warnings
    """.split()  # noqa: SIM905 - a list of words, one a line, is no easier to read
)
"""Each costs from two to thirty milliseconds, or brings in one that does."""

KEPT = Path(__file__).parents[2] / "src/jubako/data/start-path.txt"
"""Shipped with the package: the start pack holds those of the list that are jubako's own."""


def modules_of(*arguments: str) -> set[str]:
    """The modules that `jubako ARGUMENTS` loads as it is installed, those of a bare interpreter left out."""
    import jubako

    main = Path(jubako.__file__).with_name("__main__.py")
    return _loaded(str(main), *arguments) - _loaded("-c", "")


def kept() -> set[str]:
    return set(KEPT.read_text().split())


def _loaded(*arguments: str) -> set[str]:
    python = (sys.executable, "-I", "-S", "-X", "importtime")
    done = subprocess.run((*python, *arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    lines = done.stderr.splitlines()
    said = [line for line in lines if not line.startswith("import time:")]
    assert done.returncode == 0, "\n".join(said)
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")} - {"imported package"}


if __name__ == "__main__":
    print(*sorted(modules_of("run", "--rm", "host", "--", "true")), sep="\n")
