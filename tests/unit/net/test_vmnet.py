"""vpnkit's wire protocol, with the other side played by hand."""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from jubako.errors import JubakoError
from jubako.linux import rtnetlink
from jubako.linux.clone import CLONE_NEWNET, CLONE_NEWUSER
from jubako.net import tap, vmnet
from unit.linux.forked import in_child

MAC = bytes.fromhex("025000000001")
HELLO = b"VMN3T" + struct.pack("<I", 22) + b"0" * 40
VIF = (b"\x01" + struct.pack("<HH", 1500, 1550) + MAC).ljust(258, b"\0")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def answering(theirs: socket.socket, *answers: bytes) -> threading.Thread:
    """Read what is said, and answer one piece a message."""

    def work() -> None:
        for size, answer in zip((49, 41), answers, strict=False):
            theirs.recv(size, socket.MSG_WAITALL)
            theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_handshake_gives_the_interface(ends: tuple[socket.socket, socket.socket]) -> None:
    thread = answering(ends[1], HELLO, VIF)
    assert vmnet.attach(ends[0], 10) == vmnet.Vif(1500, 1550, MAC)
    thread.join()


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ((HELLO, b"\x02\x04fullxx".ljust(258, b"\0")), "full"),
        ((HELLO, b"\x02\xff".ljust(258, b"x")), "xxxx"),
        ((HELLO, b"\x09".ljust(258, b"\0")), "an unknown answer, 9"),
        ((HELLO, VIF[:100]), "it closed the connection"),
        ((b"SSH-2.0-OpenSSH".ljust(49),), "it does not speak vmnet"),
        ((b"VMN",), "it closed the connection"),
    ],
)
def test_a_refusal_or_a_stranger_is_said(
    ends: tuple[socket.socket, socket.socket], answers: tuple[bytes, ...], reason: str
) -> None:
    thread = answering(ends[1], *answers)
    with pytest.raises(JubakoError, match=reason):
        vmnet.attach(ends[0], 10)
    thread.join()


def test_who_says_nothing_is_not_waited_for(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(JubakoError, match="it does not answer"):
        vmnet.attach(ends[0], 0.05)


def test_frames_come_out_whole_whatever_the_pieces() -> None:
    chance = random.Random(3)
    sent = [chance.randbytes(chance.choice((0, 1, 14, 60, 1514, 65535))) for _ in range(40)]
    stream = b"".join(vmnet.encode(one) for one in sent)
    frames, got = vmnet.Frames(), []
    while stream:
        size = chance.choice((1, 2, 3, 100, 5000, 70000))
        got += frames.feed(stream[:size])
        stream = stream[size:]
    assert got == sent


# --- the pump, between a tap device and a socket ----------------------------------------------------------------------


def with_pump(test: Callable[[socket.socket, int, socket.socket], object]) -> object:
    """What `test` answers in a namespace with a tap device and a pump; it gets the other end of the pump's socket, the
    pump's pid, and a packet socket of the device."""

    def body() -> object:
        fd = tap.open_tap("tap0")
        tap.configure(tap.Interface("tap0", "192.0.2.3", 24, "192.0.2.1", 1500, MAC))
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            theirs.close()
            os._exit(vmnet.pump(fd, ours, vmnet.Frames(), 1550))
        os.close(fd)
        ours.close()
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
        raw.bind(("tap0", 0x88B5))
        raw.settimeout(20)
        theirs.settimeout(20)
        try:
            return test(theirs, pid, raw)
        finally:
            theirs.close()
            os.waitpid(pid, 0)

    return in_child(body, CLONE_NEWUSER | CLONE_NEWNET)


def experimental(payload: bytes) -> bytes:
    return MAC + b"\x02\0\0\0\0\x09" + b"\x88\xb5" + payload


def next_experimental(end: socket.socket, frames: vmnet.Frames) -> bytes:
    """The next frame of that type; the kernel sends some of its own (IPv6)."""
    while True:
        for frame in frames.feed(end.recv(65536)):
            if frame[12:14] == b"\x88\xb5":
                return frame


def test_frames_pass_both_ways() -> None:
    def test(end: socket.socket, _pid: int, raw: socket.socket) -> object:
        end.sendall(vmnet.encode(experimental(b"in".ljust(60))))
        came = raw.recv(2000)
        raw.send(experimental(b"out".ljust(60)))
        return [came == experimental(b"in".ljust(60)), next_experimental(end, vmnet.Frames())[14:17].decode()]

    assert with_pump(test) == [True, "out"]


def test_frames_that_are_too_long_or_too_short_are_dropped() -> None:
    def test(end: socket.socket, _pid: int, raw: socket.socket) -> object:
        rtnetlink.set_mtu(rtnetlink.device_index("tap0"), 9000, "tap0")
        raw.send(experimental(b"long".ljust(8000)))
        raw.send(experimental(b"next".ljust(60)))
        end.sendall(vmnet.encode(b"") + vmnet.encode(b"short") + vmnet.encode(experimental(b"after".ljust(60))))
        return [next_experimental(end, vmnet.Frames())[14:18].decode(), raw.recv(2000)[14:19].decode()]

    assert with_pump(test) == ["next", "after"]


def test_a_device_that_is_down_ends_nothing() -> None:
    def test(end: socket.socket, _pid: int, raw: socket.socket) -> object:
        index = rtnetlink.device_index("tap0")
        rtnetlink.set_down(index, "tap0")
        end.sendall(vmnet.encode(experimental(b"lost".ljust(60))))
        rtnetlink.set_up(index, "tap0")
        raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # it remembers that the device was down
        raw.send(experimental(b"out".ljust(60)))
        return next_experimental(end, vmnet.Frames())[14:17].decode()

    assert with_pump(test) == "out"


def test_a_device_that_is_deleted_ends_the_pump() -> None:
    def test(end: socket.socket, pid: int, _raw: socket.socket) -> object:
        rtnetlink.remove_device(rtnetlink.device_index("tap0"), "tap0")
        rest = b"x"
        while rest:
            rest = end.recv(65536)
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT).si_status

    assert with_pump(test) == 1


def test_who_does_not_read_is_sent_no_more_than_a_bounded_heap() -> None:
    """The device is read no further, its queue drops, and what the pump holds does not grow."""

    def test(end: socket.socket, pid: int, raw: socket.socket) -> object:
        def resident() -> int:
            with open(f"/proc/{pid}/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        raw.settimeout(0.2)
        before = resident()
        for _ in range(20_000):  # 30 MB
            try:
                raw.send(experimental(b"x" * 1486))
            except OSError:
                pass
        grown = resident() - before
        poller = select.poll()
        poller.register(end, select.POLLIN)
        return [grown < 4 << 20, bool(poller.poll(0))]

    assert with_pump(test) == [True, True]
