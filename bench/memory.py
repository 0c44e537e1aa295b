"""What a detached container costs beside its own processes: its supervisor's proportional set size (proc_pid_smaps(5)).

Pages of the interpreter that others use as well are divided among them; `alone` counts them in full, as on a machine
where nothing else runs in Python.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """In MB of 10^6 bytes, the median of a few containers."""

    proportional: float
    alone: float


def supervisor_cost(command: str, root: str, environment: Mapping[str, str], count: int = 5) -> Cost:
    """Start detached containers one by one and look at each."""
    found = sorted(_cost_of_one(command, root, environment) for _ in range(count))
    return Cost(*found[count // 2])


def _cost_of_one(command: str, root: str, environment: Mapping[str, str]) -> tuple[float, float]:
    def jubako(*words: str) -> str:
        done = subprocess.run(
            (command, *words), env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    identifier = jubako("run", "--detach", "--rootfs", root, "/bin/sleep", "60")
    try:
        pid = json.loads(jubako("inspect", identifier))[0]["Jubako"]["SupervisorPid"]
        sizes = _sizes(f"/proc/{pid}/smaps_rollup")
        return sizes["Pss"], sizes["Rss"]
    finally:
        jubako("rm", "--force", identifier)


def proportional_memory(pid: int) -> float:
    """A process's proportional set size; not a number where it hides it from the caller."""
    try:
        return _sizes(f"/proc/{pid}/smaps_rollup")["Pss"]
    except PermissionError:
        return float("nan")


def _sizes(path: str) -> dict[str, float]:
    sizes = {}
    with open(path) as file:
        for line in file:
            name, _, rest = line.partition(":")
            if rest.strip().endswith("kB") and name in ("Pss", "Rss"):
                sizes[name] = int(rest.split()[0]) * 1024 / 1e6
    return sizes


def machine() -> str:
    """The machine in one line."""
    model = ""
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    system = os.uname()
    return f"{model or system.machine}, {os.cpu_count()} processors, Linux {system.release}"
