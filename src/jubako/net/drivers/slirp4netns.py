"""slirp4netns(1): a user-mode TCP/IP stack that carries what comes from a tap device as sockets of the host.

The program joins the namespace by a descriptor, since pids of the supervisor's PID namespace mean nothing in the /proc
that it sees. It tells on a descriptor of its own that the device is configured. Its control socket is for the port
driver of the same name. Host loopback is closed to what is inside unless it was asked for.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError, UsageError
from jubako.linux.clone import CLONE_NEWNS, unshare
from jubako.linux.mount import MS_REC, MS_SLAVE, mount
from jubako.net.enter import inside
from jubako.net.guard import close_loopback_of
from jubako.net.helper import await_ready, start_function
from jubako.net.layout import Layout, add_route_to_ipv6, refuse
from jubako.net.link import Connection, Link
from jubako.net.programs import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from jubako.net.helper import Helper
    from jubako.net.link import NetworkOptions, Where

_SOCKET = "slirp4netns.sock"
_CHOICES = ("", "auto", "true", "false")


class Slirp4netns:
    """A network through slirp4netns."""

    name = "slirp4netns"
    ports: tuple[str, ...] = ("builtin", "slirp4netns")

    def __init__(self, options: NetworkOptions) -> None:
        for key, choice in (("sandbox", options.sandbox), ("seccomp", options.seccomp)):
            if choice not in _CHOICES:
                raise UsageError(f"read {key} of slirp4netns", choice, reason="it is none of auto, true and false")
        refuse(self.name, options, ("rules", "bridge"), self.ports)
        self._layout = Layout.of(self.name, options)
        self._program = find_program(options.program or self.name, self.name)
        self._options = options

    def plan(self) -> Link:
        return self._layout.link(self.name, host=self._options.host_loopback)

    def explain(self) -> tuple[str, ...]:
        return (" ".join(self._command("NETNS", "READY", f"RUN/{_SOCKET}")),)

    def connect(self, where: Where) -> Connection:
        path = f"{where.directory}/{_SOCKET}"
        try:
            helper = self._start(where)
        except OSError as failure:
            raise JubakoError.from_os_error("start", self.name, failure) from failure
        try:
            if not self._options.host_loopback:
                close_loopback_of(helper)
            if self._layout.ipv6:
                inside(where, self._configure_ipv6, "configure IPv6 of")
        except BaseException:
            if helper.pidfd >= 0:
                helper.end()
            os.unlink(path)
            raise
        return Connection(self.plan(), (helper,), path)

    def _start(self, where: Where) -> Helper:
        """The program, once its device is configured."""
        if os.path.lexists(f"{where.directory}/{_SOCKET}"):  # of a supervisor that was killed
            os.unlink(f"{where.directory}/{_SOCKET}")
        options = self._options
        ready, writer = os.pipe2(os.O_CLOEXEC)
        users = ("--userns-path", f"/proc/self/fd/{where.user}") if where.user >= 0 else ()
        # A path may be too long for a socket's address, and a descriptor of the directory would be a way out of the
        # program's sandbox: so the program starts in that directory.
        command = self._command(f"/proc/self/fd/{where.network}", str(writer), _SOCKET, users)

        def run() -> NoReturn:
            for fd in keep:
                os.set_inheritable(fd, True)
            if options.sandbox != "false":
                # What it unmounts for its sandbox would vanish from the host's own table where that is shared, and
                # where we are the machine's root: so it gets a copy from which nothing comes back.
                unshare(CLONE_NEWNS)
                mount(None, "/", None, MS_REC | MS_SLAVE)
            os.chdir(where.directory)
            os.execv(command[0], command)

        keep = (where.network, writer, *((where.user,) if where.user >= 0 else ()))
        try:
            helper = start_function(self.name, run, keep=keep)
            os.close(writer)
            writer = -1
            if not await_ready(helper, ready, hint=self._hint()):
                raise helper.failure("", self._hint())
        finally:
            for fd in (ready, writer):
                if fd >= 0:
                    os.close(fd)
        return helper

    def _command(self, network: str, ready: str, socket: str, users: tuple[str, ...] = ()) -> tuple[str, ...]:
        layout, options = self._layout, self._options
        words = [self._program, "--configure", "--mtu", str(layout.mtu), "--ready-fd", ready]
        words += ["--cidr", str(layout.network), "--api-socket", socket, *users, "--netns-type", "path"]
        if not options.host_loopback:
            words.append("--disable-host-loopback")
        if options.ipv6:
            words.append("--enable-ipv6")
        if options.sandbox != "false":
            words.append("--enable-sandbox")
        if options.seccomp != "false":
            words.append("--enable-seccomp")
        return (*words, *options.arguments, network, layout.device)

    def _configure_ipv6(self) -> tuple[bytes, tuple[int, ...]]:
        """The program leaves the addresses of IPv6 to router advertisements, which take seconds and give others."""
        add_route_to_ipv6(self._layout.device)
        return b"", ()

    def _hint(self) -> str:
        if self._options.sandbox == self._options.seccomp == "false":
            return ""
        return "where its own sandbox or filter is the cause: --network slirp4netns:sandbox=false,seccomp=false"
