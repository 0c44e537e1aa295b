"""A client of the REST API at a fake root's api.sock: one request, one connection."""

from __future__ import annotations

import _socket
import os

from jubako import jsontext
from jubako.errors import JubakoError, UsageError
from jubako.rootless import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.net.ports.spec import PortSpec

_SECONDS = 60.0
_LARGEST = 16 << 20


def find_socket(given: str) -> str:
    """The path of api.sock: what was given, or the one of the fake root that this process is in."""
    if given:
        return given
    directory = os.environ.get("ROOTLESSKIT_STATE_DIR", "")
    if not directory:
        raise UsageError(
            "find the socket of a fake root", reason="ROOTLESSKIT_STATE_DIR is not set",
            hint="call it inside of the fake root, or give the socket: --socket STATE-DIR/api.sock",
        )  # fmt: skip
    return f"{directory}/{state.API_SOCKET}"


class Client:
    """Asks the fake root whose socket is at `path`. Whatever it refuses is raised as `JubakoError`, in its words."""

    def __init__(self, path: str) -> None:
        self.path = path

    def info(self) -> dict[str, Any]:
        """`GET /v1/info`."""
        return dict(self._ask("GET", "/v1/info"))

    def list_ports(self) -> list[dict[str, Any]]:
        """`GET /v1/ports`."""
        return list(self._ask("GET", "/v1/ports"))

    def add_port(self, port: PortSpec) -> dict[str, Any]:
        """`POST /v1/ports`: the port's number and what was asked for."""
        from jubako.rootless.api.ports import written

        return dict(self._ask("POST", "/v1/ports", written(port)))

    def remove_port(self, number: int) -> None:
        """`DELETE /v1/ports/NUMBER`."""
        self._ask("DELETE", f"/v1/ports/{number}")

    def _ask(self, method: str, target: str, document: Any = None) -> Any:
        body = b"" if document is None else jsontext.dumps(document).encode("utf-8", "surrogateescape")
        head = f"{method} {target} HTTP/1.1\r\nHost: rootlesskit\r\nConnection: close\r\n"
        if document is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        answer = self._exchange(head.encode() + b"\r\n" + body)
        return self._read(answer, f"{method} {target}")

    def _exchange(self, request: bytes) -> bytes:
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        socket.settimeout(_SECONDS)
        answer = b""
        try:
            socket.connect(self.path)
            socket.sendall(request)
            while len(answer) < _LARGEST and (data := socket.recv(1 << 16)):
                answer += data
        except OSError as failure:
            hint = "does the fake root still run? jubako rootless makes it, and it is gone when its command ends"
            raise JubakoError.from_os_error("ask the fake root at", self.path, failure, hint) from failure
        finally:
            socket.close()
        return answer

    def _read(self, answer: bytes, request: str) -> Any:
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) < 2 or not words[1].isdigit():
            raise JubakoError("ask the fake root", request, reason="its answer is no HTTP")
        if any(line.lower().replace(" ", "") == "transfer-encoding:chunked" for line in lines):
            body = _unchunk(body)
        try:
            document = jsontext.loads(body) if body.strip() else None
        except ValueError:
            document = None
        if words[1][:1] != "2":
            message = document.get("message") if isinstance(document, dict) else None
            raise JubakoError(
                "ask the fake root", request, reason=str(message or body.decode(errors="replace").strip() or words[1])
            )
        return document


def _unchunk(body: bytes) -> bytes:
    parts: list[bytes] = []
    while True:
        size, _, rest = body.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            return b"".join(parts)
        if not length:
            return b"".join(parts)
        parts.append(rest[:length])
        body = rest[length + 2 :]
