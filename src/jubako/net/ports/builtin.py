"""The builtin port driver: two helper processes, one on each side, that need no program and no device.

The one on the host's side listens and moves bytes (`plane`), the one in the container's network namespace makes the
sockets there (`connector`) and hands them over. So bytes go through no virtual device, and this works where the
container has nothing but lo. The container sees the address of the client itself (`clients`).

Ports are added and removed at run time. Whoever owns the forwarder watches the helpers' pidfds: when one of the two
ends the other one ends as well, and what it has to say is in their words.
"""

from __future__ import annotations

import _socket
import os
import select

from jubako.errors import JubakoError
from jubako.linux import scm
from jubako.net.helper import Helper, await_ready, start_function
from jubako.net.ports.connector import run_connector
from jubako.net.ports.listening import refusal
from jubako.net.ports.plane import prepare, run_plane
from jubako.net.ports.spec import PortSpec
from jubako.net.ports.wire import pack_words, unpack_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.linux.scm import Socket
    from jubako.net.link import Link, PortForwarder, Where

_ANSWER_SECONDS = 20.0


def open_builtin(where: Where, link: Link, *, transparent: bool = True, workers: int = 0) -> PortForwarder:
    """Start the two helpers. Called in a process with one thread.

    `transparent` keeps the clients' addresses, where that can be. `workers` is the most processes that move bytes, 0
    for one a CPU. Raises `JubakoError`, and then nothing is left.
    """
    control, far_control = scm.pair()
    near, far = scm.pair()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    helpers: list[Helper] = []

    def connector() -> int:
        prepare("jubako-connect")
        return run_connector(where, far, writer, own_addresses(link))

    keep = (far.fileno(), writer, where.network, *((where.user,) if where.user >= 0 else ()))
    try:
        helpers.append(start_function("the port driver's connector", connector, keep=keep))
        helpers.append(
            start_function(
                "the port driver",
                lambda: run_plane(far_control, near, transparent, workers),
                keep=(far_control.fileno(), near.fileno()),
            )
        )
        await_ready(helpers[0], reader)
        await_ready(helpers[1], control.fileno())
    except BaseException:
        control.close()
        for helper in helpers:
            if helper.pidfd >= 0:
                helper.end()
        raise
    finally:
        os.close(reader)
        os.close(writer)
        for socket in (far_control, near, far):
            socket.close()
    return BuiltinForwarder(control, (helpers[1], helpers[0]))


def own_addresses(link: Link) -> dict[int, str]:
    """The first address of each family that the link has inside."""
    found: dict[int, str] = {}
    for address in link.addresses:
        text = address.partition("/")[0]
        found.setdefault(_socket.AF_INET6 if ":" in text else _socket.AF_INET, text)
    return found


class BuiltinForwarder:
    """Ports forwarded by helper processes."""

    def __init__(self, control: Socket, helpers: tuple[Helper, ...]) -> None:
        self.control = control
        self.helpers = helpers
        self.descriptors: tuple[int, ...] = (control.fileno(),)

    def add(self, port: PortSpec) -> PortSpec:
        """Forward it; the port as it is published, with the number that was chosen for 0. Raises `JubakoError`."""
        number = self._ask("add", port, "publish")
        return PortSpec(port.host_address, number, port.address, port.port, port.protocol)

    def remove(self, port: PortSpec) -> None:
        """Take no new connections. Those of TCP go on; UDP has none, so its clients are forgotten."""
        self._ask("remove", port, "stop publishing")

    def close(self) -> None:
        """End the helpers, and all connections with them."""
        self.control.close()
        for helper in self.helpers:
            if helper.pidfd >= 0:
                helper.end()

    def _ask(self, verb: str, port: PortSpec, operation: str) -> int:
        words = (verb, port.host_address, port.host_port, port.address, port.port, port.protocol)
        try:
            scm.send(self.control, pack_words(*words))
            data = self._answer()
        except OSError:
            data = b""
        if not data:
            raise JubakoError(operation, str(port), reason="the port driver's process has ended")
        answer, number = unpack_words(data)
        if answer == "ok":
            return int(number)
        raise refusal(operation, port, int(number))

    def _answer(self) -> bytes:
        poller = select.poll()
        poller.register(self.control.fileno(), select.POLLIN)
        if not poller.poll(int(_ANSWER_SECONDS * 1000)):
            return b""
        return scm.receive(self.control)[0]
