"""A throw-away layer in memory: the step that makes room for it in the container's own mount namespace."""

from __future__ import annotations

import os

from jubako.linux import mount as mnt
from jubako.plan.step import Slots, Step, step


@step()
class MountScratch(Step):
    """What the container writes above its image lives in its own memory, and ends with it: nothing to clean up."""

    path: str
    directories: tuple[str, ...]

    def apply(self, slots: Slots) -> None:
        mnt.mount("tmpfs", self.path, "tmpfs", mnt.MS_NOSUID | mnt.MS_NODEV, "mode=755")
        for directory in self.directories:
            os.makedirs(directory, 0o755, exist_ok=True)

    def call(self) -> str:
        return f'mount("tmpfs", "{self.path}", "tmpfs", MS_NOSUID|MS_NODEV, "mode=755"); mkdir({", ".join(self.directories)})'

    def subject(self) -> str:
        return self.path
