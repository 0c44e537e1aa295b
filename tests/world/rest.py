"""Waiting until a process that was started has done what it does at once and waits for something itself.

A fixed pause before a signal or a look at a process is too long on most machines and too short on a busy one.
"""

from __future__ import annotations

import time
from pathlib import Path

_LOOKS = 6
_PAUSE = 0.03


def at_rest(pid: int, timeout: float = 20) -> None:
    """Return when the process sleeps at every one of several looks in a row and has used no time between them."""
    until = time.monotonic() + timeout
    quiet, used = 0, -1
    while quiet < _LOOKS:
        assert time.monotonic() < until, f"process {pid} was still busy after {timeout} s"
        time.sleep(_PAUSE)
        state, ticks = _look(pid)
        quiet = quiet + 1 if state == "S" and ticks == used else 0
        used = ticks


def processor_ticks(pid: int) -> int:
    """The time that the process has used, in the kernel's ticks of 10 ms."""
    return _look(pid)[1]


def _look(pid: int) -> tuple[str, int]:
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[11]) + int(fields[12])
