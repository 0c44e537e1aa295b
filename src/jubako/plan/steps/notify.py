"""Steps that hand the listener of a system call filter to whoever answers its calls: OCI runtime-spec 1.3,
config-linux.md, "Seccomp" (`listenerPath`, "The Container Process State"); seccomp_unotify(2).

The runtime connects outside, where the path means something. Once the container's process is known, what is to be said
of it is written to a file in memory that this process has inherited. The listener itself is born in the same moment as
the filter, and from then on nothing of ours may run in that process. So a helper that shares its table of descriptors
(`CLONE_FILES`) waits beside it, sends the listener, and ends.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import time
from _struct import pack

from jubako.jsontext import dumps
from jubako.linux.clone import CLONE_FILES, clone_beside, unshare
from jubako.linux.descriptors import close_all_but
from jubako.linux.prctl import set_parent_death_signal
from jubako.plan.step import INIT, RUNTIME, SUPERVISOR, Slots, Step, printable, quote, step

_NOTIF_ID_VALID = 0x40082102  # SECCOMP_IOCTL_NOTIF_ID_VALID
_MOST_DESCRIPTORS = 256
_PATIENCE = 30  # seconds, for a listener whose queue is full


@step(actor=RUNTIME)
class ConnectListener(Step):
    """Whoever will answer the filter's calls is reached before the container is made, so that its absence is told."""

    path: str

    produces = ("seccomp_listener", "seccomp_state")

    def apply(self, slots: Slots) -> None:
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            socket.connect(self.path)
            socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, pack("ll", _PATIENCE, 0))
            slots["seccomp_state"] = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        except OSError:
            socket.close()
            raise
        slots["seccomp_listener"] = socket.detach()

    def call(self) -> str:
        return f"socket(AF_UNIX, SOCK_STREAM); connect({quote(self.path)}); memfd_create()"

    def operation(self) -> str:
        return "connect to the seccomp listener"

    def subject(self) -> str:
        return quote(self.path)[1:-1]

    def hint(self, errno_: int) -> str:
        if errno_ in (errno.ENOENT, errno.ECONNREFUSED):
            return "start the program that listens at linux.seccomp.listenerPath first"
        return ""


@step(actor=SUPERVISOR)
class DescribeToListener(Step):
    """What the listener is told of the process whose calls it will answer: OCI's container process state."""

    version: str
    container: str
    bundle: str
    metadata: str = ""
    annotations: tuple[tuple[str, str], ...] = ()
    status: str = "creating"
    container_pid: int = 0
    """The container's own process where the filter is another's (`exec`); 0: it is the same."""
    joined: bool = False

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("seccomp_state", "init_pidfd" if self.joined else "init_pid")

    def apply(self, slots: Slots) -> None:
        pid = slots["init_child" if self.joined else "init_pid"]
        os.pwrite(slots["seccomp_state"], self._text(pid).encode("utf-8", "surrogateescape"), 0)
        slots.close("seccomp_state")
        slots.close("seccomp_listener")

    def _text(self, pid: int) -> str:
        state: dict[str, object] = {
            "ociVersion": self.version,
            "id": self.container,
            "status": self.status,
            "pid": self.container_pid or pid,
            "bundle": self.bundle,
        }
        if self.annotations:
            state["annotations"] = dict(self.annotations)
        process = {"ociVersion": self.version, "fds": ["seccompFd"], "pid": pid}
        if self.metadata:
            process["metadata"] = self.metadata
        return dumps({**process, "state": state})

    def call(self) -> str:
        return f"write(seccomp_state, {quote(self._text(0))})"

    def operation(self) -> str:
        return "describe the container to its seccomp listener"


@step(actor=INIT)
class AwaitListener(Step):
    """A helper that shares this process's descriptors will send the filter's listener as soon as it exists."""

    needs = ("seccomp_listener", "seccomp_state")

    def apply(self, slots: Slots) -> None:
        state, socket = slots["seccomp_state"], slots["seccomp_listener"]
        text = os.pread(state, os.fstat(state).st_size, 0)
        slots.close("seccomp_state")
        if clone_beside() == 0:
            try:
                set_parent_death_signal(9)
                listener = find_listener()
                unshare(CLONE_FILES)  # what this process still holds open, others would wait for
                close_all_but((socket, listener))
                send_listener(socket, listener, text)
            finally:
                os._exit(0)

    def call(self) -> str:
        return (
            "clone(CLONE_FILES); the child: ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID), unshare(CLONE_FILES), "
            "sendmsg(SCM_RIGHTS, listener)"
        )

    def purpose(self) -> str:
        return printable(self.why)

    def operation(self) -> str:
        return "start the helper for the seccomp listener"


def find_listener() -> int:
    """The seccomp listener among this process's descriptors, as soon as there is one: only such a one answers ENOENT
    when it is asked for a notification that it does not have."""
    while True:
        for fd in range(3, _MOST_DESCRIPTORS):
            try:
                fcntl.ioctl(fd, _NOTIF_ID_VALID, bytes(8))
            except OSError as failure:
                if failure.errno == errno.ENOENT:
                    return fd
        time.sleep(0.0005)


def send_listener(socket: int, listener: int, text: bytes) -> None:
    """Send the state, all of it, and with its first byte the listener."""
    connection = _socket.socket(fileno=socket)
    sent = connection.sendmsg(
        [text], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pack("i", listener))], _socket.MSG_NOSIGNAL
    )
    while sent < len(text):
        sent += connection.send(text[sent:], _socket.MSG_NOSIGNAL)
    connection.shutdown(_socket.SHUT_WR)  # the other process's copy closes only when its program begins
