"""Which modules a command loads, in this process and in those it forks: each is paid for at every start."""

from __future__ import annotations

import os
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


def modules_of(*arguments: str) -> list[str]:
    """The modules that `jubako ARGUMENTS` loads as it is installed, without the start pack, in the order in which they
    are complete; those of a bare interpreter are left out."""
    import jubako

    main = Path(jubako.__file__).with_name("__main__.py")
    bare = _loaded("-c", "")
    return [name for name in _loaded(str(main), *arguments) if name not in bare]


def kept() -> list[str]:
    return KEPT.read_text().split()


def _loaded(*arguments: str) -> list[str]:
    python = (sys.executable, "-I", "-S", "-X", "importtime")
    environment = {**os.environ, "JUBAKO_DEBUG": "1"}  # the pack is for those who look for no fault
    done = subprocess.run(
        (*python, *arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=environment
    )
    lines = done.stderr.splitlines()
    said = [line for line in lines if not line.startswith("import time:")]
    assert done.returncode == 0, "\n".join(said)
    names = [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")]
    return [name for name in dict.fromkeys(names) if name != "imported package"]


if __name__ == "__main__":
    RUN = ("run", "--rm", "host", "--", "true")
    modules_of(*RUN)  # makes the base, if there is none
    print(*modules_of(*RUN), sep="\n")
