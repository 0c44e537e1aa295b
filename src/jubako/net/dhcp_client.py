"""A DHCP client for one device of a network namespace: it gets a lease, and a helper keeps it (RFC 2131, section 4.4).

It speaks through a packet socket (packet(7)), so it needs no address and takes no port from the programs inside, with a
filter that lets nothing but answers to clients through: the traffic of the namespace does not wake it.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import time
from _struct import pack

from jubako.errors import JubakoError
from jubako.linux import foreign as ctypes
from jubako.linux import rtnetlink
from jubako.net.dhcp import (
    ACK,
    BROADCAST,
    DISCOVER,
    NAK,
    OFFER,
    REQUEST,
    Answer,
    Question,
    decode,
    frame,
    unframe,
)
from jubako.net.tap import Interface, configure
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LEASE_SECONDS = 30.0
"""How long to wait for a first lease."""

_IPV4 = 0x0800
_SO_ATTACH_FILTER = 26
_LONGEST = 2048
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 16.0
_SHORTEST_RENEWAL = 2.0
_FOREVER = 0x7FFFFFFF
_MOST_FRAMES = 256
"""How many frames one wait looks at: whoever floods us gets no more of our time than that."""
_PAUSE = 0.002
_EVERYBODY = "255.255.255.255"


@record
class Wire:
    """How frames go out and come in; `receive` gives those that came within some seconds."""

    send: Callable[[bytes], None]
    receive: Callable[[float], list[bytes]]


def open_wire(device: str) -> tuple[_socket.socket, bytes]:
    """A packet socket of the device (of the current network namespace), and its hardware address. Raises `OSError`."""
    kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    socket = _socket.socket(_socket.AF_PACKET, kind, 0)  # bound below: no packet comes before the filter is there
    try:
        _attach_filter(socket)
        socket.bind((device, _IPV4))
        hardware_address = socket.getsockname()[4]
    except OSError as failure:
        failure.filename = device
        socket.close()
        raise
    return socket, bytes(hardware_address)


def adopt(fd: int) -> _socket.socket:
    """The packet socket that came as the descriptor `fd`."""
    return _socket.socket(_socket.AF_PACKET, _socket.SOCK_RAW, 0, fileno=fd)


def over(socket: _socket.socket) -> Wire:
    """The wire that a packet socket is."""

    def send(data: bytes) -> None:
        try:
            socket.send(data)
        except OSError as failure:
            if failure.errno not in (errno.ENETDOWN, errno.ENOBUFS, errno.EAGAIN):
                raise

    def receive(seconds: float) -> list[bytes]:
        poller = select.poll()
        poller.register(socket, select.POLLIN)
        frames: list[bytes] = []
        if poller.poll(max(0, int(seconds * 1000))):
            try:
                while len(frames) < _MOST_FRAMES:
                    frames.append(socket.recv(_LONGEST))
            except OSError as failure:
                if failure.errno == errno.ENETDOWN:  # inside somebody took the device down; it may come up again
                    time.sleep(min(seconds, 0.1))
                elif failure.errno != errno.EAGAIN:
                    raise
        return frames

    return Wire(send, receive)


def acquire(wire: Wire, hardware_address: bytes, seconds: float = LEASE_SECONDS, wanted: str = "") -> Answer | None:
    """A lease: DISCOVER, OFFER, REQUEST, ACK; begun anew where the server takes its offer back. None if none comes."""
    begun = time.monotonic()
    deadline = begun + seconds
    while time.monotonic() < deadline:
        transaction = os.urandom(4)
        elapsed = int(time.monotonic() - begun)
        question = Question(DISCOVER, transaction, hardware_address, requested=wanted, elapsed=elapsed)
        offer = _ask(wire, question, (OFFER,), deadline)
        if offer is None:
            return None
        question = Question(REQUEST, transaction, hardware_address, requested=offer.address, server=offer.server)
        lease = _ask(wire, question, (ACK, NAK), min(deadline, time.monotonic() + 4 * _FIRST_WAIT))
        if lease is not None and lease.kind == ACK:
            return lease
        time.sleep(min(_FIRST_WAIT, max(0.0, deadline - time.monotonic())))  # RFC 2131, 3.1.5: not at once again
    return None


def keep(device: str, lease: Answer, obtained: float) -> int:
    """Keep the lease of a device of the current network namespace for ever; what the helper process does.

    When it runs out or is refused, the address goes and another one is asked for. Ends when the device is gone.
    """
    try:
        while True:
            if not lease.seconds or lease.seconds >= _FOREVER:
                _sleep_until(obtained + _FOREVER)
                continue
            renewed = _renew(device, lease, obtained)
            lost = renewed is None
            if renewed is None:
                _drop(device, lease)
                renewed = _begin_anew(device, lease.address)
            before, (lease, obtained) = lease, renewed
            if lost or interface(device, before) != interface(device, lease):  # else what is there stays as it is
                if not lost:
                    _drop(device, before)
                configure(interface(device, lease))
    except OSError as failure:
        if failure.errno in (errno.ENODEV, errno.ENXIO):
            os.write(2, b"the device is gone\n")
            return 1
        raise


def interface(device: str, lease: Answer, mtu: int = 0) -> Interface:
    """The device as the lease wants it."""
    return Interface(device, lease.address, lease.prefix, lease.routers[0] if lease.routers else "", mtu)


def no_answer(operation: str, subject: str, hint: str) -> JubakoError:
    """The error where nobody answers."""
    return JubakoError(operation, subject, reason="no DHCP server answered", hint=hint)


def _renew(device: str, lease: Answer, obtained: float) -> tuple[Answer, float] | None:
    """The lease again; None when it has run out or is refused (RFC 2131, 4.4.5)."""
    end = obtained + max(lease.seconds, 2 * _SHORTEST_RENEWAL)
    _sleep_until(obtained + max(lease.renew, _SHORTEST_RENEWAL))
    rebind = obtained + max(lease.rebind, 1.5 * _SHORTEST_RENEWAL)
    while (now := time.monotonic()) < end:
        alone = now < rebind and bool(lease.server)
        to, server = (lease.sender, lease.server) if alone else (BROADCAST, _EVERYBODY)
        stage = rebind if alone else end
        socket, hardware_address = open_wire(device)
        try:
            question = Question(REQUEST, os.urandom(4), hardware_address, address=lease.address)
            answer = _ask(over(socket), question, (ACK, NAK), min(stage, now + 10), to, server)
        finally:
            socket.close()
        if answer is not None:
            return (answer, now) if answer.kind == ACK else None
        left = stage - time.monotonic()
        _sleep_until(min(stage, time.monotonic() + max(left / 2, min(60.0, left))))  # half of what is left, or a minute
    return None


def _begin_anew(device: str, wanted: str) -> tuple[Answer, float]:
    while True:
        socket, hardware_address = open_wire(device)
        try:
            now = time.monotonic()
            lease = acquire(over(socket), hardware_address, wanted=wanted)
        finally:
            socket.close()
        if lease is not None:
            return lease, now
        time.sleep(_LONGEST_WAIT)


def _drop(device: str, lease: Answer) -> None:
    rtnetlink.remove_address(rtnetlink.device_index(device), rtnetlink.ipv4(lease.address, lease.prefix))


def _ask(
    wire: Wire,
    question: Question,
    kinds: tuple[int, ...],
    deadline: float,
    to: bytes = BROADCAST,
    server: str = _EVERYBODY,
) -> Answer | None:
    """Send until an answer of one of `kinds` comes, at growing distances (RFC 2131, 4.1)."""
    wait = _FIRST_WAIT
    while (now := time.monotonic()) < deadline:
        wire.send(frame(question, to, server))
        until = min(deadline, now + wait)
        wait = min(wait * 2, _LONGEST_WAIT)
        while (left := until - time.monotonic()) > 0:
            for data in wire.receive(left):
                found = unframe(data)
                answer = decode(found[0], question, found[1]) if found else None
                if answer is not None and answer.kind in kinds:
                    return answer
            time.sleep(_PAUSE)
    return None


def _sleep_until(moment: float) -> None:
    while (left := moment - time.monotonic()) > 0:
        time.sleep(min(left, 1 << 20))


def _attach_filter(socket: _socket.socket) -> None:
    """Let only IPv4, UDP, unfragmented, to the client's port through (linux/filter.h)."""
    lines = (
        (0x28, 0, 0, 12),  # ldh: the frame's type
        (0x15, 0, 8, _IPV4),
        (0x30, 0, 0, 23),  # ldb: the protocol
        (0x15, 0, 6, 17),
        (0x28, 0, 0, 20),  # ldh: fragment
        (0x45, 4, 0, 0x1FFF),
        (0xB1, 0, 0, 14),  # ldxb: the header's length
        (0x48, 0, 0, 16),  # ldh: the port behind it
        (0x15, 0, 1, 68),
        (0x06, 0, 0, _LONGEST),
        (0x06, 0, 0, 0),
    )
    program = ctypes.create_string_buffer(b"".join(pack("=HBBI", *line) for line in lines), 8 * len(lines))
    socket.setsockopt(_socket.SOL_SOCKET, _SO_ATTACH_FILTER, pack("HL", len(lines), ctypes.addressof(program)))
