"""vpnkit: a user-space TCP/IP stack behind a unix socket, whose frames a helper of ours carries to a tap device.

vpnkit runs outside of the namespace. It gives the address, 192.168.65.3/24 for its first client, by DHCP; the router,
which is the name server as well, is 192.168.65.1, and the host 192.168.65.2 where that is not forbidden. It is known to
fail with an MTU other than 1500, so another one is taken only if asked for.
"""

from __future__ import annotations

import _socket
import os

from jubako.errors import JubakoError, UsageError
from jubako.net import tap, vmnet
from jubako.net.dhcp import DISCOVER, OFFER, Answer, Question, decode, frame, unframe
from jubako.net.enter import inside
from jubako.net.guard import close_loopback
from jubako.net.helper import START_SECONDS, Helper, await_true, start_function, start_program
from jubako.net.layout import check_mtu, is_device_name, refuse
from jubako.net.link import Connection, Link, NetworkOptions, Where
from jubako.net.programs import find_program
from jubako.record import replace

_SOCKET = "vpnkit.sock"
_ADDRESS, _PREFIX, _GATEWAY, _HOST = "192.168.65.3", 24, "192.168.65.1", "192.168.65.2"
_MTU = 1500
_TRIES = 10


class Vpnkit:
    """The driver `vpnkit`."""

    name = "vpnkit"
    ports: tuple[str, ...] = ("builtin",)

    def __init__(self, options: NetworkOptions) -> None:
        refuse(self.name, options, ("cidr", "ipv6", "rules", "bridge", "sandbox", "seccomp"), self.ports)
        check_mtu(options.mtu, ipv6=False, operation=f"read mtu of {self.name}")
        if options.device and not is_device_name(options.device):
            reason = "no network device can be called so"
            raise UsageError(f"read the device name of {self.name}", options.device, reason=reason)
        self.mtu = options.mtu or _MTU
        self.device = options.device or "tap0"
        self.host_loopback = options.host_loopback
        self.arguments = options.arguments
        self.program = find_program(options.program or self.name, self.name)

    def plan(self) -> Link:
        return Link(
            self.name,
            device=self.device,
            addresses=(f"{_ADDRESS}/{_PREFIX}",),
            gateways=(_GATEWAY,),
            dns=(_GATEWAY,),
            mtu=self.mtu,
            host=_HOST if self.host_loopback else "",
        )

    def explain(self) -> tuple[str, ...]:
        command = " ".join(self._command(f"RUN/{_SOCKET}"))
        return (command, f"carry Ethernet frames between that socket and {self.device}, in a helper process")

    def connect(self, where: Where) -> Connection:
        directory = os.open(where.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        helpers: list[Helper] = []
        socket = None
        try:
            _remove(directory)  # of a supervisor that was killed
            path = f"/proc/self/fd/{directory}/{_SOCKET}"  # a socket's address holds no more than 107 bytes
            helpers.append(start_program(self._command(path), keep=(directory,)))
            socket = _reach(path, helpers[0])
            return self._connect(where, socket, helpers)
        except OSError as failure:
            raise JubakoError.from_os_error("connect to", self.program, failure) from failure
        except JubakoError as failure:
            raise _with_words(failure, helpers) from failure
        finally:
            if socket is not None:
                socket.close()
            if len(helpers) < 2:
                for helper in helpers:
                    helper.end()
                _remove(directory)
            os.close(directory)

    def _command(self, path: str) -> tuple[str, ...]:
        alone = () if self.host_loopback else ("--host-ip", "0.0.0.0")
        return (self.program, "--ethernet", path, "--mtu", str(self.mtu), *alone, *self.arguments)

    def _connect(self, where: Where, socket: _socket.socket, helpers: list[Helper]) -> Connection:
        vif = vmnet.attach(socket, START_SECONDS)
        if vif.mtu < self.mtu:
            raise JubakoError("connect to", "vpnkit", reason=f"its MTU is {vif.mtu}, and {self.mtu} was asked for")
        frames = vmnet.Frames()
        offer = _offer(socket, frames, vif.hardware_address)
        gateway = offer.routers[0] if offer.routers else _GATEWAY
        interface = tap.Interface(self.device, offer.address, offer.prefix, gateway, self.mtu, vif.hardware_address)

        def make() -> tuple[bytes, tuple[int, ...]]:
            fd = tap.open_tap(self.device)
            if not self.host_loopback:
                close_loopback(fd)  # vpnkit connects to whatever address it sees in a frame
            tap.configure(interface)
            return b"", (fd,)

        _text, (fd,) = inside(where, make, "make the tap device")
        try:
            helpers.append(
                start_function(
                    "vpnkit frames", lambda: vmnet.pump(fd, socket, frames, vif.largest), keep=(fd, socket.fileno())
                )
            )
        finally:
            os.close(fd)
        link = replace(
            self.plan(),
            addresses=(f"{offer.address}/{offer.prefix}",),
            gateways=(gateway,),
            dns=offer.dns or (_GATEWAY,),
        )
        return Connection(link, tuple(helpers))


def _reach(path: str, helper: Helper) -> _socket.socket:
    """A connection to vpnkit, as soon as it listens."""
    found: list[_socket.socket] = []

    def try_once() -> bool:
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            socket.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            socket.close()
            return False
        found.append(socket)
        return True

    await_true(helper, try_once)
    return found[0]


def _offer(socket: _socket.socket, frames: vmnet.Frames, hardware_address: bytes) -> Answer:
    """The address that vpnkit keeps for this interface: its DHCP server takes an offer for granted."""
    question = Question(DISCOVER, os.urandom(4), hardware_address)
    for _ in range(_TRIES):
        for data in vmnet.exchange(socket, frames, frame(question), START_SECONDS / _TRIES):
            found = unframe(data)
            answer = decode(found[0], question, found[1]) if found else None
            if answer is not None and answer.kind == OFFER:
                return answer
    raise JubakoError("connect to", "vpnkit", reason="it offered no address")


def _with_words(failure: JubakoError, helpers: list[Helper]) -> JubakoError:
    """`failure`, and what vpnkit wrote if it is still there to be read."""
    words = helpers[0].read().decode(errors="replace").strip().replace("\n", "; ") if helpers else ""
    if words:
        failure.reason = f"{failure.reason}; it wrote: {words}" if failure.reason else words
    return failure


def _remove(directory: int) -> None:
    try:
        os.unlink(_SOCKET, dir_fd=directory)
    except FileNotFoundError:
        pass
