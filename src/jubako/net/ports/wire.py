"""What the processes of the builtin port driver tell each other: packets of NUL-separated words, with descriptors.

A `Mailbox` never blocks: whoever moves bytes may not wait for a peer that is busy.
"""

from __future__ import annotations

from select import EPOLLIN, EPOLLOUT

from jubako.linux import scm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.linux.scm import Socket
    from jubako.net.ports.loop import Loop


def pack_words(*words: object) -> bytes:
    """One packet."""
    return "\0".join([str(word) for word in words]).encode()


def unpack_words(data: bytes) -> list[str]:
    """The words of a packet."""
    return data.decode().split("\0")


class Mailbox:
    """One end of a packet socket in a loop: `take` gets the words and descriptors of each packet, `ended` its end."""

    def __init__(
        self,
        loop: Loop,
        socket: Socket,
        take: Callable[[list[str], tuple[int, ...]], None],
        ended: Callable[[], None],
    ) -> None:
        self.loop = loop
        self.socket = socket
        self.take = take
        self.ended = ended
        self.waiting: list[tuple[bytes, tuple[int, ...], Callable[[], None] | None]] = []
        self.blocked = False
        socket.setblocking(False)
        loop.add(socket.fileno(), EPOLLIN, self._on_event)

    def send(
        self, words: tuple[object, ...], descriptors: tuple[int, ...] = (), done: Callable[[], None] | None = None
    ) -> None:
        """Send a packet, now or when there is room; `done` is called when it is on its way or never will be."""
        if self.socket.fileno() < 0:
            if done:
                done()
            return
        self.waiting.append((pack_words(*words), descriptors, done))
        if len(self.waiting) == 1:
            self._flush()

    def close(self) -> None:
        """Close it; what waits is not sent."""
        if self.socket.fileno() >= 0:
            self.loop.remove(self.socket.fileno())
            self.socket.close()
        waiting, self.waiting = self.waiting, []
        for _data, _descriptors, done in waiting:
            if done:
                done()

    def _flush(self) -> None:
        while self.waiting:
            data, descriptors, done = self.waiting[0]
            try:
                scm.send(self.socket, data, descriptors)
            except BlockingIOError:
                if not self.blocked:
                    self.loop.modify(self.socket.fileno(), EPOLLIN | EPOLLOUT)
                self.blocked = True
                return
            except OSError:  # the peer is gone: that comes as the end of what it sends
                pass
            del self.waiting[0]
            if done:
                done()
        if self.blocked:
            self.loop.modify(self.socket.fileno(), EPOLLIN)
        self.blocked = False

    def _on_event(self, events: int) -> None:
        if events & EPOLLOUT:
            self._flush()
        for _turn in range(64):
            if self.socket.fileno() < 0:
                return
            try:
                data, descriptors = scm.receive(self.socket)
            except BlockingIOError:
                return
            except OSError as failure:
                if failure.errno == 90:  # its descriptors did not fit: what it says is lost, and times out
                    continue
                data, descriptors = b"", ()
            if not data:
                self.close()
                self.ended()
                return
            self.take(unpack_words(data), descriptors)
