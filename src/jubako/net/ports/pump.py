"""Moving the bytes of TCP connections between two sockets with splice(2), both ways, in one thread.

Readiness comes edge-triggered (epoll(7)), once for each socket; what is ready is remembered. A direction moves what its
source has into a pipe and from there into its sink, until one of them is not ready, or until others shall have a turn.
So a slow reader fills one pipe and two socket buffers, and its peer's window closes. An end of file is passed on when
the pipe is empty (`shutdown`), a reset at once (`SO_LINGER` of 0).
"""

from __future__ import annotations

import _socket
import os
from _struct import pack
from select import EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.linux.scm import Socket
    from jubako.net.ports.loop import Loop
    from jubako.net.ports.pipes import Pipe, Pipes

_AT_ONCE = 1 << 22
_ROUNDS = 16
"""How often a direction fills its pipe before others have a turn."""
_BUSY = 1 << 16
"""Bytes in a pipe that say that it is too small."""
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_ALL = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET
_READABLE = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR
_WRITABLE = EPOLLOUT | EPOLLHUP | EPOLLERR
_RESET = pack("=ii", 1, 0)
_IDLE_SECONDS = 10.0


def reset(socket: Socket) -> None:
    """Close a TCP socket so that the peer sees a reset, not an end."""
    try:
        socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET)
    except OSError:
        pass
    socket.close()


class Pump:
    """The connections of one process."""

    def __init__(self, loop: Loop, pipes: Pipes, closed: Callable[[int], None]) -> None:
        self.loop = loop
        self.pipes = pipes
        self.closed = closed
        self.count = 0

    def start(self, number: int, one: Socket, other: Socket) -> None:
        """Move bytes between two connected sockets that do not block, which are the pump's from now on.

        `closed(number)` is called when both are closed.
        """
        self.count += 1
        self.pipes.budget.take(2)
        connection = _Connection(self, number, one, other)
        for side in connection.sides:
            self.loop.add(side.fd, _ALL, side.on_event)

    def finish(self, connection: _Connection, in_order: bool) -> None:
        """Close both sockets of a connection."""
        for flow in connection.flows:
            if flow.pipe:
                self.pipes.give(flow.pipe, not flow.held)
                flow.pipe = None
        for side in connection.sides:
            self.loop.remove(side.fd)
            if not in_order:
                side.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET)
            self.loop.close_fd(side.socket.detach())
        self.count -= 1
        if not self.count:
            self.loop.at("pipes", _IDLE_SECONDS, self._rest)
        self.pipes.budget.give(2)
        self.closed(connection.number)

    def _rest(self) -> None:
        if not self.count:
            self.pipes.close_free()


class _Side:
    __slots__ = ("connection", "fd", "readable", "socket", "writable")

    def __init__(self, connection: _Connection, socket: Socket) -> None:
        self.connection = connection
        self.socket = socket
        self.fd = socket.fileno()
        self.readable = False
        self.writable = False

    def on_event(self, events: int) -> None:
        if events & _READABLE:
            self.readable = True
        if events & _WRITABLE:
            self.writable = True
        self.connection.move()
        if events & EPOLLERR and self.connection.open:
            # What it had sent has been passed on as far as the other one takes it; its reset overtakes the rest.
            self.connection.fail()


class _Flow:
    """One direction of a connection."""

    __slots__ = ("busy", "ended", "held", "over", "pipe", "sink", "source")

    def __init__(self, source: _Side, sink: _Side) -> None:
        self.source = source
        self.sink = sink
        self.pipe: Pipe | None = None
        self.held = 0
        """Bytes in the pipe."""
        self.ended = False
        """The source has said that nothing more comes."""
        self.over = False
        """The sink has been told so."""
        self.busy = 0


class _Connection:
    __slots__ = ("flows", "number", "open", "pump", "queued", "sides")

    def __init__(self, pump: Pump, number: int, one: Socket, other: Socket) -> None:
        self.pump = pump
        self.number = number
        self.open = True
        self.queued = False
        first, second = self.sides = (_Side(self, one), _Side(self, other))
        self.flows = (_Flow(first, second), _Flow(second, first))

    def move(self) -> None:
        """Move what can be moved; go on in the next turn where there is more."""
        if not self.open:
            return
        more = over = 0
        try:
            for flow in self.flows:
                if not flow.over:
                    more += self._move(flow)
                over += flow.over
        except OSError:  # a reset, a time-out, a peer that is gone: the other one shall know
            self.fail()
            return
        if over == 2:
            self.open = False
            self.pump.finish(self, True)
        elif more and not self.queued:
            self.queued = True
            self.pump.loop.soon.append(self._go_on)

    def fail(self) -> None:
        """Reset both sides."""
        if self.open:
            self.open = False
            self.pump.finish(self, False)

    def _go_on(self) -> None:
        self.queued = False
        self.move()

    def _move(self, flow: _Flow) -> bool:
        """Move bytes one way; whether there may be more at once. This is the inner loop."""
        source, sink, pipe, rounds, splice = flow.source, flow.sink, flow.pipe, _ROUNDS, os.splice
        while True:
            if flow.held:
                assert pipe is not None
                if not sink.writable:
                    return False
                try:
                    flow.held -= splice(pipe.reader, sink.fd, flow.held, flags=_FLAGS)
                except BlockingIOError:
                    sink.writable = False
                    return False
                continue
            if flow.ended or not source.readable or not rounds:
                break
            rounds -= 1
            if pipe is None:
                pipe = flow.pipe = self.pump.pipes.take(flow.busy > 3)
                if pipe is None:
                    if not self.queued:
                        self.queued = True
                        self.pump.pipes.budget.wait(self._go_on)
                    return False
            try:
                flow.held = splice(source.fd, pipe.writer, _AT_ONCE, flags=_FLAGS)
            except BlockingIOError:
                source.readable = False
                break
            flow.ended = not flow.held
            if flow.held >= _BUSY:
                flow.busy += 1
                if flow.busy == 4 and not pipe.large:  # the next one will be large
                    rounds = 0
        if pipe is not None:
            self.pump.pipes.give(pipe)
            flow.pipe = None
        if flow.ended and not flow.over:
            sink.socket.shutdown(_socket.SHUT_WR)
            flow.over = True
        return source.readable and not flow.over
