"""The caller's side of `--console-socket`: the runtime connects to it and sends the container's terminal.

with ConsoleSocket(directory) as socket:
    box = runtime.create(bundle, "--console-socket", str(socket.path))
    console = socket.accept()
    console.read_until("ready")
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import socket
import struct
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType


@dataclass
class Console:
    """The master side of a container's terminal."""

    fd: int
    message: bytes
    """The bytes that came with the descriptor."""
    output: str = ""

    def send(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def read_until(self, text: str, timeout: float = 20) -> str:
        """Read until `text` has come; all so far."""
        until = time.monotonic() + timeout
        while text not in self.output:
            if not self._read(until - time.monotonic()):
                raise AssertionError(f"no {text!r} in {timeout} s or before the end: {self.output!r}")
        return self.output

    def read_to_end(self, timeout: float = 20) -> str:
        """All until nobody has the other side open."""
        until = time.monotonic() + timeout
        while self._read(until - time.monotonic()):
            pass
        return self.output

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(self.fd, termios.TIOCGWINSZ, bytes(8)))
        return rows, columns

    @property
    def output_modes(self) -> int:
        modes: int = termios.tcgetattr(self.fd)[1]
        return modes

    def _read(self, timeout: float) -> bool:
        ready, _, _ = select.select([self.fd], [], [], max(0.0, timeout))
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False
        self.output += data.decode(errors="backslashreplace")
        return bool(data)


@dataclass
class ConsoleSocket:
    directory: Path
    _socket: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    _consoles: list[Console] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.directory / "console.sock"

    def __enter__(self) -> ConsoleSocket:
        self._socket.bind(str(self.path))
        self.path.chmod(0o777)
        self._socket.listen(4)
        self._socket.settimeout(20)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        for console in self._consoles:
            os.close(console.fd)
        self._socket.close()
        self.path.unlink()

    def accept(self) -> Console:
        """The terminal that a runtime sends; exactly one."""
        connection, _ = self._socket.accept()
        with connection:
            connection.settimeout(20)
            message, descriptors = receive(connection)
        assert len(descriptors) == 1, f"{len(descriptors)} descriptors came"
        console = Console(descriptors[0], message)
        self._consoles.append(console)
        return console


def receive(connection: socket.socket, size: int = 65536) -> tuple[bytes, list[int]]:
    """One message and the descriptors that it carries."""
    numbers = array.array("i")
    data, ancillary, _, _ = connection.recvmsg(size, socket.CMSG_LEN(16 * numbers.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    return data, list(numbers)
