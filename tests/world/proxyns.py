"""Three network namespaces for the network driver `proxy`, as an ordinary user: a container's, a host's, the Internet.

As a program (under `unshare --user --map-root-user --net --mount`) it is the host: with a name server of its own, with
services on its own addresses, and with a device to a namespace that has public and other addresses. It connects a
further namespace by the driver as a supervisor would, says how to enter that, and waits for the end of its input.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jubako.net.proxy.tally import read_status

PUBLIC, PUBLIC6, PRIVATE, METADATA = "93.184.216.34", "2606:4700::34", "10.9.8.7", "169.254.169.254"
OWN = "93.184.216.1"
"""The host's own public address."""
LOCAL_PORT, OPEN_PORT = 8080, 8081
"""What listens on the host's loopback address only, and on all of its addresses."""
NAMES = {
    "good.example": [PUBLIC],
    "a.wild.example": [PUBLIC],
    "wild.example": [PUBLIC],
    "six.example": [PUBLIC6],
    "private.example": [PRIVATE],
    "metadata.example": [METADATA],
    "loop.example": ["127.0.0.1"],
    "mixed.example": ["127.0.0.1", PRIVATE, PUBLIC],
    "only-bad.example": ["127.0.0.1", PRIVATE, METADATA, OWN],
    "own.example": [OWN],
    "gone.example.trap.example": [PUBLIC],  # found only by who adds the search domain
}


class ProxiedNamespace:
    """A namespace behind the driver `proxy`, for programs to run in."""

    def __init__(self, directory: Path, allow: tuple[str, ...]) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        into = ("unshare", "--user", "--map-root-user", "--net", "--mount", "--")
        self._host = subprocess.Popen(
            (*into, sys.executable, __file__, str(directory), *allow),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._host.stdout is not None
        line = self._host.stdout.readline()
        assert line, "the host ended early"
        said = json.loads(line)
        self.inside_pid: int = said["inside"]
        self.helper_pid: int = said["helper"]
        self.environment: dict[str, str] = said["environment"]

    def run(self, *argv: str, timeout: float = 30, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program in the namespace, with the variables of the link."""
        enter = ("nsenter", "--preserve-credentials", "--user", "--net", "-t", str(self.inside_pid), "--")
        environment = {"PATH": os.environ["PATH"], **self.environment, **variables}
        return subprocess.run((*enter, *argv), env=environment, capture_output=True, text=True, timeout=timeout)

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("curl", "--silent", "--show-error", "--max-time", "20", *arguments)

    def status(self) -> dict[str, Any]:
        return read_status(str(self.directory))

    def asked(self) -> list[str]:
        """The names that the name server was asked for."""
        path = self.directory / "asked"
        return path.read_text().split() if path.exists() else []

    def end(self) -> None:
        self._host.communicate(timeout=20)
        assert self._host.returncode == 0


def main(directory: str, *allow: str) -> None:
    from jubako.linux.clone import CLONE_NEWNET, CLONE_NEWUSER
    from jubako.linux.pidfd import host_pid
    from jubako.net.drivers.proxy import Driver
    from jubako.net.link import NetworkOptions, Where

    _replace("/etc/resolv.conf", f"{directory}/resolv.conf", "nameserver 127.0.0.53\nsearch trap.example\n")
    _replace("/etc/nsswitch.conf", f"{directory}/nsswitch.conf", "hosts: dns\n")
    _make_certificate(directory)
    internet, go_on = _child(CLONE_NEWNET, lambda: _be_internet(directory))
    _ip("link set lo up")
    _ip("link add up0 type veth peer name down0")
    _ip(f"link set down0 netns {internet}")
    _ip("link set up0 up")
    for address in (f"{OWN}/24", "10.9.8.1/24", "169.254.169.1/24"):
        _ip(f"addr add {address} dev up0")
    _ip("addr add 2606:4700::1/64 dev up0 nodad")
    go_on()
    inside, _ = _child(CLONE_NEWUSER | CLONE_NEWNET, _wait_for_ever)
    network = os.open(f"/proc/{inside}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    connection = Driver(NetworkOptions(driver="proxy", rules=allow)).connect(Where(network, directory))
    (helper,) = connection.helpers
    # Threads only now: a process that forks has one.
    _serve(_name_server(directory))
    _serve(_listen("127.0.0.1", LOCAL_PORT, _tell("secret of the host's loopback")))
    _serve(_listen("0.0.0.0", OPEN_PORT, _tell("secret of the host")))
    said = {"inside": inside, "helper": host_pid(helper.program), "environment": dict(connection.link.environment)}
    print(json.dumps(said), flush=True)
    sys.stdin.read()
    helper.end()
    for pid in (inside, internet):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _child(flags: int, work: Callable[[], None]) -> tuple[int, Callable[[], None]]:
    """A child in new namespaces, which goes on to `work` when the returned function is called."""
    from jubako.linux.clone import CLONE_NEWUSER, unshare
    from jubako.linux.prctl import set_parent_death_signal

    made, maker = os.pipe()
    wait, goer = os.pipe()
    pid = os.fork()
    if pid == 0:
        set_parent_death_signal(signal.SIGKILL)
        os.close(goer)
        unshare(flags)
        os.write(maker, b"+")
        os.read(wait, 1)
        work()
        os._exit(0)
    os.read(made, 1)
    if flags & CLONE_NEWUSER:
        Path(f"/proc/{pid}/uid_map").write_text("0 0 1")
        Path(f"/proc/{pid}/setgroups").write_text("deny")
        Path(f"/proc/{pid}/gid_map").write_text("0 0 1")
    for fd in (made, maker, wait):
        os.close(fd)
    return pid, lambda: os.close(goer)


def _wait_for_ever() -> None:
    while True:
        signal.pause()


def _make_certificate(directory: str) -> None:
    where = ("-keyout", f"{directory}/key.pem", "-out", f"{directory}/certificate.pem")
    name = ("-subj", "/CN=good.example", "-addext", "subjectAltName=DNS:good.example")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    subprocess.run(("openssl", "req", "-x509", *kind, *name, *where), check=True, capture_output=True)


def _be_internet(directory: str) -> None:
    _ip("link set lo up")
    _ip("link set down0 up")
    for address in (f"{PUBLIC}/24", f"{PRIVATE}/24", f"{METADATA}/24"):
        _ip(f"addr add {address} dev down0")
    _ip(f"addr add {PUBLIC6}/64 dev down0 nodad")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{directory}/certificate.pem", f"{directory}/key.pem")

    def secure_web(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            _web(wrapped)

    services = (("0.0.0.0", 80, _web), ("::", 80, _web), ("0.0.0.0", 443, secure_web), ("0.0.0.0", 7777, _echo))
    for host, port, serve in services:
        _serve(_listen(host, port, serve))
    _wait_for_ever()


# --- services ---------------------------------------------------------------------------------------------------------


def _serve(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def _listen(host: str, port: int, serve: Callable[[socket.socket], None]) -> Callable[[], None]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind((host, port))
    listener.listen()

    def accept() -> None:
        while True:
            connection, _address = listener.accept()
            _serve(lambda connection=connection: _talk(connection, serve))  # type: ignore[misc]

    return accept


def _talk(connection: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    with connection:
        serve(connection)


def _web(connection: socket.socket) -> None:
    """Tells by which address it was reached, and the request."""
    from world.proxied import read_request

    address = connection.getsockname()[0]
    body = f"reached at {address}\n".encode() + read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def _echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def _tell(text: str) -> Callable[[socket.socket], None]:
    def tell(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())

    return tell


def _name_server(directory: str) -> Callable[[], None]:
    """A name server (RFC 1035) that knows `NAMES`."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.53", 53))

    def answer() -> None:
        while True:
            question, client = server.recvfrom(512)
            server.sendto(_answer(question, directory), client)

    return answer


def _answer(question: bytes, directory: str) -> bytes:
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    kind = int.from_bytes(question[at + 1 : at + 3], "big")
    name = ".".join(labels).lower()
    with open(f"{directory}/asked", "a") as asked:
        asked.write(name + "\n")
    families = {1: socket.AF_INET, 28: socket.AF_INET6}
    found = [one for one in NAMES.get(name, ()) if kind == (28 if ":" in one else 1)]
    records = b""
    for one in found:
        data = socket.inet_pton(families[kind], one)
        records += b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\x00\x01" + bytes(4) + len(data).to_bytes(2, "big") + data
    code = b"\x81\x80" if name in NAMES else b"\x81\x83"
    counts = b"\x00\x01" + len(found).to_bytes(2, "big") + bytes(4)
    return question[:2] + code + counts + question[12 : at + 5] + records


def _replace(path: str, source: str, text: str) -> None:
    """Another file at `path`, for this mount namespace."""
    Path(source).write_text(text)
    subprocess.run(("mount", "--bind", source, os.path.realpath(path)), check=True)


def _ip(arguments: str) -> None:
    subprocess.run(("ip", *arguments.split()), check=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main(*sys.argv[1:])
