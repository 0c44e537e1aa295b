"""The step for overlays that the kernel cannot give: fuse-overlayfs, run by the supervisor in its PID namespace."""

from __future__ import annotations

import errno
import os

from jubako.errors import StepError
from jubako.linux import mount as mnt
from jubako.linux.binding import bind
from jubako.plan.step import SUPERVISOR, Slots, Step, quote, step

_FUSE_SUPER_MAGIC_WAIT = 5.0


@step(actor=SUPERVISOR)
class StartFuseOverlay(Step):
    """An overlay whose files all belong to root inside, whoever owns them on the host (squash_to_root)."""

    program: str
    lower: tuple[str, ...]
    """Layers topmost first; with `assemble`, directories of the host to hang into one lower tree."""
    upper: str
    work: str
    merged: str
    assemble: str = ""
    """An empty directory on which the lower tree is put together first."""
    links: tuple[tuple[str, str], ...] = ()
    squash: bool = False

    def apply(self, slots: Slots) -> None:
        lower = ":".join(self.lower)
        if self.assemble:
            self._assemble()
            lower = self.assemble
        before = os.stat(self.merged).st_dev
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                null = os.open("/dev/null", os.O_RDWR)
                os.dup2(null, 0)
                os.dup2(writer, 1)
                os.dup2(writer, 2)
                os.execv(self.program, [*self._command(lower)])
            finally:
                os._exit(127)
        os.close(writer)
        try:
            self._wait(pid, before, reader)
        finally:
            os.close(reader)

    def _command(self, lower: str) -> tuple[str, ...]:
        options = f"lowerdir={lower},upperdir={self.upper},workdir={self.work}"
        if self.squash:
            options += ",squash_to_root"
        return (self.program, "-f", "-o", options, self.merged)

    def _assemble(self) -> None:
        mnt.mount("tmpfs", self.assemble, "tmpfs", mnt.MS_NOSUID | mnt.MS_NODEV, "mode=755")
        for path, target in self.links:
            os.symlink(target, self.assemble + path)
        for path in self.lower:
            os.mkdir(self.assemble + path, 0o755)
            fd = os.open(self.assemble + path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                bind(path, fd, set_=mnt.MOUNT_ATTR_RDONLY, propagation=mnt.MS_PRIVATE)
            finally:
                os.close(fd)

    def _wait(self, pid: int, before: int, reader: int) -> None:
        import time

        deadline = time.monotonic() + _FUSE_SUPER_MAGIC_WAIT
        while time.monotonic() < deadline:
            if os.stat(self.merged).st_dev != before:
                return
            ended, _status = os.waitpid(pid, os.WNOHANG)
            if ended:
                os.set_blocking(reader, False)
                try:
                    text = os.read(reader, 4096).decode(errors="replace").strip().replace("\n", "; ")
                except BlockingIOError:
                    text = "it ended without a word"
                raise StepError(
                    "run", self.program, reason=text,
                    hint="/dev/fuse must be readable and writable for this user (as root: chmod 666 /dev/fuse)",
                )  # fmt: skip
            time.sleep(0.002)
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), self.merged)

    def call(self) -> str:
        made = ""
        if self.assemble:
            made = f'mount("tmpfs", {quote(self.assemble)}, "tmpfs", MS_NOSUID|MS_NODEV, "mode=755"); '
            made += "for each lower directory: mkdir, bind; "
        lower = self.assemble or ":".join(self.lower)
        return f"{made}fork(); execve({quote(self.program)}, [{', '.join(map(quote, self._command(lower)))}])"

    def operation(self) -> str:
        return "mount fuse-overlayfs on"

    def subject(self) -> str:
        return self.merged
