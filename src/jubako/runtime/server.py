"""The launcher's side: one clean, single-threaded process that makes containers for a caller until the caller ends.

It is PID 1 of an outer PID namespace and plays the roles of runtime and supervisor for all of its containers, so a
container costs one fork. One poll loop serves everybody: the caller's requests, and for each container the link to its
first process (until that has become the program), the pidfd (it ended) and the answer socket (the caller gave up).

When there is nothing else to do, and the last two requests were alike, one *spare* is made for the next: a child that
has its namespaces and ids, and waits. It has looked at nothing that could be different by then.
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
from jubako.plan.steps.namespaces import WriteIdMaps
from jubako.plan.steps.processes import CloneInit
from jubako.record import record
from jubako.runtime.applier import Applier
from jubako.runtime.messages import Exited, Failed, Signal, Started, decode, encode
from jubako.runtime.requests import Refused, Request, encode_refusal, receive_request, send_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.linux.scm import Socket
    from jubako.runtime.monitor import Attendant

SIGKILL = 9
ROLES = (RUNTIME, SUPERVISOR)
PAGES = b"pages "
"""Begins what a launcher's first child says to it about its memory."""
STREAMS = ("stdin", "stdout", "stderr")
_HARMLESS = (CloneInit, WriteIdMaps)


@record
class Job:
    """How a container is made: a plan in which its first process waits for the request, what is in the slots before
    (descriptors, closed once it is made), and whether it wants a supervisor of its own (see `needs_supervisor`)."""

    plan: Plan
    given: dict[str, int]
    supervised: bool = False


class _Child:
    """A container in the making or at work, until its first process is reaped and the caller knows."""

    __slots__ = ("announce", "answers", "host_pid", "job", "link", "pid", "pidfd", "refusal")

    def __init__(self, job: Job, link: Socket, pid: int, pidfd: int, host_pid: int) -> None:
        self.job = job
        self.link: Socket | None = link
        self.pid = pid
        self.pidfd = pidfd
        self.host_pid = host_pid
        self.answers: Socket | None = None
        self.announce = False
        self.refusal: JubakoError | None = None


class Server:
    """The poll loop. `prepare` turns a request into a job or raises `JubakoError`; equal requests get the same job.
    `learn` gets what a child says about its memory (`PAGES`)."""

    def __init__(
        self, requests: Socket, caller: int, prepare: Callable[[Request], Job], learn: Callable[[bytes], None]
    ) -> None:
        self._requests = requests
        self._caller = caller
        self._prepare = prepare
        self._learn = learn
        self._poll = poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._ended = False
        self._spare: _Child | None = None
        self._wanted: Job | None = None
        self._last: Job | None = None

    def serve(self) -> None:
        """Serve until the caller closes its end or is gone. What still runs then ends with this process."""
        self._watch(self._requests.fileno(), self._take_request)
        if self._caller >= 0:
            self._watch(self._caller, self._end)
        while not self._ended:
            events = self._poll.poll(0 if self._wanted is not None else None)
            for fd, _event in events:
                handler = self._handlers.get(fd)  # an earlier one of this round may have closed it
                if handler is not None:
                    handler()
            if not events:
                self._make_spare()

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
        try:
            child = self._child_for(self._prepare(request))
            self._hand_over(child, request, answers, descriptors[1:])
            # Two alike in a row: the next may be as well. Whoever calls once, or always differently, pays for none.
            self._wanted = child.job if child.job is self._last and not child.job.supervised else None
            self._last = child.job
        except Exception as failure:
            _answer(answers, encode_refusal(Refused.of(_as_error(failure))))
            answers.close()
        finally:
            for fd in descriptors[1:]:
                os.close(fd)

    def _child_for(self, job: Job) -> _Child:
        """The spare, if it was made for such a job, or a child made now."""
        spare, self._spare = self._spare, None
        if spare is not None:
            if spare.job is job:
                return spare
            self._dismiss(spare)
        try:
            return self._fork(job)
        finally:
            for fd in job.given.values():
                os.close(fd)

    def _hand_over(self, child: _Child, request: Request, answers: Socket, streams: tuple[int, ...]) -> None:
        assert child.link is not None
        own = Request(b"", request.arguments, request.environment)
        try:
            send_request(child.link, own, streams)
        except (BrokenPipeError, ConnectionResetError):  # it failed before it could take the request, and will say why
            pass
        child.answers = answers
        child.announce = request.announce
        self._watch(answers.fileno(), lambda: self._listen(child))

    def _make_spare(self) -> None:
        job, self._wanted = self._wanted, None
        if job is None or self._spare is not None:
            return
        try:
            self._spare = self._fork(job)
        except (JubakoError, OSError):  # whoever asks next will be told
            return

    def _fork(self, job: Job) -> _Child:
        slots = Slots(dict(job.given))
        if job.supervised:
            child = _fork_supervisor(job, slots)
        else:
            applier = Applier(job.plan, slots, ROLES)
            applier.run()
            child = _Child(job, applier.links[INIT], slots["init_child"], slots["init_pidfd"], slots["init_pid"])
        assert child.link is not None
        self._watch(child.link.fileno(), lambda: self._hear(child))
        self._watch(child.pidfd, lambda: self._reap(child))
        return child

    def _dismiss(self, spare: _Child) -> None:
        _signal_process(spare.pidfd, SIGKILL)

    # --- a container --------------------------------------------------------------------------------------------------

    def _hear(self, child: _Child) -> None:
        """The link to the first process: its end means that the program runs, unless it says why not."""
        if child.link is None:
            return
        packet = _receive(child.link)
        if packet.startswith(PAGES):
            self._learn(packet[len(PAGES) :])
            return
        if packet.startswith(b"Failed"):
            message = decode(packet)
            assert isinstance(message, Failed)
            child.refusal = message.error(tuple(type(item).__name__ for item in child.job.plan.steps))
            _signal_process(child.pidfd, SIGKILL)
            return
        if child.announce and child.answers is not None and child.refusal is None:
            child.announce = False
            _answer(child.answers, packet or encode(Started(child.host_pid)))
        if not packet:
            self._drop_link(child)

    def _listen(self, child: _Child) -> None:
        """The answer socket: a signal to pass on, or the caller's end of it was closed, which ends the container."""
        if child.answers is None:
            return
        packet = _receive(child.answers)
        if not packet:
            self._drop_answers(child)
            _signal_process(child.pidfd, SIGKILL)
            return
        message = decode(packet)
        if isinstance(message, Signal):
            if child.job.supervised and child.link is not None and message.number != SIGKILL:
                _answer(child.link, packet)
            else:
                _signal_process(child.pidfd, message.number)

    def _reap(self, child: _Child) -> None:
        if child.link is not None:
            self._hear(child)
        try:
            _pid, status = os.waitpid(child.pid, 0)
            code = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            code = -SIGKILL
        self._drop_link(child)
        self._forget(child.pidfd)
        os.close(child.pidfd)
        if child is self._spare:
            self._spare = None
        if child.answers is not None:
            if child.refusal is not None:
                _answer(child.answers, encode_refusal(Refused.of(child.refusal)))
            else:
                _answer(child.answers, encode(Exited(128 - code if code < 0 else code)))
            self._drop_answers(child)

    def _drop_link(self, child: _Child) -> None:
        if child.link is not None:
            self._forget(child.link.fileno())
            child.link.close()
            child.link = None

    def _drop_answers(self, child: _Child) -> None:
        if child.answers is not None:
            self._forget(child.answers.fileno())
            child.answers.close()
            child.answers = None


def needs_supervisor(plan: Plan) -> bool:
    """Whether a plan has steps that would change the launcher itself (joined namespaces, a helper process,
    descriptors that it would keep), or a container whose end the kernel does not tie to its first process."""
    for item in plan.steps:
        if item.actor in ROLES and not isinstance(item, _HARMLESS):
            return True
        if isinstance(item, CloneInit) and not item.flags & clone.CLONE_NEWPID:
            return True
    return False


# --- a supervisor for one container -----------------------------------------------------------------------------------


def _fork_supervisor(job: Job, slots: Slots) -> _Child:
    """Steps that would change the launcher itself are done by a child of its own, in a PID namespace of its own."""
    ours, theirs = scm.pair()
    pid, pidfd = clone.clone(clone.CLONE_NEWPID)
    if not pid:
        _supervise(job, slots, ours, theirs)
    theirs.close()
    return _Child(job, ours, pid, pidfd, 0)


def _supervise(job: Job, slots: Slots, ours: Socket, parent: Socket) -> None:
    """PID 1 of the container's outer PID namespace; never returns."""
    code = JubakoError.exit_code
    try:
        ours.close()
        close_all_but((0, 1, 2, parent.fileno(), *slots.values.values()))
        request, streams = receive_request(parent, len(STREAMS))
        if request is None:
            os._exit(0)
        applier = Applier(job.plan, slots, ROLES)
        try:
            applier.run()
            send_request(applier.links[INIT], request, streams)
            for fd in streams:
                os.close(fd)
            applier.wait_for_exec()
            network = slots.values.get("network")
            kept = network.descriptors() if network is not None else ()
            close_all_but((0, 1, 2, parent.fileno(), slots["init_pidfd"], *kept))
            _answer(parent, encode(Started(slots["init_pid"])))
            code = _wait_for(slots["init_child"], slots["init_pidfd"], parent, network)
        except JubakoError as failure:
            _answer(parent, encode(Failed.of(failure, failure.step[0] if failure.step else 0)))
    finally:
        os._exit(code)


def _wait_for(pid: int, pidfd: int, parent: Socket, network: Attendant | None) -> int:
    """Pass signals on to process `pid` until it ends, and look after its network; its exit code as shells count it."""
    while True:
        helpers = network.watched() if network is not None else ()
        waiting = poll()
        for fd in (pidfd, parent.fileno(), *helpers):
            waiting.register(fd, POLLIN)
        ready = dict(waiting.poll())
        if network is not None:
            network.attend(ready)
        for fd in ready:
            if fd in helpers:
                continue
            if fd == pidfd:
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                return 128 - code if code < 0 else code
            packet = _receive(parent)
            if not packet:
                return 128 + SIGKILL
            message = decode(packet)
            if isinstance(message, Signal):
                _signal_process(pidfd, message.number)


def _as_error(failure: Exception) -> JubakoError:
    """`failure` in the one shape; a fault of ours is told, and the other containers live on."""
    if isinstance(failure, JubakoError):
        return failure
    if isinstance(failure, OSError):
        return JubakoError.from_os_error("start", "the container", failure)
    return JubakoError("start", "the container", reason=f"a fault in jubako: {type(failure).__name__}: {failure}")


def _signal_process(pidfd: int, number: int) -> None:
    try:
        send_signal(pidfd, number)
    except ProcessLookupError:
        pass


def _receive(socket: Socket) -> bytes:
    """The next packet; empty when the other end is closed."""
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
