"""vpnkit's wire protocol, "vmnet": a handshake over a unix stream socket, and then Ethernet frames, each behind its
length (16 bits, little-endian). After the protocol's definition in vpnkit's `vmnet_proto.ml`.

`pump` carries frames between that socket and a tap device. What is in the namespace owns the device: it can send what
it likes, take it down or delete it, and none of that does more than end the pump.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import time
from _struct import pack, unpack_from

from jubako.errors import JubakoError
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_MAGIC = b"VMN3T"
_VERSION = 22
_COMMIT = b"0123456789012345678901234567890123456789"  # what both sides send for "no matter which build"
_ETHERNET = 1
_VIF, _DISCONNECT = 1, 2
_HELLO = len(_MAGIC) + 4 + len(_COMMIT)
_ANSWER = 258
_FRAME_HEADER = 14
_MOST_PENDING = 1 << 18
"""Bytes that wait for vpnkit. Above that the device is not read, and its queue drops, as a slow link does."""
_READ = 1 << 16
_BATCH = 64
_GONE = (errno.EBADFD, errno.EBADF, errno.ENODEV)


@record
class Vif:
    """What vpnkit gives: the hardware address to have, and the sizes that it takes."""

    mtu: int
    largest: int
    """The longest frame."""
    hardware_address: bytes


def attach(socket: _socket.socket, seconds: float) -> Vif:
    """The handshake, for a new interface. Raises `JubakoError` with vpnkit's reason, or when it takes too long."""
    deadline = time.monotonic() + seconds
    _send(socket, _MAGIC + pack("<I", _VERSION) + _COMMIT, deadline)
    hello = _receive(socket, _HELLO, deadline)
    if not hello.startswith(_MAGIC):
        raise _refused("it does not speak vmnet")
    _send(socket, pack("<B36sI", _ETHERNET, _new_uuid(), 0), deadline)
    answer = _receive(socket, _ANSWER, deadline)
    if answer[0] == _DISCONNECT:
        raise _refused(answer[2 : 2 + answer[1]].decode(errors="replace") or "it gave no reason")
    if answer[0] != _VIF:
        raise _refused(f"an unknown answer, {answer[0]}")
    mtu, largest = unpack_from("<HH", answer, 1)
    return Vif(mtu, largest, answer[5:11])


def encode(frame: bytes) -> bytes:
    """The frame behind its length."""
    return pack("<H", len(frame)) + frame


class Frames:
    """The frames of a stream, whatever the pieces in which it comes."""

    def __init__(self) -> None:
        self.data = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """The frames that `piece` completes."""
        self.data += piece
        frames, place, size = [], 0, len(self.data)
        while place + 2 <= size:
            end = place + 2 + self.data[place] + (self.data[place + 1] << 8)
            if end > size:
                break
            frames.append(bytes(self.data[place + 2 : end]))
            place = end
        del self.data[:place]
        return frames


def exchange(socket: _socket.socket, frames: Frames, frame: bytes, seconds: float) -> list[bytes]:
    """Send a frame and return those that came until something came, or none after `seconds`."""
    _send(socket, encode(frame), time.monotonic() + seconds)
    if not _wait(socket, select.POLLIN, time.monotonic() + seconds):
        return []
    piece = socket.recv(_READ)
    if not piece:
        raise _refused("it closed the connection")
    return frames.feed(piece)


def pump(tap: int, socket: _socket.socket, frames: Frames, largest: int) -> int:
    """Carry frames both ways until one side is gone; the exit code of the helper that does it."""
    socket.setblocking(False)
    os.set_blocking(tap, False)
    poller = select.poll()
    poller.register(tap, select.POLLIN)
    poller.register(socket, select.POLLIN)
    pending = bytearray()
    while True:
        poller.modify(tap, select.POLLIN if len(pending) < _MOST_PENDING else 0)
        poller.modify(socket, select.POLLIN | (select.POLLOUT if pending else 0))
        for fd, event in poller.poll():
            if fd == tap:
                if event & select.POLLIN:
                    if not _read_tap(tap, pending, largest):
                        return _over("the device was deleted")
                elif event & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                    return _over("the device was deleted")
            elif event & ~select.POLLOUT and not _read_socket(socket, tap, frames):
                return _over("vpnkit closed the connection")
        if pending and not _flush(socket, pending):
            return _over("vpnkit closed the connection")


def _read_tap(tap: int, pending: bytearray, largest: int) -> bool:
    """Take some frames from the device; whether it is still there."""
    for _ in range(_BATCH):
        try:
            frame = os.read(tap, _READ)
        except OSError as failure:
            return failure.errno not in _GONE
        if _FRAME_HEADER <= len(frame) <= largest:  # whoever is inside may raise the MTU
            pending += encode(frame)
        if len(pending) >= _MOST_PENDING:
            break
    return True


def _read_socket(socket: _socket.socket, tap: int, frames: Frames) -> bool:
    """Take what vpnkit has sent to the device; whether vpnkit is still there."""
    try:
        piece = socket.recv(_READ)
    except OSError as failure:
        return failure.errno in (errno.EAGAIN, errno.EINTR)
    if not piece:
        return False
    for frame in frames.feed(piece):
        if len(frame) >= _FRAME_HEADER:
            try:
                os.write(tap, frame)
            except OSError:  # the device is down or full, or gone, which the next read from it says
                pass
    return True


def _flush(socket: _socket.socket, pending: bytearray) -> bool:
    try:
        del pending[: socket.send(pending, _socket.MSG_NOSIGNAL)]
    except OSError as failure:
        return failure.errno in (errno.EAGAIN, errno.EINTR, errno.ENOBUFS)
    return True


def _over(reason: str) -> int:
    os.write(2, f"{reason}\n".encode())
    return 1


def _new_uuid() -> bytes:
    """A random UUID (RFC 4122, version 4) in hexadecimal digits."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    text = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
    return text.encode()


def _send(socket: _socket.socket, data: bytes, deadline: float) -> None:
    while data:
        if not _wait(socket, select.POLLOUT, deadline):
            _too_slow()
        try:
            data = data[socket.send(data, _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            continue
        except OSError as failure:
            raise _refused(f"it closed the connection ({os.strerror(failure.errno or 0)})") from failure


def _receive(socket: _socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        if not _wait(socket, select.POLLIN, deadline):
            _too_slow()
        try:
            piece = socket.recv(size - len(data))
        except OSError as failure:
            raise _refused(f"it closed the connection ({os.strerror(failure.errno or 0)})") from failure
        if not piece:
            raise _refused("it closed the connection")
        data += piece
    return data


def _wait(socket: _socket.socket, event: int, deadline: float) -> bool:
    poller = select.poll()
    poller.register(socket, event)
    return bool(poller.poll(max(0, int((deadline - time.monotonic()) * 1000))))


def _too_slow() -> NoReturn:
    raise _refused("it does not answer")


def _refused(reason: str) -> JubakoError:
    return JubakoError("connect to", "vpnkit", reason=reason)
