"""Killing the runtime at its own n-th system call, by strace's fault injection (strace(1), "Tampering").

kills = Kills(runtime)
for when in kills.moments("create", …):        # how many calls the command makes was counted before
    kills.at(when, "create", …)

Only calls that change something are counted: between two of them a killed process leaves the same.
"""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from world import programs
from world.command import Result
from world.runtime import Runtime

CALLS = (
    *("%file", "%process", "%network", "write", "pwrite64", "flock", "setns", "unshare", "mount", "umount2", "fsmount"),
    *("fsopen", "fsconfig", "move_mount", "open_tree", "mount_setattr", "ioctl", "setresuid", "setresgid", "setsid"),
    *("prctl", "close_range", "pidfd_send_signal", "pidfd_open", "memfd_create", "keyctl"),
)


def depth() -> int:
    """How often to try: $JUBAKO_TEST_DEPTH times what CI has time for."""
    return int(os.environ.get("JUBAKO_TEST_DEPTH", "1"))


@dataclass
class Kills:
    """`followed`: every process of the command is killed at its own n-th call, not the command alone."""

    runtime: Runtime
    followed: bool = False
    strace: str = field(default_factory=lambda: programs.require("strace"))

    def count(self, *words: str | os.PathLike[str]) -> int:
        """How many calls one process of the command makes, if it is not killed."""
        with tempfile.TemporaryDirectory() as name:
            trace = Path(name, "trace")
            result = self._call(("-o", str(trace), "-e", f"trace={','.join(CALLS)}"), *words)
            assert result.exit_code == 0, result
            time.sleep(0.1 if self.followed else 0)
            lines = trace.read_text(errors="replace").splitlines()
        pids = Counter(line.split()[0] if self.followed else "" for line in lines)
        return max(pids.values())

    def moments(self, total: int, several: int) -> Iterator[int]:
        """`several` numbers up to `total`, spread evenly, each at random in its part."""
        several = min(total, several * depth())
        part = total / several
        for number in range(several):
            yield random.randint(int(number * part) + 1, max(int(number * part) + 1, int((number + 1) * part)))

    def at(self, when: int, *words: str | os.PathLike[str]) -> Result:
        """The command, killed at its call number `when`."""
        return self._call(("-o", "/dev/null", "-e", f"inject={','.join(CALLS)}:signal=KILL:when={when}"), *words)

    def _call(self, options: tuple[str, ...], *words: str | os.PathLike[str]) -> Result:
        # With -D the command is our child and strace goes on beside it, as long as there is a process to follow.
        follow = ("-f", "-D") if self.followed else ()
        argv = (self.strace, *follow, "-qq", *options, *self.runtime.argv(*words))
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=60, cwd=self.runtime.cwd,
                env=self.runtime.environment(),
            )  # fmt: skip
            out.seek(0)
            err.seek(0)
            output, errors = (each.read().decode(errors="backslashreplace") for each in (out, err))
        return Result(argv, output, errors, done.returncode)
