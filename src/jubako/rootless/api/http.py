"""A small HTTP/1.1 server on a unix socket (RFC 9112), as a part of its owner's poll loop.

Whoever may connect is the user, and may still be broken or slow: no client makes the server wait, no request takes more
than a fixed room, and when there are many clients the one that was silent longest goes. Requests of one connection are
answered in order, also when several were sent at once.
"""

from __future__ import annotations

import _socket
import select
import time

from jubako import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Answerer = Callable[[str, str, bytes], tuple[int, Any]]

MOST_CLIENTS = 64
LARGEST_HEAD = 16 << 10
LARGEST_BODY = 64 << 10
LARGEST_DISCARDED = 64 << 20
"""A body that is too large is read to its end, so that the client sees the answer; beyond this it is cut off."""
SILENCE_SECONDS = 90.0
_CHUNK = 1 << 16
_MOST_UNSENT = 1 << 18
_WORDS = {
    200: "OK", 201: "Created", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
    500: "Internal Server Error",
}  # fmt: skip
_TOO_LARGE = f"the request is too large: a head may have {LARGEST_HEAD} bytes and a body {LARGEST_BODY}"


class Server:
    """Answers with what `answer(method, target, body)` returns: a status and a JSON document."""

    def __init__(self, listener: _socket.socket, answer: Answerer) -> None:
        listener.setblocking(False)
        self.listener = listener
        self.answer = answer
        self.clients: dict[int, Client] = {}
        self.rests_until = 0.0
        """Where descriptors have run out, nobody is accepted for a moment."""

    def register(self, poller: select.poll) -> None:
        """Ask for what is waited for."""
        if time.monotonic() >= self.rests_until:
            poller.register(self.listener.fileno(), select.POLLIN)
        for fd, client in self.clients.items():
            poller.register(fd, client.events())

    def timeout(self) -> int | None:
        """In how many milliseconds to call `handle` although nothing happened; None for never."""
        if self.rests_until > time.monotonic():
            return 500
        return 5000 if self.clients else None

    def handle(self, ready: dict[int, int]) -> None:
        """Do what is due."""
        for fd in [fd for fd in ready if fd in self.clients]:
            client = self.clients[fd]
            if not client.move(ready[fd], self.answer):
                self._drop(fd)
        if self.listener.fileno() in ready:
            for _ in range(MOST_CLIENTS):
                if not self._accept():
                    break
        oldest = time.monotonic() - SILENCE_SECONDS
        for fd in [fd for fd, client in self.clients.items() if client.heard < oldest]:
            self._drop(fd)

    def close(self) -> None:
        """End all connections, and listen no longer."""
        for fd in tuple(self.clients):
            self._drop(fd)
        self.listener.close()

    def _accept(self) -> bool:
        """Take one more client; False when there is none, or no room."""
        try:
            fd, _address = self.listener._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return False
        except OSError:
            self.rests_until = time.monotonic() + 0.5
            return False
        if len(self.clients) >= MOST_CLIENTS:
            self._drop(min(self.clients, key=lambda each: self.clients[each].heard))
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fileno=fd)
        socket.setblocking(False)
        self.clients[fd] = Client(socket)
        return True

    def _drop(self, fd: int) -> None:
        self.clients.pop(fd).socket.close()


class Client:
    """One connection: what has come and is not answered, and what is still to be sent."""

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket
        self.heard = time.monotonic()
        self.received = bytearray()
        self.unsent = bytearray()
        self.discard = 0
        """Bytes of a body that is too large, and still to come."""
        self.last = False
        """Whether the connection ends when all is sent."""
        self.continued = False

    def events(self) -> int:
        """What to wait for: a client that does not read is not read from."""
        return (select.POLLOUT if self.unsent else 0) | (select.POLLIN if self._has_room() else 0)

    def move(self, events: int, answer: Answerer) -> bool:
        """Read, answer and write as far as that goes without waiting; False when the connection is over."""
        self.heard = time.monotonic()
        try:
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and self._has_room():
                data = self.socket.recv(_CHUNK)
                if data:
                    self._take(data)
                else:  # it may have closed one direction only, and wait for what it has asked for
                    self.last = True
            while self._answer_one(answer) or self.unsent:
                while self.unsent:
                    sent = self.socket.send(self.unsent, _socket.MSG_NOSIGNAL)
                    del self.unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return bool(self.unsent) or not self.last

    def _has_room(self) -> bool:
        """Whether to read: not beyond what a request may take, and not from a client that does not read itself."""
        full = len(self.received) > LARGEST_HEAD + LARGEST_BODY or len(self.unsent) >= _MOST_UNSENT
        return not self.last and not full

    def _take(self, data: bytes) -> None:
        if self.discard:
            dropped = min(self.discard, len(data))
            self.discard -= dropped
            data = data[dropped:]
            if self.discard:
                return
            self._reply(400, {"message": _TOO_LARGE}, None)
        self.received += data

    def _answer_one(self, answer: Answerer) -> bool:
        """Answer the first request that has come whole; False when there is none yet. An answer waits until those
        before it are sent: many requests at once take no more room than one."""
        if not self.received or self.discard or self.unsent:
            return False
        end = self.received.find(b"\r\n\r\n")
        if end < 0 or end > LARGEST_HEAD:
            if len(self.received) > LARGEST_HEAD:
                self._refuse(_TOO_LARGE)
            return False
        request = Head.read(bytes(self.received[:end]))
        if request is None:
            self._refuse("the request is no HTTP/1.1")
            return False
        body, length = self._body(request, end + 4)
        if body is None:
            if request.expects and not self.continued and not self.last:
                self.continued = True
                self.unsent += b"HTTP/1.1 100 Continue\r\n\r\n"
            elif len(self.received) > LARGEST_HEAD + LARGEST_BODY:  # chunks of one byte each
                self._refuse(_TOO_LARGE)
            return False
        del self.received[:length]
        self.continued = False
        status, document = answer(request.method, request.target, body)
        self._reply(status, document, request)
        return True

    def _body(self, request: Head, start: int) -> tuple[bytes | None, int]:
        """The body that begins at `start`, and where it ends; None while it is not whole, or never will be."""
        if request.chunked:
            return self._chunks(start)
        end = start + request.length
        if request.length > LARGEST_BODY:
            if request.length > LARGEST_DISCARDED:
                self._refuse(_TOO_LARGE)
                return None, 0
            left = end - len(self.received)
            del self.received[: min(end, len(self.received))]
            if left > 0:
                self.discard = left
                if request.expects:
                    self._refuse(_TOO_LARGE)
            else:
                self._reply(400, {"message": _TOO_LARGE}, request)
            return None, 0
        if len(self.received) < end:
            return None, 0
        return bytes(self.received[start:end]), end

    def _chunks(self, start: int) -> tuple[bytes | None, int]:
        body = bytearray()
        while True:
            line_end = self.received.find(b"\r\n", start)
            if line_end < 0:
                if len(self.received) - start > 1024:
                    self._refuse("a chunk is malformed")
                return None, 0
            size = _hexadecimal(bytes(self.received[start:line_end]).partition(b";")[0].strip())
            if size < 0 or len(body) + size > LARGEST_BODY:
                self._refuse(_TOO_LARGE if size >= 0 else "a chunk is malformed")
                return None, 0
            start = line_end + 2
            if size == 0:
                trailers = self.received.find(b"\r\n", start)
                if trailers != start:  # not there yet, or trailers, which nobody needs
                    if trailers >= 0:
                        self._refuse("trailers are not understood")
                    return None, 0
                return bytes(body), start + 2
            if len(self.received) < start + size + 2:
                return None, 0
            body += self.received[start : start + size]
            if self.received[start + size : start + size + 2] != b"\r\n":
                self._refuse("a chunk is malformed")
                return None, 0
            start += size + 2

    def _refuse(self, message: str) -> None:
        """Answer what cannot be understood; what follows it cannot be, either."""
        self._reply(400, {"message": message}, None)
        self.last = True
        self.received.clear()

    def _reply(self, status: int, document: Any, request: Head | None) -> None:
        body = b"" if document is None else jsontext.dumps(document).encode("utf-8", "surrogateescape")
        kind = "" if document is None else "Content-Type: application/json\r\n"
        if request is not None and not request.keep:
            self.last = True
            self.received.clear()
            kind += "Connection: close\r\n"
        head = f"HTTP/1.1 {status} {_WORDS.get(status, 'Error')}\r\n{kind}Content-Length: {len(body)}\r\n\r\n"
        self.unsent += head.encode() + (b"" if request is not None and request.method == "HEAD" else body)


class Head:
    """The request line and the headers that matter."""

    def __init__(self, method: str, target: str, length: int, chunked: bool, keep: bool, expects: bool) -> None:
        self.method = method
        self.target = target
        self.length = length
        self.chunked = chunked
        self.keep = keep
        self.expects = expects

    @classmethod
    def read(cls, data: bytes) -> Head | None:
        """The head in `data`; None for what is none."""
        lines = data.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[0].isalpha() or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
            return None
        length, chunked, expects, keep = -1, False, False, words[2] == "HTTP/1.1"
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            name, value = name.lower(), value.strip()
            if not colon or not name or name != name.strip():
                return None
            if name == "content-length":
                if not (value.isascii() and value.isdigit()) or len(value) > 15 or length not in (-1, int(value)):
                    return None
                length = int(value)
            elif name == "transfer-encoding":
                if value.lower() != "chunked":
                    return None
                chunked = True
            elif name == "expect":
                expects = value.lower() == "100-continue"
            elif name == "connection":
                tokens = [token.strip().lower() for token in value.split(",")]
                keep = "close" not in tokens and (keep or "keep-alive" in tokens)
        if chunked and length >= 0:  # two lengths: a way to smuggle requests
            return None
        target = words[1]
        if "://" in target.partition("?")[0]:
            target = "/" + target.partition("://")[2].partition("/")[2]
        return cls(words[0], target, max(length, 0), chunked, keep, expects)


def _hexadecimal(text: bytes) -> int:
    if not text or len(text) > 8 or text.strip(b"0123456789abcdefABCDEF"):
        return -1
    return int(text, 16)
