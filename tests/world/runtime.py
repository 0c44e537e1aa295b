"""Driving an OCI runtime from outside, as an engine does.

result = runtime.run(bundle)                # `run` in front; a Result with what the program said
box = runtime.create(bundle)                # `create`; the program's streams are files of the bundle
box.start()
assert box.state["status"] == "running"
box.read_until("ready")

The runtime is $JUBAKO_TEST_RUNTIME (a command line: `crun --cgroup-manager=disabled`), or `jubako-runtime` beside
`jubako`. Its state lies in a directory of the test's own, and all that the test creates is deleted at its end.
"""

from __future__ import annotations

import itertools
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from world.bundle import Bundle
from world.command import Command, Result, installed_command

_numbers = itertools.count()


def runtime_under_test() -> str:
    """The command line of the runtime."""
    return os.environ.get("JUBAKO_TEST_RUNTIME") or str(Path(installed_command()).with_name("jubako-runtime"))


@dataclass
class Runtime(Command):
    """A runtime whose state lies in `root`; `flags` are global ones that go before every command."""

    root: Path = Path("/nonexistent")
    flags: tuple[str, ...] = ()
    program: str = field(default_factory=runtime_under_test)
    containers: list[Container] = field(default_factory=list)

    def argv(self, *arguments: str | os.PathLike[str]) -> tuple[str, ...]:
        words = (*shlex.split(self.program), "--root", str(self.root), *self.flags)
        return (*self.prefix, *words, *(os.fspath(argument) for argument in arguments))

    def run(self, bundle: Bundle, *flags: str, id: str | None = None, check: bool = True, **options: Any) -> Result:
        """`run` to the end of the program, in front."""
        box = self._box(bundle, id)
        return self("run", "--bundle", bundle.path, *flags, box.id, check=check, **options)

    def says(self, bundle: Bundle, script: str, **options: Any) -> str:
        """What a shell in the bundle's container prints for `script`, without the last newline."""
        bundle.sh(script)
        return self.run(bundle, **options).stdout.removesuffix("\n")

    def create(
        self, bundle: Bundle, *flags: str, id: str | None = None, check: bool = True, command: str = "create"
    ) -> Container:
        """`create`; with `command="run"` and the flag `--detach` it is started too."""
        box = self._box(bundle, id)
        box.create(command, *flags)
        assert not check or box.created.exit_code == 0, str(box.created)
        return box

    def start_new(self, bundle: Bundle, *flags: str, **options: Any) -> Container:
        """`create` and `start`."""
        box = self.create(bundle, *flags, **options)
        box.start()
        return box

    def refuses(self, bundle: Bundle, *flags: str) -> str:
        """What the runtime says of a bundle of which it makes no container, and leaves nothing of it."""
        box = self.create(bundle, *flags, check=False)
        assert box.created.exit_code != 0, f"created in spite of all: {box.created}"
        assert not (self.root / box.id).exists(), "there is something of the container that could not be created"
        self.containers.remove(box)
        return box.created.stderr

    def fails(self, bundle: Bundle) -> str:
        """What the runtime says of a bundle whose program it does not start, be it that `create` or `start` fails."""
        box = self.create(bundle, check=False)
        if box.created.exit_code != 0:
            return box.created.stderr
        result = box.start(check=False)
        assert result.exit_code != 0, f"started in spite of all: {box.output}"
        return result.stderr

    def _box(self, bundle: Bundle, id: str | None) -> Container:
        bundle.write()
        box = Container(self, bundle, new_id() if id is None else id)
        self.containers.append(box)
        return box

    def close(self) -> None:
        """Delete all that was created and end what was started."""
        super().close()
        for box in reversed(self.containers):
            if (self.root / box.id).exists():
                self("delete", "--force", box.id)
        left = [box.id for box in self.containers if (self.root / box.id).exists()]
        assert not left, f"the runtime's state still has {left}"
        self.containers.clear()


@dataclass
class Container:
    runtime: Runtime
    bundle: Bundle
    id: str
    created: Result = field(default_factory=lambda: Result((), "", "", -1))
    """How `create` ended."""
    number: int = field(default_factory=lambda: next(_numbers))

    def create(self, command: str, *flags: str) -> None:
        # Files, not pipes: the container's program keeps the streams that `create` had.
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            done = subprocess.run(
                self.runtime.argv(command, "--bundle", self.bundle.path, *flags, self.id),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self.runtime.environment(),
                cwd=self.runtime.cwd,
                timeout=60,
                pass_fds=(),
            )
        self.created = Result(tuple(done.args), self.output, self.errors, done.returncode)

    @property
    def out(self) -> Path:
        return self.bundle.path / f"{self.number}.out"

    @property
    def err(self) -> Path:
        return self.bundle.path / f"{self.number}.err"

    @property
    def output(self) -> str:
        """What the program has written to its standard output so far."""
        return self.out.read_text(errors="backslashreplace")

    @property
    def errors(self) -> str:
        """What `create`, and then the program, have written to standard error."""
        return self.err.read_text(errors="backslashreplace")

    def start(self, check: bool = True) -> Result:
        return self.runtime("start", self.id, check=check)

    @property
    def state(self) -> dict[str, Any]:
        """The output of `state`."""
        state: dict[str, Any] = self.runtime("state", self.id, check=True).json
        return state

    @property
    def status(self) -> str:
        status: str = self.state["status"]
        return status

    @property
    def pid(self) -> int:
        pid: int = self.state["pid"]
        return pid

    def kill(self, *arguments: str, check: bool = True) -> Result:
        return self.runtime("kill", self.id, *arguments, check=check)

    def delete(self, *flags: str, check: bool = True) -> Result:
        return self.runtime("delete", *flags, self.id, check=check)

    def exec(self, *argv: str, flags: Sequence[str] = (), check: bool = True, **options: Any) -> Result:
        """`exec` in front."""
        return self.runtime("exec", *flags, self.id, *argv, check=check, **options)

    def read_until(self, text: str, timeout: float = 20) -> str:
        """Wait until the program has printed `text`; all output so far."""
        until = time.monotonic() + timeout
        while text not in self.output:
            assert time.monotonic() < until, f"no {text!r} in {timeout} s: {self.output!r} {self.errors!r}"
            time.sleep(0.01)
        return self.output

    def wait(self, pid: int | None = None, timeout: float = 20) -> None:
        """Return when the first process has ended."""
        wait_for_end(pid or self.pid, timeout)

    def stop(self) -> None:
        """Kill it and wait for its end."""
        pid = self.pid
        self.kill("KILL")
        wait_for_end(pid)

    def proc(self, name: str) -> str:
        """A file of the first process's directory in the host's /proc."""
        return Path(f"/proc/{self.pid}/{name}").read_text()


def new_id() -> str:
    """An id that no other test run on the machine uses: cgroups may be named after it."""
    return f"jubako-test-{os.getpid()}-{next(_numbers)}"


def wait_for_end(pid: int, timeout: float = 20) -> None:
    """Return when the process `pid` has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([descriptor], [], [], timeout)
    finally:
        os.close(descriptor)
    assert ready, f"process {pid} goes on after {timeout} s"


def end(pid: int) -> None:
    """Kill a process, if it is still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
