"""Bytes carried between a client and a server: a tunnel in both directions, or one HTTP request and its response."""

from __future__ import annotations

import _socket

from jubako.net.proxy.http import BadMessage, Chunks, Request, find_head, read_response
from jubako.net.proxy.loop import BROKEN, READ, WRITE, TimedOut, now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.proxy.loop import Events, Task

    Socket = _socket.socket

CHUNK = 131072
"""Octets that are carried at once, in one direction: what a client that does not read makes us keep."""
_PIECES = 8
"""As many of them are carried while others wait for their turn."""
_buffer = bytearray(CHUNK)
_view = memoryview(_buffer)


class Broken(Exception):
    """One side has gone, or done what it may not; there is nobody left to tell."""


class _Direction:
    """What goes from one socket to the other: at most one piece is kept while the other side does not take it."""

    def __init__(self, source: Socket, sink: Socket, pending: bytes = b"") -> None:
        self.source, self.sink = source, sink
        self.pending = pending
        self.is_over = False

    def carry(self, ready: Events) -> None:
        """Move a piece, if the sockets are ready. Raises `OSError`."""
        if self.is_over:
            return
        if self.pending:
            if self.sink.fileno() in ready:
                self.pending = self.pending[_send(self.sink, self.pending) :]
        elif self.source.fileno() in ready:
            for _piece in range(_PIECES):
                size = _receive(self.source)
                if size == 0:
                    self.is_over = True
                    self.sink.shutdown(_socket.SHUT_WR)
                if size <= 0:
                    return
                sent = _send(self.sink, _view[:size])
                if sent < size:
                    self.pending = bytes(_view[sent:size])
                if sent < size or size < CHUNK:
                    return

    def want(self, events: Events) -> None:
        """Add what this direction waits for."""
        if self.pending:
            events[self.sink.fileno()] = events.get(self.sink.fileno(), 0) | WRITE
        elif not self.is_over:
            events[self.source.fileno()] = events.get(self.source.fileno(), 0) | READ


def tunnel(client: Socket, server: Socket, early: bytes, idle: float, half: float) -> Task[None]:
    """Carry bytes both ways until both have closed, `early` first to the server. Each side may close its direction
    alone; `idle` seconds may pass without a byte, `half` when one direction is closed. Raises `OSError`, `TimedOut`."""
    directions = (_Direction(client, server, early), _Direction(server, client))
    while not all(direction.is_over for direction in directions):
        # A side to which somebody may still write is always watched, with no event asked for if need be: the kernel
        # tells anyway when it is gone. (One with both directions closed in good order would look the same.)
        wanted: Events = {direction.sink.fileno(): 0 for direction in directions if not direction.is_over}
        for direction in directions:
            direction.want(wanted)
        is_half = directions[0].is_over or directions[1].is_over
        ready = yield wanted, now() + (half if is_half else idle)
        if not ready:
            raise TimedOut
        if any(events & BROKEN and not wanted[fd] for fd, events in ready.items()):
            raise Broken
        for direction in directions:
            direction.carry(ready)


class Exchange:
    """One HTTP request to a server, whose head goes first, and what the server answers until it closes."""

    def __init__(self, client: Socket, server: Socket, request: Request, early: bytes) -> None:
        self.is_answered = False
        """Whether the client has got any of the response: after that it can be told nothing else."""
        self._client, self._server = client, server
        self._left = request.body
        self._chunks = Chunks() if request.body < 0 else None
        self._upwards = request.head + self._body(early)
        self._downwards = b""
        self._head: bytearray | None = bytearray()
        self._client_open = self._server_open = True

    def run(self, idle: float, half: float) -> Task[None]:
        """Raises `BadMessage` for what is to be told the client, `OSError`, `TimedOut`, `Broken`."""
        client, server = self._client.fileno(), self._server.fileno()
        while self._server_open or self._downwards:
            wanted = {client: WRITE if self._downwards else 0, server: WRITE if self._upwards else 0}
            if self._client_open and not self._upwards:
                wanted[client] |= READ
            if self._server_open and not self._downwards:
                wanted[server] |= READ
            if not wanted[server]:
                del wanted[server]
            ready = yield wanted, now() + (idle if self._client_open else half)
            if not ready:
                raise TimedOut
            if ready.get(client, 0) & BROKEN:
                raise Broken
            if server in ready:
                self._serve_server(ready[server])
            if client in ready:
                self._serve_client(ready[client])

    def _serve_client(self, events: int) -> None:
        try:
            if self._downwards and events & WRITE:
                self._downwards = self._downwards[_send(self._client, self._downwards) :]
                self.is_answered = True
            wants = events & READ and self._client_open and not self._upwards
            size = _receive(self._client) if wants else -1
        except OSError:
            raise Broken from None
        if wants:
            if size == 0:
                self._client_open = False
                if not self._body_is_over():
                    raise Broken
            elif size > 0:
                # What comes behind the one request is dropped: the answer says that the connection ends.
                self._upwards = self._body(bytes(_view[:size]))

    def _serve_server(self, events: int) -> None:
        if self._upwards and events & (WRITE | BROKEN):
            try:
                self._upwards = self._upwards[_send(self._server, self._upwards) :]
            except OSError:  # it has answered early, perhaps: the rest of the body is for nobody
                self._upwards, self._left, self._chunks = b"", 0, None
        if events & (READ | BROKEN) and self._server_open and not self._downwards:
            size = _receive(self._server)
            if size == 0:
                if self._head is not None:
                    raise BadMessage(502, "the server has closed without an answer")
                self._server_open = False
            elif size > 0:
                self._downwards = self._answer(bytes(_view[:size]))

    def _body(self, data: bytes) -> bytes:
        """As much of what the client sends as belongs to the request."""
        if self._chunks is not None:
            return data[: self._chunks.take(data)]
        body = data[: self._left]
        self._left -= len(body)
        return body

    def _body_is_over(self) -> bool:
        return self._left == 0 if self._chunks is None else self._chunks.is_over

    def _answer(self, data: bytes) -> bytes:
        """What the client gets of what the server sends: the heads written anew, the rest as it is."""
        if self._head is None:
            return data
        self._head += data
        given = b""
        try:
            while self._head is not None and (end := find_head(self._head)):
                status, head = read_response(bytes(self._head[:end]))
                if status == 101:
                    raise BadMessage(502, "the server switches to another protocol, unasked")
                given += head
                rest = bytes(self._head[end:])
                self._head = bytearray(rest) if status < 200 else None
                if self._head is None:
                    given += rest
        except BadMessage as failure:
            raise BadMessage(502, f"the server's answer: {failure}") from None
        return given


def _send(sink: Socket, data: bytes | memoryview) -> int:
    try:
        return sink.send(data, _socket.MSG_NOSIGNAL)
    except BlockingIOError:
        return 0


def _receive(source: Socket) -> int:
    """Octets now in the shared buffer; 0 at the end, -1 where there are none yet."""
    try:
        return source.recv_into(_buffer)
    except BlockingIOError:
        return -1
