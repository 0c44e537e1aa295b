"""One published port, in the place of docker-proxy: dockerd in a fake root starts it, and kills it at the end.

The host's port is forwarded by the fake root; within, the real docker-proxy takes what comes there to the container, as
it would on a host. Where that program is missing, the fake root forwards to the container itself. dockerd reads
descriptor 3: `0\\n`, or `1\\n` and the reason.
"""

from __future__ import annotations

import _signal
import os
import select

from jubako.errors import JubakoError
from jubako.linux.prctl import set_parent_death_signal
from jubako.net.ports.spec import PortSpec
from jubako.net.programs import find_program
from jubako.record import record, replace
from jubako.rootless.client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REAL_PROXY = "docker-proxy"
TELL = 3
_SIGKILL = 9
_ENDS = (1, 2, 3, 15)  # HUP, INT, QUIT, TERM: docker ends it with INT


@record
class Asked:
    """What dockerd wants. Its words are kept, for the program in whose place this is."""

    container_address: str
    container_port: int
    host_address: str
    host_port: int
    protocol: str
    words: tuple[str, ...] = ()


def publish(asked: Asked, client: Client) -> int:
    """Publish until a signal comes or the program within ends; the exit code."""
    info = client.info()
    ports: dict[str, Any] = info.get("portDriver") or {}
    if ports.get("driver", "none") in ("none", "implicit"):  # nothing to ask for: what is listened on within is all
        proxy = find_program(REAL_PROXY)
        os.set_inheritable(TELL, True)
        os.execv(proxy, (REAL_PROXY, *asked.words))
    protocol = asked.protocol
    if protocol[-1:] not in ("4", "6"):
        protocol += "6" if ":" in asked.host_address else "4"
    if protocol not in ports.get("protos", ()):
        os.write(2, f"{ports['driver']} does not forward {protocol}: port {asked.host_port} is left out\n".encode())
        os.write(TELL, b"0\n")
        return 0
    inside = "::1" if protocol.endswith("6") else "127.0.0.1"
    if ports.get("disallowLoopbackChildIP"):
        inside = str((info.get("networkDriver") or {}).get("childIP", ""))
    port = PortSpec(asked.host_address, asked.host_port, inside, asked.host_port, protocol)
    _signal.pthread_sigmask(_signal.SIG_BLOCK, (*_ENDS, 17))
    try:
        proxy = find_program(REAL_PROXY)
    except JubakoError:
        return _hold(client, replace(port, address=asked.container_address, port=asked.container_port))
    entry = client.add_port(port)
    try:
        return _run(proxy, asked, inside)
    finally:
        client.remove_port(entry["id"])


def _hold(client: Client, port: PortSpec) -> int:
    """Without the real program: forwarded to the container, until a signal or the end of standard input."""
    entry = client.add_port(port)
    try:
        os.write(TELL, b"0\n")
        os.close(TELL)
        while True:
            if _signal.sigtimedwait(_ENDS, 0.2) is not None or _has_ended(0):
                return 0
    finally:
        client.remove_port(entry["id"])


def _run(proxy: str, asked: Asked, inside: str) -> int:
    """The real program, which tells dockerd on descriptor 3; until a signal comes, or it ends."""
    words = (
        REAL_PROXY, "-container-ip", asked.container_address, "-container-port", str(asked.container_port),
        "-host-ip", inside, "-host-port", str(asked.host_port), "-proto", asked.protocol,
    )  # fmt: skip
    pid = os.fork()
    if pid == 0:
        try:
            set_parent_death_signal(_SIGKILL)
            os.set_inheritable(TELL, True)
            _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
            os.execv(proxy, words)
        finally:
            os._exit(127)
    os.close(TELL)
    while True:
        number = _signal.sigwait((*_ENDS, 17))
        if number != 17:
            os.kill(pid, _SIGKILL)
            os.waitpid(pid, 0)
            return 0
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return max(os.waitstatus_to_exitcode(status), 0) if status < 1 << 16 else 1


def _has_ended(fd: int) -> bool:
    """Whether a pipe's writer has gone; what is no pipe never ends."""
    poller = select.poll()
    poller.register(fd, 0)
    return any(events & select.POLLHUP for _fd, events in poller.poll(0))
