"""The supervisor of a fake root: it connects the network, forwards ports, answers at api.sock, and sees to the end.

It is the first process of a PID namespace that holds all helpers, in the fake root's user namespace but with the host's
network and mounts. When the command's process goes, in whatever way, it kills the program by its pidfd and removes the
state directory; when it is killed itself the kernel ends the helpers, and the command kills the program.
"""

from __future__ import annotations

import _signal
import _socket
import os
import select

from jubako.errors import JubakoError
from jubako.linux import scm
from jubako.linux.descriptors import close_all_but
from jubako.linux.pidfd import host_pid, send_signal
from jubako.linux.prctl import set_dumpable, set_parent_death_signal
from jubako.linux.title import set_title
from jubako.net.link import Connection, Link, Where
from jubako.plan.step import SUPERVISOR
from jubako.record import replace
from jubako.rootless import state
from jubako.rootless.options import BUILTIN, HOST, IMPLICIT, NONE, SLIRP, RootlessOptions
from jubako.rootless.state import LOCKS
from jubako.runtime.messages import Failed, Started, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.helper import Helper
    from jubako.net.link import Driver, PortForwarder
    from jubako.rootless.api.http import Server
    from jubako.rootless.api.ports import Ports
    from jubako.rootless.state import StateDirectory
    from jubako.runtime.applier import Applier

_SIGTERM, _SIGKILL, _SIGCHLD = 15, 9, 17
_PROTOCOLS = {
    BUILTIN: ("tcp", "tcp4", "tcp6", "udp", "udp4", "udp6"),
    SLIRP: ("tcp", "tcp4", "udp", "udp4"),
}


class _Over(BaseException):
    """The command's process has gone."""


class Keeper:
    """The supervisor's work; made before it is cloned, so that all is imported and known."""

    def __init__(self, options: RootlessOptions, driver: Driver | None, directory: StateDirectory) -> None:
        self.options = options
        self.driver = driver
        self.directory = directory
        self.link: scm.Socket | None = None
        self.program = -1
        self.helpers: list[Helper] = []
        self.server: Server | None = None
        self.outside = -1
        """The socket of a process in the host's user namespace, for a set-uid helper (`jubako.net.outside`)."""

    def run(self, applier: Applier) -> int:
        """What the supervisor does instead of steps: its exit code."""
        if applier.roles != (SUPERVISOR,) or applier.parent is None:
            return 0
        self.link = applier.parent
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        self._load()
        try:
            told, descriptors = scm.receive(self.link)
            if not told:
                raise _Over
            self.directory.adopt(descriptors[:LOCKS])
            self._stand_back(descriptors[LOCKS:])
            try:
                self._begin(descriptors[LOCKS + 1] if self.driver is not None else -1)
            except JubakoError as failure:
                send(self.link, Failed.of(failure))
                return 1
            except OSError as failure:
                send(self.link, Failed.of(JubakoError.from_os_error("connect the network", "", failure)))
                return 1
            send(self.link, Started(0))
            self._watch()
        except (_Over, BrokenPipeError, ConnectionResetError):
            _signal.signal(_SIGTERM, _signal.SIG_IGN)
            self._end()
        return 0

    def _load(self) -> None:
        """Import what will be needed, while there is nothing to do but to wait."""
        import jubako.rootless.api.http
        import jubako.rootless.api.ports
        import jubako.rootless.api.routes

        if self.options.driver not in (HOST, NONE):
            import jubako.net.guard
            import jubako.net.helper
            import jubako.rootless.files  # noqa: F401

    def _stand_back(self, descriptors: tuple[int, ...]) -> None:
        """Become root of the user namespace, and let go of all that is the caller's but the error stream."""
        assert self.link is not None
        self.program = descriptors[0]
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        _signal.signal(_SIGTERM, _gone)
        set_parent_death_signal(_SIGTERM)
        os.setsid()
        os.chdir("/")
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 0)
        os.dup2(null, 1)
        kept = (self.link.fileno(), *self.directory.descriptors(), *descriptors)
        close_all_but((0, 1, 2, *kept, *((self.outside,) if self.outside >= 0 else ())))
        set_title("rootlesskit-supervisor")
        os.umask(0o022)
        poller = select.poll()
        poller.register(self.link.fileno(), select.POLLIN)
        if poller.poll(0):  # it went before its death could be told
            raise _Over

    def _begin(self, network: int) -> None:
        """Everything that the program finds when it starts."""
        connection = Connection(Link(HOST, shared=True))
        where = Where(network, self.directory.path, outside=self.outside)
        if self.driver is not None:
            connection = self.driver.connect(where)
            self.helpers += connection.helpers
            if self.options.driver != NONE:
                self._write_files(connection.link)
        ports = self._open_ports(where, connection)
        set_dumpable(False)  # root inside may not look into a process that is in the host's network
        self._listen(connection.link, ports)

    def _write_files(self, link: Link) -> None:
        from jubako.rootless.files import host_name, hosts_file, resolv_conf

        self.directory.write(state.RESOLV_CONF, resolv_conf(link.dns))
        self.directory.write(state.HOSTS, hosts_file(host_name()))

    def _open_ports(self, where: Where, connection: Connection) -> Ports:
        from jubako.rootless.api.ports import Ports

        name = self.options.port_driver
        forwarder: PortForwarder | None = None
        if name not in (NONE, IMPLICIT):
            from jubako.net.ports.forward import open_forwarder

            forwarder = open_forwarder(name, where, connection, transparent=self.options.source_transparent)
            self.helpers += forwarder.helpers
        ports = Ports(name, _PROTOCOLS.get(name, ()), forwarder)
        for port in self.options.publish:
            ports.add(port)
        return ports

    def _listen(self, link: Link, ports: Ports) -> None:
        from jubako import __version__
        from jubako.rootless.api.http import Server
        from jubako.rootless.api.routes import RELEASE, Info, Routes

        path = self.directory.file(state.API_SOCKET)
        info = Info(
            version=f"{RELEASE}+jubako{__version__}",
            state_directory=self.directory.path,
            child_pid=host_pid(self.program),
        )
        if self.driver is not None:
            address = next((text.partition("/")[0] for text in link.addresses), "")
            dynamic = self.options.driver == "lxc-user-nic"
            info = replace(info, network=link.driver, dns=link.dns, child_address=address, dynamic=dynamic)
        if ports.forwarder is not None:
            info = replace(
                info, port_driver=ports.driver, protocols=ports.protocols, no_loopback_child=ports.driver == SLIRP
            )
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        mask = os.umask(0o177)
        try:
            listener.bind(path)
        except OSError as failure:
            raise JubakoError.from_os_error("listen at", path, failure) from failure
        finally:
            os.umask(mask)
        listener.listen(1024)
        self.server = Server(listener, Routes(info, ports).answer)

    def _watch(self) -> None:
        """Serve until the command's process goes: that ends here, too."""
        assert self.link is not None
        assert self.server is not None
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.signal(_SIGCHLD, _note)
        _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._reap()
        while True:
            poller = select.poll()
            poller.register(self.link.fileno(), select.POLLIN)
            poller.register(reader, select.POLLIN)
            for helper in self.helpers:
                if helper.words >= 0:
                    poller.register(helper.words, select.POLLIN)
            self.server.register(poller)
            ready = dict(poller.poll(self.server.timeout()))
            if self.link.fileno() in ready:
                raise _Over
            for helper in self.helpers:
                if helper.words in ready:
                    self._repeat(helper)
            if reader in ready:
                os.read(reader, 512)
                self._reap()
            self.server.handle(ready)

    def _repeat(self, helper: Helper) -> None:
        """What a helper says goes to the error stream with --debug; without it, it is read and forgotten."""
        words = helper.read()
        if not words:
            os.close(helper.words)
            helper.words = -1
        elif self.options.debug:
            for line in words.decode(errors="replace").splitlines():
                _say(f"{helper.name}: {line}")

    def _reap(self) -> None:
        """Bury whoever has ended; the end of a helper is told."""
        known = {helper.pid: helper for helper in self.helpers}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in known:
                helper = known[pid]
                words = helper.read().decode(errors="replace").strip().replace("\n", "; ")
                helper.let_go()
                self.helpers.remove(helper)
                code = os.waitstatus_to_exitcode(status)
                how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
                _say(f"warning: {helper.name} has ended {how}{': ' if words else ''}{words}")

    def _end(self) -> None:
        if self.program >= 0:
            try:
                send_signal(self.program, _SIGKILL)
            except OSError:
                pass  # it has ended
        _end_all_helpers()
        self.directory.remove()


def _end_all_helpers() -> None:
    """Also those that are just being started, and would make files where they are just being removed."""
    if os.getpid() != 1:  # in whatever other place, -1 would be everybody
        return
    try:
        os.kill(-1, _SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def _gone(_number: int, _frame: object) -> None:
    raise _Over


def _note(_number: int, _frame: object) -> None:
    """A handler, so that the signal wakes the loop."""


def _say(text: str) -> None:
    from jubako.plan.step import printable

    try:
        os.write(2, f"jubako: {printable(text)}\n".encode(errors="surrogateescape"))
    except OSError:
        return  # nobody is there to read it
