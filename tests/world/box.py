"""A running container with a shell in it, looked at from both sides: asked inside, and read in the host's /proc.

box = open_box("--rootfs", rootfs)          # jubako run -i --rm --rootfs ROOTFS sh
assert box.ask("hostname") == "box"         # inside
assert box.namespace("uts") != own("uts")   # outside
"""

from __future__ import annotations

import itertools
import os
import select
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from world.command import Command

KINDS = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time")
_words = itertools.count()


@dataclass
class Box:
    """`running` is the `jubako run` in front; its container's first process reads commands from a pipe."""

    running: subprocess.Popen[str]
    _pid: int = field(default=0)

    def ask(self, command: str, timeout: float = 8) -> str:
        """What `command` prints inside, standard error too, without the last newline."""
        assert self.running.stdin is not None
        assert self.running.stdout is not None
        mark = f"---end-{next(_words)}---"
        self.running.stdin.write(f"{{ {command}\n}} 2>&1 </dev/null; echo; echo {mark}\n")
        self.running.stdin.flush()
        text = _read_to(self.running.stdout, mark, timeout, self.running)
        return text.removesuffix("\n").removesuffix("\n")

    @property
    def pid(self) -> int:
        """The host's pid of the container's first process: a child of the supervisor, which is the command's child."""
        if not self._pid:
            self._pid = only_child(only_child(self.running.pid))
        return self._pid

    def proc(self, name: str) -> str:
        """A file of that process's directory in the host's /proc."""
        return Path(f"/proc/{self.pid}/{name}").read_text()

    def status(self, name: str) -> str:
        """One value of /proc/PID/status."""
        return next(
            line.partition(":")[2].strip() for line in self.proc("status").splitlines() if line.startswith(name)
        )

    def namespace(self, kind: str) -> str:
        return os.readlink(f"/proc/{self.pid}/ns/{kind}")

    def close(self) -> int:
        """End it as a user does, by ending its shell; the exit code."""
        assert self.running.stdin is not None
        self.running.stdin.close()
        return self.running.wait(20)


def open_box(jubako: Command, *arguments: str | os.PathLike[str], shell: str = "sh", **options: object) -> Box:
    """Start it and wait until its shell answers; `arguments` are the flags of `jubako run` and the image, if any."""
    image = () if "--rootfs" in arguments else ("host",)
    if arguments and arguments[-1] in ("host", "host:rw"):
        image = ()
    running = jubako.start("run", "-i", "--rm", *arguments, *image, shell, **options)  # type: ignore[arg-type]
    box = Box(running)
    assert box.ask("echo ready") == "ready"
    return box


def only_child(pid: int) -> int:
    """The pid of the one child that `pid` has."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 1, f"process {pid} has the children {children}"
    return int(children[0])


def own(kind: str) -> str:
    """A namespace of the test's own process."""
    return os.readlink(f"/proc/self/ns/{kind}")


def id_map(text: str) -> list[tuple[int, int, int]]:
    """A uid_map or gid_map as numbers."""
    rows = [tuple(map(int, line.split())) for line in text.splitlines()]
    return [(inside, outside, size) for inside, outside, size in rows]


def eventually(condition: Callable[[], bool], timeout: float = 10) -> bool:
    """Whether `condition()` becomes true in time: what the kernel does a moment later."""
    until = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _read_to(stream: IO[str], mark: str, timeout: float, running: subprocess.Popen[str]) -> str:
    data, until = b"", time.monotonic() + timeout
    end = f"{mark}\n".encode()
    while not data.endswith(end):
        ready, _, _ = select.select([stream], [], [], max(0.0, until - time.monotonic()))
        assert ready, f"no answer in {timeout} s; so far: {data!r}"
        more = os.read(stream.fileno(), 65536)
        if not more:
            assert running.stderr is not None
            raise AssertionError(f"it ended ({running.wait(10)}); it said: {data!r} {running.stderr.read()!r}")
        data += more
    return data.removesuffix(end).decode(errors="backslashreplace")
