"""The filter that keeps frames for the host's loopback from a helper, run by the kernel on a socket of our own."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from jubako.net import guard

Passes = Callable[[bytes], bool]

_SO_ATTACH_FILTER = 26


@pytest.fixture
def passes() -> Iterator[Passes]:
    """Whether a frame gets through."""
    text = b"".join(struct.pack("=HBBI", *instruction) for instruction in guard._PROGRAM)
    code = ctypes.create_string_buffer(text, len(text))
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    program = struct.pack("@HP", len(guard._PROGRAM), ctypes.addressof(code))
    receiver.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    receiver.setblocking(False)

    def ask(frame: bytes) -> bool:
        try:
            sender.send(frame)
            return receiver.recv(65536) == frame
        except (BlockingIOError, PermissionError):
            return False

    yield ask
    sender.close()
    receiver.close()


def frame(target: str, source: str = "") -> bytes:
    if ":" in target:
        addresses = socket.inet_pton(socket.AF_INET6, source or "fd00::100") + socket.inet_pton(socket.AF_INET6, target)
        return bytes(12) + b"\x86\xdd" + bytes(8) + addresses + b"data"
    addresses = socket.inet_aton(source or "10.0.2.100") + socket.inet_aton(target)
    return bytes(12) + b"\x08\x00" + bytes(12) + addresses + b"data"


@pytest.mark.parametrize(
    "target",
    [
        *("127.0.0.1", "127.0.0.53", "127.255.255.255", "0.0.0.0", "0.1.2.3", "::", "::1", "::127.0.0.1"),
        *("::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:192.0.2.1"),
    ],
)
def test_a_frame_to_this_host_itself_is_dropped(passes: Passes, target: str) -> None:
    assert not passes(frame(target))


@pytest.mark.parametrize(
    "target",
    [
        *("10.0.2.2", "192.0.2.1", "128.0.0.1", "126.255.255.255", "1.0.0.0", "255.255.255.255", "224.0.0.251"),
        *("fd00::2", "2001:db8::1", "64:ff9b::127.0.0.1", "ff02::1", "fe80::2", "::1:0:0:1", "1::", "::fffe:7f00:1"),
    ],
)
def test_every_other_frame_passes(passes: Passes, target: str) -> None:
    assert passes(frame(target))


def test_what_is_asked_about_the_link_passes(passes: Passes) -> None:
    assert passes(bytes(12) + b"\x08\x06" + bytes(28))
    assert passes(frame("255.255.255.255", "0.0.0.0"))


@pytest.mark.parametrize("length", [13, 14, 30, 33, 40])
def test_a_frame_that_is_cut_off_is_dropped(passes: Passes, length: int) -> None:
    whole = frame("::1") if length > 33 else frame("127.0.0.1")
    assert not passes(whole[:length])
