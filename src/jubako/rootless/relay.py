"""Standing before the program: signals passed on, stops and ends passed back (signal(7), credentials(7)).

The program is in the same process group, unless it has made one of its own. So what a terminal sends reaches it
without us, and is not passed on a second time: Ctrl-C is heard once. When the program stops (Ctrl-Z), so do we, or the
caller's shell would wait for ever.
"""

from __future__ import annotations

import _signal
import os
import select

from jubako.linux.pidfd import send_signal
from jubako.linux.signalfd import SI_KERNEL, open_signalfd, read_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CHLD, _CONT, _TSTP = 17, 18, 20
_NEVER = frozenset((4, 5, 7, 8, 9, 11, 13, 17, 19, 23, 28, 31, 32, 33))
"""Not passed on: faults of our own, what cannot be caught, PIPE, CHLD, URG and WINCH, which are about ourselves."""


def held_signals(ignored: frozenset[int]) -> tuple[int, ...]:
    """The signals to pass on, and SIGCHLD. What the caller had ignored stays so."""
    return (_CHLD, *(number for number in range(1, _signal.NSIG) if number not in _NEVER and number not in ignored))


class Relay:
    """Passes on until the program has ended. `hold` comes before the program, `run` after."""

    def __init__(self, ignored: frozenset[int]) -> None:
        self.numbers = held_signals(ignored)
        self.fd = -1

    def hold(self) -> None:
        """Have signals wait from here on."""
        _signal.pthread_sigmask(_signal.SIG_BLOCK, self.numbers)
        if _signal.getsignal(_CHLD) == _signal.SIG_IGN:  # then nobody could wait for a child
            _signal.signal(_CHLD, _signal.SIG_DFL)
        self.fd = open_signalfd(self.numbers)

    def run(
        self,
        pid: int,
        pidfd: int,
        *,
        others: Callable[[], None],
        stopped: Callable[[], None],
        words: int = -1,
    ) -> int:
        """Until the child `pid` ends: its exit code as shells count it. `others` looks after further children when one
        may have ended; `stopped` is called when the program has stopped, or whoever stands between says so by a byte
        from `words`."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        if words >= 0:
            poller.register(words, select.POLLIN)
        while True:
            code = _look(pid, stopped)
            if code is not None:
                return code
            others()
            ready = dict(poller.poll())
            if words in ready:
                if os.read(words, 64):
                    stopped()
                else:
                    poller.unregister(words)
            for number, origin, _sender in read_signals(self.fd):
                if number != _CHLD and not (origin == SI_KERNEL and _is_in_our_group(pid)):
                    _pass_on(pidfd, number)


def stop_too() -> None:
    """Stop as the program did; back when somebody has continued us. In an orphaned process group nobody could, and the
    kernel does not stop us."""
    _signal.sigtimedwait((_TSTP,), 0)  # what the terminal sent to us too would stop us once more
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_TSTP,))
    os.kill(os.getpid(), _TSTP)
    _signal.pthread_sigmask(_signal.SIG_BLOCK, (_TSTP,))


def _look(pid: int, stopped: Callable[[], None]) -> int | None:
    """The program's exit code, or None while it runs."""
    while True:
        found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if found == 0:
            return None
        if not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code
        stopped()


def _is_in_our_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == os.getpgrp()
    except ProcessLookupError:
        return True


def _pass_on(pidfd: int, number: int) -> None:
    try:
        send_signal(pidfd, number)
    except OSError:
        return  # it has ended, or has become somebody else's (a set-uid program)
