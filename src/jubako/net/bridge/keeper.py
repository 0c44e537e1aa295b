"""The keeper of a user's bridge networks: a few processes that live as long as a container is on one of them.

    keeper   the first process of a PID namespace of its own: when it ends, all of them do. In the base user namespace
             and the machine's own network namespace, so that the uplink's helper, its child, reaches outside
    router   in the keeper's network namespace: answers who connects, makes bridges, ports and rules
    names    there too, without rights: the name server

It is made by the first container's command, under a lock, and ends when the last connection does. It belongs to one
base: containers of another one (the pause process was killed, and made anew) have a keeper of their own, since nobody
but their common ancestor has rights over their network namespaces.
"""

from __future__ import annotations

import _signal
import fcntl
import os
import select
import time

from jubako.errors import JubakoError
from jubako.linux import clone, mount, scm
from jubako.linux.descriptors import close_all_but
from jubako.linux.prctl import set_dumpable
from jubako.linux.title import set_title
from jubako.net.bridge import wire
from jubako.net.helper import start_function
from jubako.net.link import NetworkOptions, Where
from jubako.paths import make_directory, make_run_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from jubako.net.helper import Helper
    from jubako.net.link import Driver, Link
    from jubako.paths import Paths
    from jubako.runtime.base import Base

UPLINK = "uplink"
_IGNORED = (1, 2, 3, 10, 12, 13, 14, 15)
_REVIVALS, _REVIVAL_SECONDS = 5, 60.0
"""How often the uplink's helper is started again within so many seconds."""
_WORDS = 500


def keeper_directory(paths: Paths, base: Base | None) -> str:
    """Where the keeper's socket is: one directory a base user namespace."""
    status = os.fstat(base.fd) if base is not None else os.stat("/proc/self/ns/user")
    return f"{paths.run}/bridge-{status.st_ino}"


class KeeperLock:
    """Held by whoever makes a keeper, and by a keeper that is about to end."""

    def __init__(self, paths: Paths) -> None:
        self.path = paths.run + "/bridge.lock"
        self.fd = -1

    def take(self, *, wait: bool = True) -> bool:
        """Hold it; False if another has it and we do not wait."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(fd)
            return False
        self.fd = fd
        return True

    def release(self) -> None:
        """Let go."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def start_keeper(paths: Paths, base: Base | None, directory: str) -> scm.Socket:
    """Make the keeper; the first connection to it, when it takes others. The caller holds the lock.

    It has that connection from its birth on, so it ends if the caller is killed meanwhile. Raises `JubakoError`.
    """
    make_run_directories(paths)
    make_directory(directory)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    ours, theirs = scm.pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _leave(paths, base, directory, writer, theirs)
    os.close(writer)
    theirs.close()
    try:
        with os.fdopen(reader, "rb") as file:
            word = file.read().decode("utf-8", "surrogateescape")
    finally:
        os.waitpid(pid, 0)
    if word != "+":
        ours.close()
        operation, _, rest = word.partition("\0")
        number, _, reason = rest.partition("\0")
        raise JubakoError(
            operation or "start", "the keeper of bridge networks", errno=int(number or 0), reason=reason or "it ended"
        )
    return ours


def _leave(paths: Paths, base: Base | None, directory: str, ready: int, first: scm.Socket) -> NoReturn:
    """The child between the caller and the keeper: it joins the base, clones the keeper, and ends."""
    try:
        os.setsid()
        os.chdir("/")
        os.umask(0o077)
        null = os.open("/dev/null", os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        close_all_but((0, 1, 2, ready, first.fileno(), *((base.fd,) if base is not None else ())))
        if base is not None:
            from jubako.runtime.base import become_root

            clone.setns(base.fd, clone.CLONE_NEWUSER)
            set_dumpable(True)
            become_root(base.ids)
            os.close(base.fd)
        pid, _pidfd = clone.clone(clone.CLONE_NEWPID | clone.CLONE_NEWNS)
        if pid == 0:
            ignore_signals()
            mount.mount(None, "/", None, mount.MS_REC | mount.MS_SLAVE)
            set_title("jubako: keeper of bridge networks")
            _Keeper(paths, directory, ready, first).run()
    except OSError as failure:
        remove_keeper_directory(directory)
        tell(ready, f"make\0{failure.errno or 0}\0{failure.filename or ''}")
    except JubakoError as failure:
        remove_keeper_directory(directory)
        tell(ready, f"{failure.operation} {failure.subject}\0{failure.errno}\0{failure.reason}")
    finally:
        os._exit(0)


class _Keeper:
    """The first process: it holds the uplink, and ends with the router."""

    def __init__(self, paths: Paths, directory: str, ready: int, first: scm.Socket) -> None:
        self.directory = directory
        self.uplink: Helper | None = None
        self.driver: Driver | None = None
        self.revivals: list[float] = []
        self.next_revival = 0.0
        self.network = _new_network_namespace()
        self.control, theirs = scm.pair()
        listener = _listen(directory)
        network = self.network

        def route() -> int:
            from jubako.net.bridge.router import run_router

            ignore_signals()
            set_title("jubako: router of bridge networks")
            clone.setns(network, clone.CLONE_NEWNET)
            return run_router(paths, directory, listener, theirs, ready, first)

        kept = (network, listener.fileno(), theirs.fileno(), ready, first.fileno())
        self.router = start_function("the router", route, keep=kept)
        first.close()
        listener.close()
        theirs.close()
        os.close(ready)

    def run(self) -> NoReturn:
        """Serve the router until it ends."""
        while True:
            poller = select.poll()
            for fd in (self.control.fileno(), self.router.pidfd):
                poller.register(fd, select.POLLIN)
            if self.uplink is not None:
                for fd in (self.uplink.pidfd, self.uplink.words):
                    if fd >= 0:
                        poller.register(fd, select.POLLIN)
            events = {fd for fd, _event in poller.poll(self._span())}
            if self.router.pidfd in events:
                os._exit(0)
            if self.control.fileno() in events:
                document, _ = wire.receive(self.control)
                if document is None:
                    os._exit(0)
                self._connect(document["uplink"])
            elif self.uplink is not None:
                self._look_after_uplink(self.uplink, events)
            elif self.next_revival and time.monotonic() >= self.next_revival:
                self._revive()

    def _span(self) -> int | None:
        return int(max(self.next_revival - time.monotonic(), 0) * 1000) + 1 if self.next_revival else None

    def _connect(self, wanted: dict[str, Any]) -> None:
        """Connect the network namespace with the outside, with IPv6 where the host has it."""
        os.makedirs(f"{self.directory}/{UPLINK}", exist_ok=True)
        try:
            self.driver = find_uplink(wanted, ipv6=True)
            self._tell({"planned": dict(self.driver.plan().__dict__)})
            try:
                link = self._start(self.driver)
            except JubakoError:
                self.driver = find_uplink(wanted, ipv6=False)
                link = self._start(self.driver)
            self._tell({"up": dict(link.__dict__)})
        except (JubakoError, OSError) as failure:
            self.driver = None
            self._tell(wire.failure_document(failure))

    def _start(self, driver: Driver) -> Link:
        connection = driver.connect(Where(self.network, f"{self.directory}/{UPLINK}"))
        self.uplink = connection.helpers[0]
        return connection.link

    def _look_after_uplink(self, helper: Helper, events: set[int]) -> None:
        if helper.words in events:
            words = helper.read()
            if words:
                self._notice(f"{helper.name}: {words[:_WORDS].decode(errors='replace').strip()}")
            elif helper.pidfd not in events:
                os.close(helper.words)
                helper.words = -1
        if helper.pidfd not in events:
            return
        helper.end()
        self.uplink = None
        self._plan_revival(f"{helper.name} has ended: connections to the outside are broken")

    def _plan_revival(self, cause: str) -> None:
        now = time.monotonic()
        self.revivals = [moment for moment in self.revivals if now - moment < _REVIVAL_SECONDS]
        if len(self.revivals) >= _REVIVALS:
            self._notice(f"{cause}; bridge networks have no way out any more")
            return
        self._notice(f"{cause}; it is started again")
        self.next_revival = now + 0.2 * len(self.revivals)
        self.revivals.append(now)

    def _revive(self) -> None:
        self.next_revival = 0.0
        assert self.driver is not None
        for name in os.listdir(f"{self.directory}/{UPLINK}"):
            os.unlink(f"{self.directory}/{UPLINK}/{name}")
        try:
            self._start(self.driver)
        except (JubakoError, OSError) as failure:
            self._plan_revival(str(failure))

    def _notice(self, text: str) -> None:
        self._tell({"notice": text})

    def _tell(self, document: dict[str, Any]) -> None:
        try:
            wire.send(self.control, document)
        except OSError:  # the router has ended, which is heard next
            pass


def tell(ready: int, text: str) -> None:
    """Say `text` to whoever starts the keeper; he may have been killed, which is no reason to leave anything."""
    try:
        os.write(ready, text.encode("utf-8", "surrogateescape"))
    except BrokenPipeError:
        pass


def remove_keeper_directory(directory: str) -> None:
    """Remove what a keeper has made on disk."""
    for place in (f"{directory}/{UPLINK}", directory):
        try:
            for name in os.listdir(place):
                try:
                    os.unlink(f"{place}/{name}")
                except (FileNotFoundError, IsADirectoryError):
                    pass
            os.rmdir(place)
        except FileNotFoundError:
            pass


def ignore_signals() -> None:
    """Only SIGKILL is to end a process of the keeper, and above all no SIGPIPE; a helper begins with the defaults."""
    for number in _IGNORED:
        _signal.signal(number, _signal.SIG_IGN)


def find_uplink(wanted: dict[str, Any], *, ipv6: bool) -> Driver:
    """The driver that leads outside: the one that was asked for, or the machine's default. Raises `JubakoError`."""
    from jubako.errors import NotFoundError
    from jubako.net.choose import default_driver, find_driver

    name = str(wanted.get("driver", ""))
    why = ""
    if not name:
        name, why = default_driver()
    if name not in ("pasta", "slirp4netns"):
        raise NotFoundError(
            "connect bridge networks with the outside",
            reason=why or f"the driver {name} cannot do that",
            hint="install the package passt or slirp4netns, or use a network made with --internal",
        )
    options = NetworkOptions(
        driver=name,
        ipv6=ipv6,
        mtu=int(wanted.get("mtu", 0)),
        host_loopback=bool(wanted.get("host_loopback", False)),
        program=str(wanted.get("program", "")),
        arguments=tuple(wanted.get("arguments", ())),
        sandbox=str(wanted.get("sandbox", "")),
        seccomp=str(wanted.get("seccomp", "")),
    )
    return find_driver(options)


def _new_network_namespace() -> int:
    """A descriptor of a new network namespace; this process stays where it is, since there is no way back."""
    here, there = scm.pair()
    pid = os.fork()
    if pid == 0:
        try:
            clone.unshare(clone.CLONE_NEWNET)
            fd = clone.open_namespace("self", "network")
            scm.send(there, b"+", (fd,))
        except OSError as failure:
            scm.send(there, str(failure.errno or 0).encode())
        finally:
            os._exit(0)
    there.close()
    data, descriptors = scm.receive(here)
    here.close()
    os.waitpid(pid, 0)
    if not descriptors:
        raise JubakoError("make", "a network namespace", errno=int(data or 0))
    return descriptors[0]


def _listen(directory: str) -> scm.Socket:
    try:
        os.unlink(f"{directory}/{wire.SOCKET}")  # of a keeper that was killed
    except FileNotFoundError:
        pass
    listener = scm.listen(directory, wire.SOCKET)
    listener.listen(256)
    return listener
