"""A criu that works on this kernel: the system's, or else the one of the root file system that the clients' tests have.

criu knows the layout of the kernel's own pages in each process, so a distribution's is often too old for a kernel that
is newer than it: then its tests are skipped, with what it says.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from world import programs


def require_criu(place: Path) -> Path:
    """Its path; a script in `place` starts one that has its libraries elsewhere."""
    reason = "criu is not installed"
    for program in _candidates(place):
        done = subprocess.run((program, "check"), capture_output=True, text=True)
        if done.returncode == 0:
            return program
        reason = f"{program} does not work on this kernel: {done.stderr.strip()}"
    pytest.skip(reason)


def tracks_memory(program: Path) -> bool:
    """Whether the kernel tells criu which memory has changed."""
    command = (program, "check", "--feature", "mem_dirty_track")
    return subprocess.run(command, capture_output=True).returncode == 0


def _candidates(place: Path) -> list[Path]:
    found = programs.find("criu")
    candidates = [Path(found)] if found else []
    root = Path(os.environ.get("JUBAKO_TEST_CLIENTS") or "/nonexistent")
    loaders = [*root.glob("lib64/ld-linux-*.so.*"), *root.glob("lib/ld-linux-*.so.*")]
    if (root / "usr/sbin/criu").exists() and loaders:
        libraries = ":".join(str(path) for path in root.glob("usr/lib/*-linux-gnu*"))
        words = (str(loaders[0]), "--library-path", libraries, str(root / "usr/sbin/criu"))
        script = place / "criu"
        script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        script.chmod(0o755)
        candidates.append(script)
    return candidates
