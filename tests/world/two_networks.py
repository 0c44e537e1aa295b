"""A small world of two network namespaces, made as an ordinary user: a host with addresses of its own, and a container.

The test's own process stays outside and gets real sockets of both, made there and handed over. What is tested runs in
the *supervisor*: root of a user namespace, first process of a PID namespace, in the host's network namespace; above the
container's own user namespace, as a supervisor of jubako's is. When it ends, all of this world ends.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jubako
from jubako.errors import JubakoError
from jubako.net.ports.spec import PortSpec

HOST = ("192.0.2.1", "2001:db8::1")
CLIENT = ("192.0.2.7", "2001:db8::7")
"""Addresses of the host, and of clients that are elsewhere: all on its lo, so that no other machine is needed."""
INSIDE = ("10.0.2.100", "fd00::100")

_TESTS = str(Path(__file__).parents[1])
_SOURCE = str(Path(jubako.__file__).parents[1])


class Place:
    """A network namespace: makes sockets there."""

    def __init__(self, maker: socket.socket) -> None:
        self.maker = maker

    def make(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, seconds: float = 20) -> socket.socket:
        """A new socket there, with a time limit."""
        self.maker.send(json.dumps(["socket", family, kind]).encode())
        _data, (fd,), _flags, _address = socket.recv_fds(self.maker, 64, 1)
        made = socket.socket(family, kind, fileno=fd)
        made.settimeout(seconds)
        return made

    def listen(self, address: str, port: int, kind: int = socket.SOCK_STREAM, backlog: int = 128) -> socket.socket:
        """A server's socket, bound and for TCP listening."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = self.make(family, kind)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(backlog)
        return made

    def connect(
        self, address: str, port: int, source: str = "", kind: int = socket.SOCK_STREAM, source_port: int = 0
    ) -> socket.socket:
        """A connected socket, from the address `source`."""
        made = self.make(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        if source:
            made.bind((source, source_port))
        made.connect((address, port))
        return made

    def ip(self, *arguments: str) -> str:
        """What ip(8) says there."""
        self.maker.send(json.dumps(["ip", *arguments]).encode())
        return self.maker.recv(1 << 17).decode()


class World:
    """Both places, and the supervisor, which opens one forwarder at a time."""

    def __init__(self, control: socket.socket, host: Place, inside: Place) -> None:
        self.control = control
        self.host = host
        self.inside = inside

    def ask(self, what: str, *arguments: Any) -> Any:
        """Have the supervisor do something; its `JubakoError` becomes the caller's."""
        self.control.send(json.dumps([what, *arguments]).encode())
        answer = json.loads(self.control.recv(1 << 17))
        if "failed" in answer:
            raise JubakoError(**answer["failed"])
        if "crashed" in answer:
            raise RuntimeError(answer["crashed"])
        return answer["done"]

    def open(self, driver: str = "builtin", **options: Any) -> None:
        """Open a forwarder into the container."""
        self.ask("open", driver, options)

    def add(self, host: str, host_port: int, port: int, protocol: str = "tcp", address: str = "") -> PortSpec:
        """Publish a port."""
        return PortSpec(*self.ask("add", host, host_port, address, port, protocol))

    def remove(self, port: PortSpec) -> None:
        """Stop publishing it."""
        self.ask("remove", port.host_address, port.host_port, port.address, port.port, port.protocol)

    def helpers(self) -> list[int]:
        """The pids of the forwarder's helpers; of one that has ended 0."""
        return [int(pid) for pid in self.ask("helpers")]

    def words(self) -> str:
        """What the helpers have written."""
        return str(self.ask("words"))


def descriptors(pid: int) -> int:
    """How many descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something that comes about soon."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


@contextmanager
def make_world(network: str = "veth", limit: int = 0) -> Iterator[World]:
    """A world whose container has a device with addresses, or with `lo` nothing but that, or with `none` not even that
    (a driver brings one). `limit` is the most descriptors of a process."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
    theirs = [pair[1].fileno() for pair in pairs]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((_TESTS, _SOURCE))}
    argv = (sys.executable, "-m", "world.two_networks", network, str(limit), *map(str, theirs))
    running = subprocess.Popen(argv, pass_fds=theirs, env=environment, stdin=subprocess.DEVNULL)
    for _mine, other in pairs:
        other.close()
    control, host, inside = (pair[0] for pair in pairs)
    try:
        control.settimeout(60)
        assert control.recv(64) == b"ready", "no such world could be made"
        yield World(control, Place(host), Place(inside))
    finally:
        for mine, _other in pairs:
            mine.close()
        running.wait(20)


# --- inside of it -----------------------------------------------------------------------------------------------------


def _main(network: str, limit: str, control: int, host: int, inside: int) -> None:
    from jubako.linux.clone import CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWUSER

    if int(limit):
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit), int(limit)))
    _unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID)
    pid = os.fork()
    if pid:
        for fd in (control, host, inside):
            os.close(fd)
        os.waitpid(pid, 0)
        return
    _ip("link", "set", "lo", "up")
    for address in (*HOST, *CLIENT):
        _ip("address", "add", address, "dev", "lo", *(("nodad",) if ":" in address else ()))
    mine, theirs = socket.socketpair()
    if os.fork() == 0:
        mine.close()
        os.close(control)
        os.close(host)
        _unshare(CLONE_NEWUSER | CLONE_NEWNET)
        socket.send_fds(theirs, [b"x"], [os.open("/proc/self/ns/net", os.O_RDONLY)])
        theirs.recv(1)
        if network != "none":
            _ip("link", "set", "lo", "up")
        if network == "veth":
            _set_up_device("tap0", INSIDE, ("10.0.2.2", "fd00::2"))
        theirs.send(b"x")
        _serve(socket.socket(fileno=inside))
        os._exit(0)
    theirs.close()
    os.close(inside)
    _data, (namespace,), _flags, _address = socket.recv_fds(mine, 1, 1)
    if network == "veth":
        from jubako.linux import rtnetlink

        _ip("link", "add", "gateway", "type", "veth", "peer", "name", "tap0")
        rtnetlink.move_device(rtnetlink.device_index("tap0"), namespace, "tap0")
        _set_up_device("gateway", ("10.0.2.2", "fd00::2"), ())
    mine.send(b"x")
    mine.recv(1)
    if os.fork() == 0:
        os.close(control)
        _serve(socket.socket(fileno=host))
        os._exit(0)
    os.close(host)
    _supervise(socket.socket(fileno=control), namespace, network)


def _unshare(flags: int) -> None:
    from jubako.linux.clone import unshare

    uid, gid = os.geteuid(), os.getegid()
    unshare(flags)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text)


def _set_up_device(name: str, addresses: tuple[str, ...], routers: tuple[str, ...]) -> None:
    for address in addresses:
        length = "/64" if ":" in address else "/24"
        _ip("address", "add", address + length, "dev", name, *(("nodad",) if ":" in address else ()))
    _ip("link", "set", name, "up")
    for router in routers:
        _ip("route", "add", "default", "via", router)


def _ip(*arguments: str) -> str:
    program = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "ip"
    done = subprocess.run((program, *arguments), capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def _serve(requests: socket.socket) -> None:
    while True:
        data = requests.recv(4096)
        if not data:
            return
        what, *arguments = json.loads(data)
        if what == "ip":
            requests.send(_ip(*arguments).encode() or b"\n")
        else:
            with socket.socket(*arguments) as made:
                socket.send_fds(requests, [b"x"], [made.fileno()])


def _supervise(control: socket.socket, namespace: int, network: str) -> None:
    from world.forwarders import Supervisor

    supervisor = Supervisor(namespace, network)
    control.send(b"ready")
    while True:
        data = control.recv(1 << 17)
        if not data:
            supervisor.close()
            return
        what, *arguments = json.loads(data)
        answer: dict[str, Any]
        try:
            answer = {"done": getattr(supervisor, what)(*arguments)}
        except JubakoError as failure:
            parts = ("operation", "subject", "errno", "reason", "hint")
            answer = {"failed": {part: getattr(failure, part) for part in parts}}
        except Exception as failure:
            answer = {"crashed": repr(failure)}
        control.send(json.dumps(answer).encode())


def is_readable(made: socket.socket, seconds: float) -> bool:
    """Whether something can be read within `seconds`."""
    return bool(select.select([made], [], [], seconds)[0])


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))
