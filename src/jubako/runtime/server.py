"""The launcher's side: one clean, single-threaded process that makes containers for a caller until the caller ends.

It is PID 1 of an outer PID namespace and plays the roles of runtime and supervisor for all of its containers, so a
container costs one fork. One poll loop serves everybody: the caller's requests, and for each container the link to its
first process (until that has become the program), the pidfd (it ended) and the answer socket (the caller gave up).
"""

from __future__ import annotations

import os
from _socket import MSG_DONTWAIT, MSG_NOSIGNAL
from select import POLLIN, poll

from jubako.errors import JubakoError
from jubako.linux import clone, scm
from jubako.linux.descriptors import close_all_but
from jubako.linux.pidfd import send_signal
from jubako.plan.step import INIT, RUNTIME, SUPERVISOR, Plan, Slots
from jubako.plan.steps.cgroups import JoinCgroup
from jubako.plan.steps.namespaces import WriteIdMaps
from jubako.plan.steps.processes import CloneInit
from jubako.record import record
from jubako.runtime.applier import Applier
from jubako.runtime.messages import Exited, Failed, Signal, Started, decode, encode
from jubako.runtime.requests import Refused, Request, encode_refusal, receive_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.linux.scm import Socket

SIGKILL = 9
ROLES = (RUNTIME, SUPERVISOR)
STREAMS = ("stdin", "stdout", "stderr")
_HARMLESS = (CloneInit, WriteIdMaps, JoinCgroup)


@record
class Job:
    """What a request becomes: the plan, the descriptors in the slots before it starts (beside the streams; closed once
    it has), whether it wants a supervisor of its own (see `needs_supervisor`), and what is to be done at its end."""

    plan: Plan
    given: dict[str, int]
    supervised: bool = False
    afterwards: Callable[[], None] | None = None


class _Running:
    """A container of this launcher, until its first process is reaped and the caller knows."""

    __slots__ = ("announce", "answers", "host_pid", "job", "link", "pid", "pidfd", "refusal")

    def __init__(self, job: Job, answers: Socket, *, announce: bool) -> None:
        self.job = job
        self.answers: Socket | None = answers
        self.announce = announce
        self.link: Socket | None = None
        self.pid = self.host_pid = 0
        self.pidfd = -1
        self.refusal: JubakoError | None = None


class Server:
    """The poll loop. `prepare` turns a request into a job or raises `JubakoError`; it may keep what it has computed."""

    def __init__(self, requests: Socket, caller: int, prepare: Callable[[Request], Job]) -> None:
        self._requests = requests
        self._caller = caller
        self._prepare = prepare
        self._poll = poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._ended = False

    def serve(self) -> None:
        """Serve until the caller closes its end or is gone. What still runs then ends with this process."""
        self._watch(self._requests.fileno(), self._take_request)
        if self._caller >= 0:
            self._watch(self._caller, self._end)
        while not self._ended:
            for fd, _event in self._poll.poll():
                handler = self._handlers.get(fd)  # an earlier one of this round may have closed it
                if handler is not None:
                    handler()

    def _end(self) -> None:
        self._ended = True

    def _watch(self, fd: int, handler: Callable[[], None]) -> None:
        self._handlers[fd] = handler
        self._poll.register(fd, POLLIN)

    def _forget(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    # --- a request ----------------------------------------------------------------------------------------------------

    def _take_request(self) -> None:
        try:
            request, descriptors = receive_request(self._requests)
        except ConnectionResetError:
            self._end()
            return
        except (OSError, ValueError):  # too many descriptors are open: the answer socket came to nothing, which tells
            return
        if request is None:
            self._end()
            return
        answers = scm.Socket(fileno=descriptors[0])
        streams = descriptors[1:]
        given: list[int] = []
        try:
            job = self._prepare(request)
            given.extend(job.given.values())
            running = _Running(job, answers, announce=request.announce)
            slots = Slots({**job.given, **dict(zip(STREAMS, streams, strict=True))})
            if job.supervised:
                self._fork_supervisor(running, job, slots)
            else:
                self._apply(running, job, slots)
        except JubakoError as failure:
            _answer(answers, encode_refusal(Refused.of(failure)))
            answers.close()
            return
        except OSError as failure:
            error = JubakoError.from_os_error("start", "the container", failure)
            _answer(answers, encode_refusal(Refused.of(error)))
            answers.close()
            return
        finally:
            for fd in (*streams, *given):
                os.close(fd)
        self._watch_running(running)

    def _apply(self, running: _Running, job: Job, slots: Slots) -> None:
        applier = Applier(job.plan, slots, ROLES)
        applier.run()
        running.link = applier.links[INIT]
        running.pid, running.host_pid = slots["init_child"], slots["init_pid"]
        running.pidfd = slots["init_pidfd"]

    def _fork_supervisor(self, running: _Running, job: Job, slots: Slots) -> None:
        """Steps that would change the launcher itself are done by a child of its own, in a PID namespace of its own."""
        ours, theirs = scm.pair()
        pid, pidfd = clone.clone(clone.CLONE_NEWPID)
        if not pid:
            _supervise(job, slots, ours, theirs)
        theirs.close()
        running.link, running.pid, running.pidfd = ours, pid, pidfd

    def _watch_running(self, running: _Running) -> None:
        assert running.link is not None
        assert running.answers is not None
        self._watch(running.link.fileno(), lambda: self._hear(running))
        self._watch(running.pidfd, lambda: self._reap(running))
        self._watch(running.answers.fileno(), lambda: self._listen(running))

    # --- a container --------------------------------------------------------------------------------------------------

    def _hear(self, running: _Running) -> None:
        """The link to the first process: its end means that the program runs, unless it says why not."""
        if running.link is None:
            return
        packet = _receive(running.link)
        if packet and packet.startswith(b"Failed"):
            message = decode(packet)
            assert isinstance(message, Failed)
            running.refusal = message.error(tuple(type(item).__name__ for item in running.job.plan.steps))
            _signal_process(running.pidfd, SIGKILL)
            return
        if running.announce and running.answers is not None and running.refusal is None:
            running.announce = False
            _answer(running.answers, packet or encode(Started(running.host_pid)))
        if not packet:
            self._drop_link(running)

    def _listen(self, running: _Running) -> None:
        """The answer socket: a signal to pass on, or the caller's end of it was closed, which ends the container."""
        if running.answers is None:
            return
        packet = _receive(running.answers)
        if not packet:
            self._drop_answers(running)
            _signal_process(running.pidfd, SIGKILL)
            return
        message = decode(packet)
        if isinstance(message, Signal):
            if running.job.supervised and running.link is not None and message.number != SIGKILL:
                _answer(running.link, packet)
            else:
                _signal_process(running.pidfd, message.number)

    def _reap(self, running: _Running) -> None:
        if running.link is not None:
            self._hear(running)
        try:
            _pid, status = os.waitpid(running.pid, 0)
            code = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            code = -SIGKILL
        self._drop_link(running)
        self._forget(running.pidfd)
        os.close(running.pidfd)
        if running.job.afterwards is not None:
            running.job.afterwards()
        if running.answers is not None:
            if running.refusal is not None:
                _answer(running.answers, encode_refusal(Refused.of(running.refusal)))
            else:
                _answer(running.answers, encode(Exited(128 - code if code < 0 else code)))
            self._drop_answers(running)

    def _drop_link(self, running: _Running) -> None:
        if running.link is not None:
            self._forget(running.link.fileno())
            running.link.close()
            running.link = None

    def _drop_answers(self, running: _Running) -> None:
        if running.answers is not None:
            self._forget(running.answers.fileno())
            running.answers.close()
            running.answers = None


def needs_supervisor(plan: Plan) -> bool:
    """Whether a plan has steps that would change the launcher itself (joined namespaces, a time namespace, a helper
    process), or a container whose end the kernel does not tie to its first process."""
    for item in plan.steps:
        if item.actor in ROLES and not isinstance(item, _HARMLESS):
            return True
        if isinstance(item, CloneInit):
            return not item.flags & clone.CLONE_NEWPID or bool(item.flags & clone.CLONE_NEWTIME)
    return True


def _supervise(job: Job, slots: Slots, ours: Socket, parent: Socket) -> None:
    """A supervisor for one container: PID 1 of its own PID namespace; never returns."""
    code = JubakoError.exit_code
    try:
        ours.close()
        close_all_but((0, 1, 2, parent.fileno(), *slots.values.values()))
        applier = Applier(job.plan, slots, ROLES)
        try:
            applier.run()
            applier.wait_for_exec()
            close_all_but((0, 1, 2, parent.fileno(), slots["init_pidfd"]))
            _answer(parent, encode(Started(slots["init_pid"])))
            code = _wait_for(slots["init_child"], slots["init_pidfd"], parent)
        except JubakoError as failure:
            _answer(parent, encode(Failed.of(failure, failure.step[0] if failure.step else 0)))
    finally:
        os._exit(code)


def _wait_for(pid: int, pidfd: int, parent: Socket) -> int:
    """Pass signals on to process `pid` until it ends; its exit code as shells count it. Orphans are reaped."""
    waiting = poll()
    waiting.register(pidfd, POLLIN)
    waiting.register(parent.fileno(), POLLIN)
    while True:
        for fd, _event in waiting.poll():
            if fd == pidfd:
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                return 128 - code if code < 0 else code
            packet = _receive(parent)
            if not packet:
                return 128 + SIGKILL
            message = decode(packet)
            if isinstance(message, Signal):
                _signal_process(pidfd, message.number)


def _signal_process(pidfd: int, number: int) -> None:
    try:
        send_signal(pidfd, number)
    except ProcessLookupError:
        pass


def _receive(socket: Socket) -> bytes:
    """The next packet, descriptors refused; empty when the other end is closed."""
    try:
        return socket.recv(1 << 16)
    except ConnectionResetError:
        return b""


def _answer(socket: Socket, packet: bytes) -> None:
    """Tell the caller, who may have gone, or may not listen: then the answer is lost, and the launcher lives on."""
    try:
        socket.send(packet, MSG_NOSIGNAL | MSG_DONTWAIT)
    except OSError:
        pass
