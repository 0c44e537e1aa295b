"""Whole processes, one after the other in turns, so that noise meets all alike; what counts is the ratio of medians."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_WARM_UP = 3


@dataclass(frozen=True)
class Times:
    """One command's times in milliseconds."""

    name: str
    times: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def best(self) -> float:
        return min(self.times)

    @property
    def quartiles(self) -> tuple[float, float]:
        first, _middle, third = statistics.quantiles(self.times, n=4)
        return first, third


def take_turns(commands: Mapping[str, Sequence[str]], rounds: int, environment: Mapping[str, str]) -> dict[str, Times]:
    """Run every command `rounds` times, in turns, with nothing at its standard streams."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + _WARM_UP):
        for name, argv in commands.items():
            taken = run(argv, environment)
            if turn >= _WARM_UP:
                times[name].append(taken)
    return {name: Times(name, tuple(values)) for name, values in times.items()}


def run(argv: Sequence[str], environment: Mapping[str, str]) -> float:
    """Milliseconds from posix_spawn(3), which copies nothing of this process, to the end."""
    program = shutil.which(argv[0], path=environment.get("PATH"))
    if program is None:
        raise FileNotFoundError(argv[0])
    nothing = [
        (os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY, 0) for number in range(3)
    ]
    began = time.perf_counter()
    pid = os.posix_spawn(program, list(argv), dict(environment), file_actions=nothing)
    _pid, status = os.waitpid(pid, 0)
    taken = (time.perf_counter() - began) * 1000
    if status:
        raise RuntimeError(f"{' '.join(argv)}: exit status {os.waitstatus_to_exitcode(status)}")
    return taken
