"""The supervisor's life once the program runs: streams, log, signals, clients, and the end.

One poll(2) loop in a small process that is PID 1 of the outer PID namespace. It listens at the container's control
socket; who may connect is decided by the directory's mode (0700). Nothing in it waits for a client.
"""

from __future__ import annotations

import _signal
import os
import select

from jubako.errors import JubakoError
from jubako.linux import scm, tty
from jubako.linux.clone import FLAGS, open_namespace
from jubako.linux.descriptors import close_all_but
from jubako.linux.pidfd import send_signal
from jubako.linux.title import set_title
from jubako.plan.step import RUNTIME
from jubako.record import record
from jubako.runtime.applier import Applier
from jubako.runtime.clients import Clients
from jubako.runtime.logfile import LogFile
from jubako.runtime.messages import (
    Answer,
    Ask,
    Attach,
    Attached,
    Detach,
    Exited,
    Failed,
    GiveNamespaces,
    Message,
    Namespaces,
    Resize,
    Signal,
    Started,
    receive,
    send,
)
from jubako.runtime.streams import STDERR, STDOUT, Input, Sink, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Attendant(Protocol):
        """Whoever looks after the container's network in this process; see `jubako.net.attendant`."""

        def descriptors(self) -> tuple[int, ...]: ...
        def watched(self) -> tuple[int, ...]: ...
        def attend(self, ready: dict[int, int]) -> None: ...
        def answer(self, verb: str, text: str) -> str: ...
        def close(self) -> None: ...


SIGKILL = 9
_LAST_WORDS = 1 << 20
_IGNORED = (1, 2, 3, 13, 15, 18, 20, 21, 22, 10, 12, 14)


@record
class Watch:
    """What the supervisor is told before it starts.

    `directory` holds the control socket; `log` is the log's path or empty. Of the descriptors, -1 is none:
    `stdout` and `stderr` are the read ends of the container's pipes, `stdin` the write end of its input; `out`
    and `err` are where output goes besides the log (the caller's own), `feed` is where input comes from.
    """

    directory: str
    log: str = ""
    log_limit: int = 0
    detached: bool = False
    stdin: int = -1
    stdout: int = -1
    stderr: int = -1
    out: int = -1
    err: int = -1
    feed: int = -1
    timeout: int = 0


class Monitor:
    """The loop and what it holds. `started` and `ended` are the engine's: they write the state."""

    def __init__(
        self, applier: Applier, watch: Watch, started: Callable[[int, int], None], ended: Callable[[int], None]
    ) -> None:
        self.applier = applier
        self.watch = watch
        self.started = started
        self.ended = ended
        self.owner: scm.Socket | None = applier.links.get(RUNTIME)
        self.sources: dict[int, Source] = {}
        self.input: Input | None = None
        self.poller = select.poll()
        self.namespaces: dict[str, int] = {}
        self.network: Attendant | None = applier.slots.values.get("network")

    def run(self) -> int:
        """Supervise until the container's first process ends; the exit code as shells count it."""
        for number in _IGNORED:
            _signal.signal(number, _signal.SIG_IGN)
        self._let_go()
        clients = Clients(self.watch.directory, self._answer)
        self._hold_namespaces()
        self.applier.wait_for_exec()
        self._hold_namespaces()
        slots = self.applier.slots
        self.started(slots["init_pid"], os.getpid())
        self._open_streams()
        if self.owner is not None:
            try:
                send(self.owner, Started(slots["init_pid"]))
            except OSError:  # the caller was killed just now: the loop hears its end, and tidies up after it
                pass
            if self.watch.detached:
                self.owner.close()
                self.owner = None
        code = self._loop(clients, slots["init_pidfd"], slots["init_child"])
        if self.network is not None:
            self.network.close()
        self._drain_all()
        try:
            self.ended(code)
        except (JubakoError, OSError) as failure:  # the end is the program's: what could not be tidied is only said
            os.write(2, f"jubako: warning: {failure}\n".encode("utf-8", "surrogateescape"))
        clients.end(Exited(code))
        self._tell_owner(Exited(code))
        return code

    def _let_go(self) -> None:
        """Close what was inherited and is not this process's business: the caller's locks and ends of pipes."""
        watch, slots = self.watch, self.applier.slots
        keep = [0, 1, 2, watch.stdin, watch.stdout, watch.stderr, watch.out, watch.err, watch.feed]
        keep += [slots["init_pidfd"], slots.values.get("master", -1)]
        keep += [link.fileno() for link in self.applier.links.values()]
        keep += self.network.descriptors() if self.network is not None else ()
        close_all_but(tuple(fd for fd in keep if fd >= 0))
        set_title(f"jubako: supervisor of {os.path.basename(watch.directory)}")
        if watch.detached:
            leave_terminal()

    def _hold_namespaces(self) -> None:
        """Keep the namespaces by descriptor, before the exec and what is missing after it.

        A process that hides before its exec is closed to /proc for that time, and with --init PID 1 for good: then its
        child, the program, has the same ones. The cgroup namespace is made late, so it is asked for twice.
        """
        pid = self.applier.slots["init_pid"]
        for kind in FLAGS:
            if kind in self.namespaces and kind != "cgroup":
                continue
            for holder in (pid, *_children(pid)):
                try:
                    fd = open_namespace(holder, kind)
                except OSError:
                    continue
                if kind in self.namespaces:
                    os.close(self.namespaces[kind])
                self.namespaces[kind] = fd
                break

    def _open_streams(self) -> None:
        log = LogFile(self.watch.log, self.watch.log_limit).write if self.watch.log else None
        master = self.applier.slots.values.get("master", -1)
        if master >= 0:
            self._add_source(Source(master, STDOUT, log), self.watch.out)
            self.input = Input(os.dup(master))
        else:
            if self.watch.stdout >= 0:
                self._add_source(Source(self.watch.stdout, STDOUT, log), self.watch.out)
            if self.watch.stderr >= 0:
                self._add_source(Source(self.watch.stderr, STDERR, log), self.watch.err)
            if self.watch.stdin >= 0:
                self.input = Input(self.watch.stdin)
        if self.input is not None and self.watch.feed >= 0:
            os.set_blocking(self.watch.feed, False)
            self.input.clients.append(self.watch.feed)

    def _add_source(self, source: Source, sink: int) -> None:
        self.sources[source.fd] = source
        if sink >= 0:
            source.sinks.append(Sink(sink, owned=True))

    def _loop(self, clients: Clients, pidfd: int, pid: int) -> int:
        import time

        deadline = time.monotonic() + self.watch.timeout if self.watch.timeout else None
        while True:
            self._register(clients, pidfd)
            wait = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000) + 1)
            ready = dict(self.poller.poll(wait))
            if deadline is not None and time.monotonic() >= deadline:
                self._signal(SIGKILL)
                deadline = None
            self._move_output(ready)
            self._move_input(ready)
            clients.attend(ready)
            if self.owner is not None and self.owner.fileno() in ready:
                self._hear_owner()
            if self.network is not None:
                self.network.attend(ready)
            if pidfd in ready:
                self._drain_sources()
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                self.applier.slots.values.pop("init_child", None)
                return 128 - code if code < 0 else code
            self._reap(pid)

    def _register(self, clients: Clients, pidfd: int) -> None:
        """What to wait for in this round; few descriptors, so they are simply listed anew."""
        self.poller = select.poll()
        watch = self.poller.register
        clients.register(watch)
        watch(pidfd, select.POLLIN)
        for fd in self.network.watched() if self.network is not None else ():
            watch(fd, select.POLLIN)
        if self.owner is not None:
            watch(self.owner.fileno(), select.POLLIN)
        for source in self.sources.values():
            for sink in source.sinks:
                if sink.pending or sink.client:
                    watch(sink.fd, select.POLLOUT if sink.pending else 0)
            if not source.stalled:
                watch(source.fd, select.POLLIN)
        if self.input is not None:
            if self.input.pending:
                watch(self.input.fd, select.POLLOUT)
            else:
                for fd in self.input.clients:
                    watch(fd, select.POLLIN)

    def _move_output(self, ready: dict[int, int]) -> None:
        for fd, source in list(self.sources.items()):
            for sink in [sink for sink in source.sinks if not sink.pending and sink.fd in ready]:
                sink.close()  # POLLERR: its reader is gone
                source.sinks.remove(sink)
            if source.stalled:
                if any(sink.fd in ready for sink in source.sinks):
                    source.sinks = [s for s in source.sinks if not (s.pending and s.fd in ready) or s.drain()]
            elif fd in ready and source.pump() < 0:
                source.close()
                del self.sources[fd]
                if fd == self.applier.slots.values.get("master"):
                    del self.applier.slots.values["master"]  # a late word about the window must find no other file

    def _move_input(self, ready: dict[int, int]) -> None:
        feed = self.input
        if feed is None:
            return
        if feed.pending:
            if feed.fd in ready and not feed.drain():
                self._close_input()
            return
        for client in [client for client in feed.clients if client in ready]:
            if not feed.take(client):
                os.close(client)
                feed.clients.remove(client)
                if client == self.watch.feed and "master" not in self.applier.slots:
                    self._close_input()  # the caller's end of file is the program's
                    return

    def _close_input(self) -> None:
        if self.input is None:
            return
        for client in self.input.clients:
            os.close(client)
        os.close(self.input.fd)
        self.input = None

    def _answer(self, client: scm.Socket, message: Message) -> None:
        if isinstance(message, GiveNamespaces):
            kinds, descriptors = ",".join(self.namespaces), tuple(self.namespaces.values())
            send(client, Namespaces(kinds), (*descriptors, self.applier.slots["init_pidfd"]))
        elif isinstance(message, Attach):
            self._attach(client, message.stdin != 0)
        elif isinstance(message, Ask):
            send(client, self._ask_network(message))
        elif isinstance(message, Signal | Resize):
            self._act(message)

    def _ask_network(self, message: Ask) -> Message:
        if self.network is None:
            return Failed(0, "ask for", message.verb, 0, "the container has no network of its own to change", "", 125)
        try:
            return Answer(self.network.answer(message.verb, message.text))
        except JubakoError as failure:
            return Failed.of(failure)

    def _attach(self, client: scm.Socket, wants_input: bool) -> None:
        theirs: list[int] = []
        try:
            self._make_pipes(client, theirs, wants_input)
        finally:
            for fd in theirs:
                os.close(fd)

    def _make_pipes(self, client: scm.Socket, theirs: list[int], wants_input: bool) -> None:
        for kind in (STDOUT, STDERR):
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            theirs.append(reader)
            sources = [source for source in self.sources.values() if source.kind == kind]
            if sources:
                sources[0].sinks.append(Sink(writer, owned=True, client=True))
            else:
                os.close(writer)
        if wants_input and self.input is not None:
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            self.input.clients.append(reader)
            theirs.append(writer)
        send(client, Attached(int("master" in self.applier.slots)), tuple(theirs))

    def _hear_owner(self) -> None:
        owner = self.owner
        assert owner is not None
        try:
            message, _descriptors = receive(owner)
        except (OSError, ValueError):
            message = None
        if message is None:  # the caller was killed: its container does not outlive it
            owner.close()
            self.owner = None
            self._signal(SIGKILL)
        elif isinstance(message, Detach):
            owner.close()
            self.owner = None
            for source in self.sources.values():
                for sink in source.sinks:
                    sink.close()
                source.sinks = []
            os.setsid()
            _stand_back()
        else:
            self._act(message)

    def _act(self, message: Message) -> None:
        if isinstance(message, Signal):
            self._signal(message.number)
        elif isinstance(message, Resize):
            master = self.applier.slots.values.get("master", -1)
            if master >= 0:
                tty.set_window_size(master, message.rows, message.columns)

    def _signal(self, number: int) -> None:
        try:
            send_signal(self.applier.slots["init_pidfd"], number)
        except OSError:
            return  # it has ended meanwhile, or the number is none

    def _reap(self, pid: int) -> None:
        """Helpers and what they left behind end here too: this is PID 1 of the outer PID namespace."""
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid == pid:
                return
            os.waitpid(ended.si_pid, 0)

    def _drain_sources(self) -> None:
        """What the container wrote last: as much as a pipe holds. Nobody can write any more, or (in a shared PID
        namespace) somebody who does not stop."""
        for source in self.sources.values():
            left = _LAST_WORDS
            while left > 0 and (taken := source.pump()) > 0:
                left -= taken

    def _drain_all(self) -> None:
        for source in self.sources.values():
            for sink in source.sinks:
                while sink.pending:
                    poller = select.poll()
                    poller.register(sink.fd, select.POLLOUT)
                    patience = 2000 if sink.client or self.owner is None else None
                    if not poller.poll(patience) or not sink.drain():
                        break
            source.close()
        self.sources = {}

    def _tell_owner(self, message: Message) -> None:
        if self.owner is not None:
            try:
                send(self.owner, message)
            except OSError:
                return


def _children(pid: int) -> tuple[int, ...]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb", buffering=0) as file:
            return tuple(int(child) for child in file.read(4096).split())
    except OSError:  # it has ended, or this kernel does not tell
        return ()


def _stand_back() -> None:
    """Let go of the caller's standard streams and directory."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)
    os.chdir("/")


def leave_terminal() -> None:
    """Become a process of its own, away from the caller's terminal: the first thing a detached supervisor does."""
    os.setsid()
    _stand_back()
