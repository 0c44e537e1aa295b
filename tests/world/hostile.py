"""What an attacker does from outside of a container that is being made: another container that shares its files.

with swapping(shared / "directory", shared / "link") as swaps:
    ...                         # each of the two is the other in turn, thousands of times a second
assert swaps.count > 1000       # or there was no race
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_RENAME_EXCHANGE = 2


@dataclass
class Swaps:
    count: int = 0


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[Swaps]:
    """Exchange the two names without a pause (renameat2(2)); at the end both are as they were."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = [os.fsencode(path) for path in (one, other)]
    swaps, stop = Swaps(), threading.Event()

    def exchange() -> None:
        if libc.renameat2(-100, names[0], -100, names[1], _RENAME_EXCHANGE) == 0:
            swaps.count += 1

    def go_on() -> None:
        while not stop.is_set():
            exchange()

    swapper = threading.Thread(target=go_on)
    swapper.start()
    try:
        yield swaps
    finally:
        stop.set()
        swapper.join()
        if swaps.count % 2:
            exchange()


@dataclass(frozen=True)
class Victim:
    """A directory of the host that a hostile root file system would like to reach."""

    path: Path
    text: str = "untouched\n"

    def make(self) -> None:
        (self.path / "empty").mkdir(parents=True)
        for name in ("file", "exec"):
            (self.path / name).write_text(self.text)
            (self.path / name).chmod(0o600)

    @property
    def changes(self) -> list[str]:
        """What is not as it was made; and what is mounted at it or below, for this process."""
        found = []
        if sorted(os.listdir(self.path)) != ["empty", "exec", "file"]:
            found.append(f"it has {sorted(os.listdir(self.path))}")
        if os.listdir(self.path / "empty"):
            found.append(f"its empty directory has {os.listdir(self.path / 'empty')}")
        for name in ("file", "exec"):
            status = (self.path / name).lstat()
            if (self.path / name).read_text() != self.text or status.st_mode & 0o7777 != 0o600:
                found.append(f"{name} was written to, or its mode is {status.st_mode:o}")
            if status.st_uid != self.path.stat().st_uid:
                found.append(f"{name} belongs to {status.st_uid}")
        if f" {self.path}" in Path("/proc/self/mountinfo").read_text():
            found.append("something is mounted there")
        return found

    def links(self) -> dict[str, str]:
        """Ways to write a link to it: from the host's root, up from wherever the link is, through a magic link."""
        return {
            "absolute": str(self.path),
            "upwards": "../" * 20 + str(self.path)[1:],
            "magic": f"/proc/self/root{self.path}",
            "through the first process": f"/proc/1/root{self.path}",
        }
