"""Signals read from a descriptor, and passed on to a child."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from jubako.linux.pidfd import open_pidfd
from jubako.linux.signalfd import open_signalfd, read_signals
from jubako.rootless.program import ignored_signals
from jubako.rootless.relay import Relay, held_signals


def test_a_signal_is_read_with_its_sender() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGRTMIN + 1))
    fd = open_signalfd((signal.SIGUSR1, signal.SIGRTMIN + 1))
    try:
        assert read_signals(fd) == []
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGRTMIN + 1)
        found = sorted(read_signals(fd))
        assert found == [(signal.SIGUSR1, 0, os.getpid()), (signal.SIGRTMIN + 1, 0, os.getpid())]
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_what_is_about_ourselves_is_not_passed_on() -> None:
    held = held_signals(frozenset({signal.SIGHUP}))
    for name in ("SIGKILL", "SIGSTOP", "SIGPIPE", "SIGURG", "SIGWINCH", "SIGSEGV", "SIGHUP"):
        assert getattr(signal, name) not in held
    for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGCONT", "SIGTSTP", "SIGALRM", "SIGRTMIN", "SIGCHLD"):
        assert getattr(signal, name) in held


def in_a_child(work: object) -> int:
    """The exit code of `work` in a child, whose signals are its own."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work()  # type: ignore[operator]
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 7), (signal.SIGUSR2, 128 + signal.SIGUSR2)])
def test_it_passes_on_until_the_program_ends(number: int, code: int) -> None:
    program = "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print(1, flush=True); signal.pause()"

    def work() -> int:
        relay = Relay(ignored_signals())
        relay.hold()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.dup2(writer, 1)
            os.execv(sys.executable, (sys.executable, "-c", program))
        os.read(reader, 1)
        os.kill(os.getpid(), number)
        return relay.run(pid, open_pidfd(pid), others=lambda: None, stopped=lambda: None)

    assert in_a_child(work) == code


def test_a_stop_is_told_and_the_end_after_it_too() -> None:
    def work() -> int:
        relay = Relay(frozenset())
        relay.hold()
        told: list[int] = []
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(5)

        def stopped() -> None:
            told.append(1)
            os.kill(os.getpid(), signal.SIGCONT)

        code = relay.run(pid, open_pidfd(pid), others=lambda: None, stopped=stopped)
        return code * 10 + len(told)

    before = time.monotonic()
    assert in_a_child(work) == 51
    assert time.monotonic() - before < 60
