"""A network namespace with a supervisor, made as `jubako run` makes them, for tests of one network driver alone.

This process stays in the host's user namespace. Its child is root of a user namespace, the base; the child's child is
the supervisor, PID 1 of a PID namespace, which connects; and below that the namespace's own process, in a user
namespace of its own, runs commands.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from jubako.errors import JubakoError
from jubako.linux.clone import CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWUSER, unshare
from jubako.linux.prctl import set_dumpable
from jubako.linux.rtnetlink import device_index, set_up
from jubako.net import outside
from jubako.net.link import Connection, Link, Where

_OPEN: list[socket.socket] = []


class Refused(Exception):
    """What the driver said; the text that a user sees."""


class Supervised:
    """The namespace, from outside. `prepare` runs in a child that everything comes from, before anything else: it may
    enter namespaces and give up rights. `request` starts the process that stays outside, for lxc-user-nic."""

    def __init__(
        self, directory: Path, prepare: Callable[[], None] = lambda: None, request: outside.Request | None = None
    ) -> None:
        self.directory = directory
        self.link, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.child = os.fork()
        if self.child == 0:
            for link in (self.link, *_OPEN):  # who held another one's open would keep its world alive
                link.close()
            _to_the_end(lambda: _be_base(there, directory, prepare, request))
        there.close()
        _OPEN.append(self.link)
        self.link.settimeout(90)
        self.supervisor: int = self._receive()

    def connect(self, driver: Any) -> Link:
        """Connect by the driver. Raises `Refused`."""
        return self._ask(("connect", driver))  # type: ignore[no-any-return]

    def run(self, *argv: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a program in the namespace, as its root."""
        return self._ask(("run", argv, seconds))  # type: ignore[no-any-return]

    def helpers(self) -> list[tuple[str, int]]:
        """The helpers' names and their pids on the host."""
        return self._ask(("helpers",))  # type: ignore[no-any-return]

    def over(self, name: str) -> str:
        """Wait until the helper of that name has ended; what it wrote."""
        return self._ask(("over", name))  # type: ignore[no-any-return]

    def descriptors(self) -> set[str]:
        """What the supervisor holds open."""
        return self._ask(("descriptors",))  # type: ignore[no-any-return]

    def kill(self) -> None:
        """Kill the supervisor, as `kill -9` does, and wait for the rest of the world to end."""
        os.kill(self.supervisor, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        self.link.close()
        _OPEN[:] = [link for link in _OPEN if link is not self.link]
        if self.child:
            os.waitpid(self.child, 0)
            self.child = 0

    def _ask(self, request: tuple[Any, ...]) -> Any:
        self.link.send(pickle.dumps(request))
        answer = self._receive()
        if isinstance(answer, Refused):
            raise answer
        return answer

    def _receive(self) -> Any:
        data = self.link.recv(1 << 20)
        if not data:
            raise RuntimeError("the supervisor is gone")
        return pickle.loads(data)


def _to_the_end(part: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        part()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _be_base(
    link: socket.socket, directory: Path, prepare: Callable[[], None], request: outside.Request | None
) -> None:
    prepare()
    set_dumpable(True)  # lost by a change of user; without it nobody may write one's maps
    stays = outside.start(request) if request else None
    uid, gid = os.getuid(), os.getgid()
    unshare(CLONE_NEWUSER)
    map_root(uid, gid)
    unshare(CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        _to_the_end(lambda: _supervise(link, directory, stays.fd if stays else -1))
    if stays:
        os.close(stays.fd)
    link.send(pickle.dumps(pid))
    link.close()
    os.waitpid(pid, 0)
    if stays:
        os.waitpid(stays.pid, 0)  # it ends with the supervisor


def map_root(uid: int, gid: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text)


def _supervise(link: socket.socket, directory: Path, stays: int) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        link.close()
        here.close()
        _to_the_end(lambda: _be_namespace(there))
    there.close()
    _data, (network,), _flags, _address = socket.recv_fds(here, 100, 1)
    connection: Connection | None = None
    while data := link.recv(1 << 20):
        request = pickle.loads(data)
        answer: Any
        if request[0] == "connect":
            try:
                connection = request[1].connect(Where(network, str(directory), outside=stays))
                answer = connection.link
            except JubakoError as failure:
                answer = Refused(str(failure))
        elif request[0] == "helpers":
            answer = [(helper.name, _host_pid(helper.pid)) for helper in connection.helpers] if connection else []
        elif request[0] == "over":
            (helper,) = [helper for helper in connection.helpers if helper.name == request[1]] if connection else []
            os.waitpid(helper.pid, 0)
            answer = helper.read().decode()
        elif request[0] == "descriptors":
            answer = {
                os.readlink(f"/proc/self/fd/{fd}") for fd in range(3, 256) if os.path.lexists(f"/proc/self/fd/{fd}")
            }
        else:
            here.send(data)
            answer = pickle.loads(here.recv(1 << 20))
        link.send(pickle.dumps(answer))


def _host_pid(pid: int) -> int:
    from jubako.linux.pidfd import host_pid, open_pidfd

    fd = open_pidfd(pid)
    try:
        return host_pid(fd)
    finally:
        os.close(fd)


def _be_namespace(link: socket.socket) -> None:
    unshare(CLONE_NEWUSER | CLONE_NEWNET)
    map_root(0, 0)
    set_up(device_index("lo"), "lo")
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    socket.send_fds(link, [b"x"], [own])
    os.close(own)
    while data := link.recv(1 << 20):
        _name, argv, seconds = pickle.loads(data)
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
        link.send(pickle.dumps(done))
