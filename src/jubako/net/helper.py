"""Helper programs: started as children, known by pidfd, with their words kept for the error if they fail at the start.

What a helper writes comes through a pipe. Before it is ready that is the reason of its failure; later whoever owns it
waits for its `words` and its `pidfd`, and logs what comes (`Helper.read`). A helper inherits no descriptor but those
that it is given. It does not outlive who started it: the first process of a PID namespace takes it along, any other one
gets a holder in between that is the first process of a new one. (A death signal alone would not do: helpers change
their credentials, and lose it.)
"""

from __future__ import annotations

import _signal
import os
import select
import time

from jubako.errors import JubakoError
from jubako.linux import scm
from jubako.linux.clone import CLONE_NEWPID, clone
from jubako.linux.descriptors import close_all_but
from jubako.linux.pidfd import open_pidfd, send_signal
from jubako.linux.prctl import set_parent_death_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

START_SECONDS = 10.0
"""How long a helper may take until it is ready."""

_SIGKILL = 9
_LAST_WORDS = 4096


class Helper:
    """A child process that carries a part of the network; `words` is the read end of what it writes. `program` is a
    pidfd of the program itself, which is not our child where a holder is in between."""

    def __init__(self, name: str, pid: int, pidfd: int, words: int, program: int) -> None:
        self.name = name
        self.pid = pid
        self.pidfd = pidfd
        self.words = words
        self.program = program

    def is_over(self) -> bool:
        """Whether it has ended; it is not reaped by asking."""
        return _has_ended(self.pidfd)

    def end(self) -> None:
        """Kill it and wait for it."""
        try:
            send_signal(self.pidfd, _SIGKILL)
        except OSError:
            pass
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:  # somebody else has waited for it
            pass
        self.let_go()

    def let_go(self) -> None:
        """Close the descriptors, when it has ended and been waited for."""
        for fd in {self.pidfd, self.words, self.program}:
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.words = self.program = -1

    def read(self) -> bytes:
        """What it has written and nobody has read yet, at most some kilobytes; empty when there is nothing."""
        if self.words < 0:
            return b""
        os.set_blocking(self.words, False)
        try:
            return os.read(self.words, _LAST_WORDS)
        except BlockingIOError:
            return b""

    def failure(self, reason: str = "", hint: str = "") -> JubakoError:
        """The error that says why it did not start; the helper is ended."""
        words = self.read().decode(errors="replace").strip().replace("\n", "; ")
        self.end()
        return JubakoError("start", self.name, reason=words or reason or "it ended without a word", hint=hint)


def start_program(argv: tuple[str, ...], *, keep: tuple[int, ...] = ()) -> Helper:
    """Start the program of the path `argv[0]`. It keeps the descriptors of `keep` under their numbers."""

    def run() -> NoReturn:
        for fd in keep:
            os.set_inheritable(fd, True)
        for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores them, and exec would pass that on
            _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        os.execv(argv[0], argv)

    return _fork(os.path.basename(argv[0]), run, keep)


def start_function(name: str, work: Callable[[], int], *, keep: tuple[int, ...] = ()) -> Helper:
    """Start a helper of our own: `work` in a child, whose exit code is what it returns."""
    return _fork(name, lambda: os._exit(work()), keep)


def _fork(name: str, run: Callable[[], object], keep: tuple[int, ...]) -> Helper:
    words, writer = os.pipe2(os.O_CLOEXEC)
    here = there = None
    parent = -1
    if os.getpid() != 1:
        parent = open_pidfd(os.getpid())
        here, there = scm.pair()
    pid, pidfd = clone(CLONE_NEWPID if there is not None else 0)
    if pid == 0:
        try:
            os.setsid()
            _as_a_program_begins()
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            held = (parent, there.fileno()) if there is not None else ()
            close_all_but((0, 1, 2, *keep, *held))
            if there is not None:
                _hold(parent, there)
            run()
        except BaseException as failure:
            os.write(2, f"{failure}\n".encode(errors="replace"))
        finally:
            os._exit(127)
    os.close(writer)
    program = pidfd
    if here is not None and there is not None:
        os.close(parent)
        there.close()
        program = next(iter(scm.receive(here)[1]), pidfd)
        here.close()
    return Helper(name, pid, pidfd, words, program)


def _hold(parent: int, link: scm.Socket) -> None:
    """Be the first process of a PID namespace for the child in which this returns; end as it ends. The child's pidfd
    goes through `link`."""
    set_parent_death_signal(_SIGKILL)
    if _has_ended(parent):  # before that
        os._exit(127)
    child = os.fork()
    if child == 0:
        link.close()
        os.close(parent)
        return
    scm.send(link, b"program", (open_pidfd(child),))
    close_all_but(())
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _has_ended(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def _as_a_program_begins() -> None:
    """Python ignores two signals, and exec would keep that: a helper may rely on them, or refuse to start."""
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def await_ready(helper: Helper, ready: int, seconds: float = START_SECONDS, hint: str = "") -> bytes:
    """Wait until the helper writes to `ready` or closes it without being gone; what it wrote. Raises its failure."""
    poller = select.poll()
    poller.register(ready, select.POLLIN)
    poller.register(helper.pidfd, select.POLLIN)
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise helper.failure(f"it was not ready after {seconds:g} s", hint)
        for fd, _event in poller.poll(int(left * 1000) + 1):
            if fd == ready:
                text = os.read(ready, 4096)
                if text or not helper.is_over():
                    return text
            raise helper.failure("", hint)


def await_true(helper: Helper, condition: Callable[[], bool], seconds: float = START_SECONDS, hint: str = "") -> None:
    """Wait until `condition` holds, for helpers that do not tell that they are ready. Raises the helper's failure."""
    deadline = time.monotonic() + seconds
    pause = 0.001
    while not condition():
        if helper.is_over():
            raise helper.failure("", hint)
        if time.monotonic() > deadline:
            raise helper.failure(f"it was not ready after {seconds:g} s", hint)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)
