"""Running the installed `jubako` from outside, as a user does.

result = jubako("run", "host", "--", "id", "-u")           # waits; a Result
running = jubako.start("run", "host", "--", "sleep", "9")  # goes on; a subprocess.Popen, ended with the test
terminal = jubako.terminal("run", "-it", "host", "--", "sh")
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from world.account import Account
from world.terminal import Terminal


def installed_command() -> str:
    """$JUBAKO_TEST_COMMAND, or the command beside the interpreter that runs pytest."""
    return os.environ.get("JUBAKO_TEST_COMMAND") or str(Path(sys.executable).with_name("jubako"))


QUIET = {"JUBAKO_NETWORK": "none"}
"""Most tests have no use for a network, and start faster without; those of networks ask for theirs."""


@dataclass(frozen=True)
class Result:
    argv: tuple[str, ...]
    stdout: str
    stderr: str
    exit_code: int

    def __str__(self) -> str:
        said = f"--- stdout\n{self.stdout}--- stderr\n{self.stderr}"
        return f"$ {shlex.join(self.argv)}\nexit code {self.exit_code}\n{said}"

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class Command:
    """The command `jubako`, run as `account` in `cwd`; `prefix` goes before it (another account, a cgroup, strace)."""

    account: Account
    cwd: Path
    prefix: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    program: str = field(default_factory=installed_command)
    _started: list[subprocess.Popen[str] | Terminal] = field(default_factory=list)

    def __call__(
        self,
        *arguments: str | os.PathLike[str],
        input: str | bytes | None = None,
        timeout: float = 60,
        check: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        stdin: int | IO[Any] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Result:
        """Run to the end. `env` is added to the environment; with `check` an exit code other than 0 fails the test."""
        argv = self.argv(*arguments)
        if stdin is None and input is None:
            stdin = subprocess.DEVNULL
        data = input.encode() if isinstance(input, str) else input
        try:
            done = subprocess.run(
                argv,
                input=data,
                stdin=stdin,
                capture_output=True,
                timeout=timeout,
                env=self.environment(env),
                cwd=cwd or self.cwd,
                pass_fds=pass_fds,
            )
        except subprocess.TimeoutExpired as late:
            said = b"".join(part or b"" for part in (late.stdout, late.stderr)).decode(errors="replace")
            raise AssertionError(f"$ {shlex.join(argv)}\nnot finished after {timeout} s; it said:\n{said}") from None
        result = Result(argv, _text(done.stdout), _text(done.stderr), done.returncode)
        assert not check or result.exit_code == 0, str(result)
        return result

    def start(
        self,
        *arguments: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start and let it run, with pipes for all three streams unless `options` (Popen's) say otherwise."""
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        running: subprocess.Popen[str] = subprocess.Popen(
            self.argv(*arguments), env=self.environment(env), cwd=cwd or self.cwd, text=True, **{**streams, **options}
        )
        self._started.append(running)
        return running

    def terminal(
        self,
        *arguments: str | os.PathLike[str],
        rows: int = 24,
        columns: int = 80,
        env: Mapping[str, str] | None = None,
    ) -> Terminal:
        """Start it as the session leader of a new terminal."""
        terminal = Terminal(self.argv(*arguments), rows, columns, self.environment(env), self.cwd)
        self._started.append(terminal)
        return terminal

    def argv(self, *arguments: str | os.PathLike[str]) -> tuple[str, ...]:
        return (*self.prefix, self.program, *(os.fspath(argument) for argument in arguments))

    def environment(self, added: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**QUIET, **os.environ, **self.env, **(added or {})}

    def close(self) -> None:
        """End what was started and close its descriptors."""
        for running in self._started:
            if isinstance(running, Terminal):
                running.close()
                continue
            if running.poll() is None:
                running.kill()
            running.wait(10)
            for stream in (running.stdin, running.stdout, running.stderr):
                if stream is not None:
                    _close(stream)
        self._started.clear()


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def _close(stream: IO[str]) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        pass
