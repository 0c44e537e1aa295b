"""A throw-away layer in memory: what a container writes above its image ends with its mount namespace.

So there is nothing on disk to make, to count or to remove, however the container ends. It is a tmpfs (its default limit
is half of the machine's memory), on which overlayfs or fuse-overlayfs keeps the writable layer.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError
from jubako.linux import clone
from jubako.linux import mount as mnt
from jubako.paths import Paths
from jubako.plan.host import RootSource
from jubako.plan.step import SUPERVISOR, Slots, Step, step
from jubako.plan.steps.fuse import StartFuseOverlay
from jubako.plan.steps.rootfs import MountOverlay, OpenPaths, open_device


@step()
class MountScratch(Step):
    """What the container writes above its image lives in its own memory, and ends with it: nothing to clean up."""

    path: str
    directories: tuple[str, ...]
    owner: tuple[int, int] = (-1, -1)
    """The container's root as this process counts ids; -1 for the process itself."""

    def apply(self, slots: Slots) -> None:
        place = slots.path(self.path)
        mnt.mount("tmpfs", place, "tmpfs", mnt.MS_NOSUID | mnt.MS_NODEV, "mode=755")
        for directory in self.directories:
            path = place + directory.removeprefix(self.path)
            os.makedirs(path, 0o755, exist_ok=True)
            os.chown(path, *self.owner)
            self._keep(slots, directory, path)

    def _keep(self, slots: Slots, directory: str, path: str) -> None:
        """Hold a directory for later steps, which may not be able to walk to it."""
        slots["path:" + directory] = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def call(self) -> str:
        made = ", ".join(self.directories)
        return f'mount("tmpfs", "{self.path}", "tmpfs", MS_NOSUID|MS_NODEV, "mode=755"); mkdir({made})'

    def subject(self) -> str:
        return self.path


@step(actor=SUPERVISOR)
class MountSupervisorScratch(MountScratch):
    """As `MountScratch`, in the supervisor's mount namespace: fuse-overlayfs runs there."""

    def _keep(self, slots: Slots, directory: str, path: str) -> None:
        """Nothing: a descriptor of this mount namespace could not be bound in the container's."""


@step()
class OpenMasks(Step):
    """What masked paths will be covered with: an empty read-only directory and the null device, ready in the launcher.

    All of a launcher's containers share the directory; nobody can write to it, and it holds nothing.
    """

    path: str

    produces = ("mask_directory", "mask_file")

    def apply(self, slots: Slots) -> None:
        slots["mask_directory"] = os.open(slots.path(self.path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        slots["mask_file"] = open_device("/dev/null", 1, 3)

    def call(self) -> str:
        return f'open("{self.path}", O_PATH|O_DIRECTORY); open("/dev/null", O_PATH)'

    def subject(self) -> str:
        return self.path


def add_scratch(steps: list[Step], root: RootSource, path: str, owner: tuple[int, int]) -> list[Step]:
    """`steps` with a scratch file system at `path`, made right before the layer that lies on it.

    `owner` is the container's root as a supervisor counts ids.
    """
    result: list[Step] = []
    overlays = [item for item in steps if isinstance(item, MountOverlay)]
    for item in steps:
        if overlays and item is overlays[0]:
            result.append(MountScratch(path, tuple(p for overlay in overlays for p in (overlay.upper, overlay.work))))
        elif isinstance(item, StartFuseOverlay):
            result.append(MountSupervisorScratch(path, (root.upper, root.work, root.path), owner))
        elif isinstance(item, OpenPaths):  # what lies on the scratch file system is not there yet
            item = OpenPaths(tuple(p for p in item.paths if not p.startswith(path + "/")))
        result.append(item)
    return result


def probe_storage(paths: Paths, path: str) -> None:
    """Find out whether the kernel's overlayfs works on such a scratch file system, and note it in `paths.run`.

    The process is in the base already, so a child of its own with its own mount namespace can simply try.
    """
    from jubako.image.storage import StorageFacts, find_fuse_overlayfs, remember_facts, try_overlay

    reader, writer = os.pipe()
    pid, pidfd = clone.clone(clone.CLONE_NEWNS)
    if pid == 0:
        try:
            mnt.mount("tmpfs", path, "tmpfs", mnt.MS_NOSUID | mnt.MS_NODEV, "mode=755")
            try_overlay(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except (JubakoError, OSError) as failure:
            os.write(writer, str(failure).partition("\n")[0].encode()[:1024])
        finally:
            os._exit(0)
    os.close(writer)
    os.close(pidfd)
    with open(reader, "rb") as file:
        obstacle = file.read().decode(errors="replace")
    os.waitpid(pid, 0)
    program, fuse_obstacle = find_fuse_overlayfs()
    remember_facts(paths, StorageFacts(obstacle, program, fuse_obstacle))
