"""The half of the builtin port driver that is in the host's network namespace: it listens, and moves bytes.

One process with one loop. The supervisor tells it over a packet socket which ports to add and remove, and it ends when
that socket does; so does it, and says so, when the connector has ended. Where descriptors run out it takes no
connections until there are some again: they wait in the kernel's queue.
"""

from __future__ import annotations

import _signal
import errno
import os
from select import EPOLLIN

from jubako.linux import caps, scm
from jubako.linux.prctl import set_no_new_privs
from jubako.linux.rlimit import get_rlimit, set_rlimit
from jubako.linux.title import set_title
from jubako.net.ports.datagrams import Client, Datagrams
from jubako.net.ports.joining import Asking, Joining, Keeping
from jubako.net.ports.listening import Listening, bind
from jubako.net.ports.loop import Loop
from jubako.net.ports.pipes import Budget, Pipes
from jubako.net.ports.pump import Pump
from jubako.net.ports.spec import PortSpec
from jubako.net.ports.wire import pack_words, unpack_words
from jubako.net.ports.workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.linux.scm import Socket
    from jubako.net.ports.connector import Answer

_SPARE = 64
"""Descriptors that are not counted: standard streams, the loop, sockets to other processes."""
_FOR_ONE = 16
"""Descriptors that have to be free for one more connection: its own, its pipes, and some for those that there are."""
_MOST_DESCRIPTORS = 1 << 20
_LOOK_SECONDS = 0.25


def run_plane(control: Socket, link: Socket, keep_clients: bool, workers: int = 0) -> int:
    """Forward until `control` ends. `link` leads to the connector; `workers` is the most processes, 0 for the CPUs."""
    prepare("jubako-ports")
    rights = caps.mask(("CAP_NET_BIND_SERVICE",)) & caps.capget().permitted
    caps.capset(rights, rights, 0)
    plane = Plane(control, link, keep_clients, workers)
    scm.send(control, pack_words("ready"))
    plane.loop.run()
    return plane.code


def prepare(title: str) -> None:
    """What a helper process of this driver does first."""
    set_title(title)
    set_no_new_privs()
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # workers leave nothing to wait for
    for number in (_signal.SIGTERM, _signal.SIGINT):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    soft, hard = get_rlimit("RLIMIT_NOFILE")
    if soft != hard:
        set_rlimit("RLIMIT_NOFILE", hard, hard)


class Plane:
    """All published ports."""

    def __init__(self, control: Socket, link: Socket, keep_clients: bool, workers: int) -> None:
        soft, _hard = get_rlimit("RLIMIT_NOFILE")
        limit = (soft if 0 < soft < _MOST_DESCRIPTORS else _MOST_DESCRIPTORS) - _SPARE
        self.loop = Loop()
        self.code = 0
        self.control = control
        control.setblocking(False)
        self.keep_clients = keep_clients
        self.budget = Budget(self.loop, limit)
        self.pump = Pump(self.loop, Pipes(self.budget), self._closed)
        self.workers = Workers(self.loop, self.pump, limit, self._closed, workers)
        self.asking = Asking(self.loop, link, self._connector_ended)
        self.ports: dict[PortSpec, _Port] = {}
        self.joining: set[Joining] = set()
        self.kept: dict[int, tuple[str, str]] = {}
        """Of connections that have their client's address: where it is to be released."""
        self.number = 0
        # Sockets are closed at once only when a turn's events are done, and `remove` has to have closed them.
        self.loop.add(control.fileno(), EPOLLIN, lambda _events: self.loop.soon.append(self._on_control))

    # --- what the supervisor says -------------------------------------------------------------------------------------

    def _on_control(self) -> None:
        try:
            data, _none = scm.receive(self.control)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.loop.over = True
            return
        verb, host_address, host_port, address, port, protocol = unpack_words(data)
        spec = PortSpec(host_address, int(host_port), address, int(port), protocol)
        try:
            answer = ("ok", self._add(spec) if verb == "add" else self._remove(spec))
        except OSError as failure:
            answer = ("no", failure.errno or errno.EIO)
        scm.send(self.control, pack_words(*answer))

    def _add(self, spec: PortSpec) -> int:
        sockets = bind(spec)
        found = sockets[0].getsockname()[1]
        spec = PortSpec(spec.host_address, found, spec.address, spec.port, spec.protocol)
        self.ports[spec] = _Port(self, spec, sockets)
        return int(found)

    def _remove(self, spec: PortSpec) -> int:
        port = self.ports.pop(spec, None)
        if port is None:
            raise OSError(errno.ENOENT, "not published")
        port.close()
        kind = spec.protocol[:3]
        if not any(other.port == spec.port and other.protocol[:3] == kind for other in self.ports):
            self.loop.at(("forget", kind, spec.port), 1.0, lambda: self._forget(kind, spec.port))
        return spec.host_port

    def _forget(self, kind: str, port: int) -> None:
        """Remove the rules of a port inside, unless connections still need them."""
        if any(other.port == port and other.protocol[:3] == kind for other in self.ports):
            return
        if self.kept or self.joining:
            self.loop.at(("forget", kind, port), 5.0, lambda: self._forget(kind, port))
        else:
            self.asking.forget(kind, port)

    def _connector_ended(self) -> None:
        os.write(2, b"the process in the container's network namespace has ended\n")
        self.code = 1
        self.loop.over = True

    # --- connections --------------------------------------------------------------------------------------------------

    def welcome(self, port: _Port, client: Socket, address: tuple[object, ...]) -> None:
        """Join a connection that has been taken with what it is for."""
        self.budget.take(2)
        joining: Joining | None = None
        early: list[bool] = []

        def done(socket: Socket | None, answer: Answer | None) -> None:
            self.budget.give(2)
            if joining:
                self.joining.discard(joining)
            early.append(True)
            if socket is None or answer is None:
                return
            self.number += 1
            if answer.kept:
                self.kept[self.number] = (answer.target, str(address[0]))
            self.workers.start(self.number, client, socket)

        joining = Joining(self.asking, port.spec, client, address, port.keep, done)
        if not early:
            self.joining.add(joining)
            self.loop.at_first("joining", _LOOK_SECONDS, self._look)

    def _look(self) -> None:
        for joining in list(self.joining):
            joining.look()
        if self.joining:
            self.loop.at("joining", _LOOK_SECONDS, self._look)

    def _closed(self, number: int) -> None:
        target, client = self.kept.pop(number, ("", ""))
        if target:
            self.asking.release(target, client)


class _Port:
    """One published port, with its sockets of both families."""

    def __init__(self, plane: Plane, spec: PortSpec, sockets: list[Socket]) -> None:
        self.plane = plane
        self.spec = spec
        self.keep = Keeping(plane.keep_clients, say)
        self.datagrams: list[Datagrams] = []
        self.listening: list[Listening] = []
        plane.budget.take(len(sockets))
        for socket in sockets:
            if spec.protocol.startswith("udp"):
                self.datagrams.append(Datagrams(plane.loop, plane.budget, socket, self._connect))
            else:
                self.listening.append(Listening(plane.loop, socket, self._may_accept, self._accepted))

    def close(self) -> None:
        """Take no more."""
        for datagrams in self.datagrams:
            datagrams.close()
        for listening in self.listening:
            listening.close()
        self.plane.budget.give(len(self.datagrams) + len(self.listening))

    def _may_accept(self, resume: Callable[[], None]) -> bool:
        """Whether there is room for one more; if not, `resume` is called when there may be."""
        if not self.plane.budget.has(_FOR_ONE):
            self.plane.pump.pipes.close_free()
        if not self.plane.budget.has(_FOR_ONE):
            self.plane.budget.wait(resume)
        elif not self.plane.asking.has_room():
            self.plane.asking.waiting.append(resume)
        else:
            return True
        return False

    def _accepted(self, client: Socket, address: tuple[object, ...]) -> None:
        self.plane.welcome(self, client, address)

    def _connect(self, client: Client) -> bool:
        plane = self.plane
        if not plane.asking.has_room():
            return False
        (datagrams,) = [each for each in self.datagrams if each.clients.get(client.key) is client]
        source = str(client.address[0])

        def take(answer: Answer, socket: Socket | None) -> None:
            if socket is None:
                datagrams.refused(client)
                return
            release = (lambda: plane.asking.release(answer.target, source)) if answer.kept else None
            datagrams.joined(client, socket, release)

        plane.asking.ask(self.spec, client.address, self.keep.now(), 0, take)
        return True


def say(text: str) -> None:
    """Write a line for the supervisor's log; nobody waits for it."""
    try:
        os.write(2, f"{text}\n".encode(errors="replace"))
    except OSError:
        pass
