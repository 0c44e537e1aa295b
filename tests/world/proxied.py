"""A proxy in a thread of the test, on loopback: with a test's own rules, name server and limits, and peers."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jubako.net.proxy.lookup import Resolver
from jubako.net.proxy.rules import parse_rules
from jubako.net.proxy.serve import Limits, Server
from jubako.net.proxy.tally import Tally

SECONDS = 20
"""How long a test waits for what should come at once."""


class Proxy:
    """A running proxy; `hosts` is what its name server says, and `asked` what it was asked for."""

    def __init__(self, allow: tuple[str, ...], hosts: dict[str, list[str]], status: str, limits: Limits) -> None:
        self.hosts = hosts
        self.asked: list[str] = []
        self.resolve: Callable[[str], list[Any]] = self._resolve
        self.words, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.tally = Tally(status, self._writer, pause=0.05)
        listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = listener.getsockname()[:2]
        # `resolve` may be another one later
        resolver = Resolver(lambda name: self.resolve(name), threads=2, most=4)  # noqa: PLW0108
        self._server = Server((listener.detach(),), parse_rules(allow), self.tally, resolver, limits)
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over:
            self._server.turn()
        self._server.close()

    def _resolve(self, name: str) -> list[Any]:
        self.asked.append(name)
        if name not in self.hosts:
            raise OSError(-2, "Name or service not known")
        kinds = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(kinds[":" in one], (one, 0, 0, 0) if ":" in one else (one, 0)) for one in self.hosts[name]]

    def connect(self) -> socket.socket:
        """A connection to the proxy."""
        return socket.create_connection(self.address, timeout=SECONDS)

    def ask(self, data: bytes, *, close: bool = False) -> bytes:
        """What the proxy answers to these bytes, until it closes."""
        with self.connect() as client:
            client.sendall(data)
            if close:
                client.shutdown(socket.SHUT_WR)
            return read_all(client)

    def log(self) -> str:
        """The lines that it has written since."""
        try:
            return os.read(self.words, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        self._is_over = True
        try:
            self.connect().close()  # something happens, and so it sees that it is over
        except OSError:
            pass
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        os.close(self.words)
        os.close(self._writer)


@contextmanager
def peer(
    serve: Callable[[socket.socket], None], family: int = socket.AF_INET, host: str = "127.0.0.1"
) -> Iterator[int]:
    """A TCP server on loopback that does `serve` with each connection, in threads; its port."""
    listener = socket.create_server((host, 0), family=family)
    threads = []

    def talk(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(SECONDS)
            try:
                serve(connection)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=talk, args=(connection,), daemon=True))
            threads[-1].start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(SECONDS)
        for each in threads:
            each.join(SECONDS)


def echo(connection: socket.socket) -> None:
    """Send back all that comes, then close."""
    while data := connection.recv(65536):
        connection.sendall(data)


def mirror(connection: socket.socket) -> None:
    """An HTTP server: its answer's body is the request as it came (head and, by Content-Length, body)."""
    request = read_request(connection)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(request)}\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive"
    connection.sendall(head.encode() + b"\r\n\r\n" + request)


def read_request(connection: socket.socket) -> bytes:
    """A request with its body, by Content-Length or to the last chunk."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line[15:])
    is_chunked = b"transfer-encoding: chunked" in head.lower()
    while len(body) < length or (is_chunked and not body.endswith(b"0\r\n\r\n")):
        more = connection.recv(65536)
        if not more:
            break
        body += more
    return head + b"\r\n\r\n" + body


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    data = b""
    while more := connection.recv(65536):
        data += more
    return data


def read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        assert more, f"closed after {data!r}"
        data += more
    return data
