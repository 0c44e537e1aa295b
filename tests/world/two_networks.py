"""A small world of three network namespaces, made as an ordinary user: a host, a container on it, and another machine.

The test's own process stays outside and gets real sockets of both, made there and handed over. What is tested runs in
the *supervisor*: root of a user namespace, first process of a PID namespace, in the host's network namespace; above the
container's own user namespace, as a supervisor of jubako's is. When it ends, all of this world ends.
"""

from __future__ import annotations

import json
import os
import resource
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
from jubako.linux import rtnetlink
from jubako.linux.clone import CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWUSER, unshare
from jubako.net.ports.spec import PortSpec

HOST = ("203.0.113.1", "2001:db8::1")
REMOTE = ("203.0.113.2", "2001:db8::2")
"""The addresses of the host, and of the other machine, which is its router too."""
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
        self.maker.recv(64)  # now nobody else has it
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
    """The places, and the supervisor, which opens one forwarder at a time."""

    def __init__(self, control: socket.socket, host: Place, inside: Place, remote: Place) -> None:
        self.control = control
        self.host = host
        self.inside = inside
        self.remote = remote
        self.driver = ""

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
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(4)]
    theirs = [pair[1].fileno() for pair in pairs]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((_TESTS, _SOURCE))}
    argv = (sys.executable, "-m", "world.two_networks", network, str(limit), *map(str, theirs))
    running = subprocess.Popen(argv, pass_fds=theirs, env=environment, stdin=subprocess.DEVNULL)
    for _mine, other in pairs:
        other.close()
    control, *places = (pair[0] for pair in pairs)
    try:
        control.settimeout(60)
        assert control.recv(64) == b"ready", "no such world could be made"
        yield World(control, *map(Place, places))
    finally:
        for mine, _other in pairs:
            mine.close()
        running.wait(20)


# --- inside of it -----------------------------------------------------------------------------------------------------


def _main(network: str, limit: str, control: int, host: int, inside: int, remote: int) -> None:
    if int(limit):
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit), int(limit)))
    _unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID)
    pid = os.fork()
    if pid:
        for fd in (control, host, inside, remote):
            os.close(fd)
        os.waitpid(pid, 0)
        return
    _ip("link", "set", "lo", "up")
    _begin(remote, CLONE_NEWNET, "uplink", "eth0", REMOTE, (), (control, host, inside))
    _set_up_device("uplink", HOST, REMOTE)
    device = "tap0" if network == "veth" else ""
    lo = network != "none"
    routers = ("10.0.2.2", "fd00::2")
    both = CLONE_NEWUSER | CLONE_NEWNET
    namespace = _begin(inside, both, "gateway", device, INSIDE, routers, (control, host), lo)
    if device:
        _set_up_device("gateway", routers, ())
    if os.fork() == 0:
        os.close(control)
        _serve(socket.socket(fileno=host))
        os._exit(0)
    os.close(host)
    _supervise(socket.socket(fileno=control), namespace, network)


def _begin(
    requests: int,
    flags: int,
    here: str,
    there: str,
    addresses: tuple[str, ...],
    routers: tuple[str, ...],
    others: tuple[int, ...],
    lo: bool = True,
) -> int:
    """A process in a network namespace of its own that serves `requests`, joined with this one by a pair of devices."""
    mine, theirs = socket.socketpair()
    if os.fork() == 0:
        for fd in (mine.fileno(), *others):
            os.close(fd)
        mine.detach()
        _unshare(flags)
        socket.send_fds(theirs, [b"x"], [os.open("/proc/self/ns/net", os.O_RDONLY)])
        theirs.recv(1)
        if lo:
            _ip("link", "set", "lo", "up")
        if there:
            _set_up_device(there, addresses, routers)
        theirs.send(b"x")
        _serve(socket.socket(fileno=requests))
        os._exit(0)
    theirs.close()
    os.close(requests)
    _data, (namespace,), _flags, _address = socket.recv_fds(mine, 1, 1)
    if there:
        _ip("link", "add", here, "type", "veth", "peer", "name", there)
        rtnetlink.move_device(rtnetlink.device_index(there), namespace, there)
        _ip("link", "set", here, "up")
    mine.send(b"x")
    mine.recv(1)
    mine.close()
    return namespace


def _unshare(flags: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    unshare(flags)
    if not flags & CLONE_NEWUSER:
        return
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
            requests.send(b"closed here")


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
    _main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7]))
