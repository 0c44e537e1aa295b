"""A fake root that runs, seen from outside: its state directory, its processes, its REST API.

root = open_fake_root(jubako, tmp_path / "state", "--net=none")
root.ask("GET", "/v1/info")                 # (status, document)
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from world.box import eventually
from world.command import Command


def named(jubako: Command, name: str) -> Command:
    """The command that is installed beside `jubako` under the name `name`."""
    return replace(jubako, program=str(Path(jubako.program).with_name(name)), _started=jubako._started)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str | os.PathLike[str], timeout: float = 20) -> None:
        super().__init__("rootlesskit", timeout=timeout)
        self.path = os.fspath(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(path: str | os.PathLike[str], method: str, target: str, body: object = None, **headers: str) -> tuple[int, Any]:
    """One request: the status and the JSON document of the answer. `body` is bytes, or becomes JSON."""
    connection = UnixConnection(path)
    try:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, target, data, headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


@dataclass
class FakeRoot:
    """`running` is the command's process, `state` the state directory."""

    running: subprocess.Popen[str]
    state: Path

    @property
    def program(self) -> int:
        """The pid of the program's process."""
        return int((self.state / "child_pid").read_text())

    @property
    def supervisor(self) -> int:
        """The pid of the supervisor."""
        pid = self.running.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return next(int(child) for child in children if int(child) != self.program)

    def ask(self, method: str, target: str, body: object = None) -> tuple[int, Any]:
        return ask(self.state / "api.sock", method, target, body)

    def close(self) -> int:
        """End the program's input, which it waits for; the exit code."""
        assert self.running.stdin is not None
        self.running.stdin.close()
        return self.running.wait(20)


def open_fake_root(jubako: Command, state: Path, *flags: str, command: tuple[str, ...] = ("cat",)) -> FakeRoot:
    """`jubako rootless FLAGS` with a program that runs until its input ends; returns when the program runs."""
    words = ("sh", "-c", 'echo began; exec "$@"', "sh", *command)
    running = jubako.start("rootless", f"--state-dir={state}", *flags, *words)
    assert running.stdout is not None
    line = running.stdout.readline()
    if line != "began\n":
        assert running.stderr is not None
        raise AssertionError(f"the fake root did not start: {line!r} {running.stderr.read()}")
    return FakeRoot(running, state)


def is_over(*pids: int) -> bool:
    """Whether none of the processes runs (a zombie does not)."""

    def over(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return True

    return eventually(lambda: all(over(pid) for pid in pids), 10)


def descendants(pid: int) -> set[int]:
    """All processes below `pid`."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        try:
            children = [int(child) for child in Path(f"/proc/{each}/task/{each}/children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.update(children)
        waiting += children
    return found
