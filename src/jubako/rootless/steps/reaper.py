"""PID 1 of the fake root's PID namespace as a process of ours (`--reaper`): pid_namespaces(7).

It reaps what is orphaned, passes signals on to the program and ends with its status.
"""

from __future__ import annotations

import os

from jubako.linux.descriptors import close_all_but
from jubako.linux.pidfd import open_pidfd
from jubako.linux.prctl import set_parent_death_signal
from jubako.linux.title import set_title
from jubako.plan.step import INIT, Slots, Step, step
from jubako.rootless.program import restore_signals
from jubako.rootless.relay import Relay

_SIGKILL = 9


@step(actor=INIT)
class BecomeReaper(Step):
    """This process stays as PID 1 and reaps; its child goes on to become the program."""

    needs = ("stops",)

    def apply(self, slots: Slots) -> None:
        relay = Relay(slots["ignored_signals"])
        relay.hold()
        pid = os.fork()
        if pid == 0:
            set_parent_death_signal(_SIGKILL)
            restore_signals(slots["ignored_signals"])
            return
        code = 255
        try:
            code = _reside(relay, pid, slots["stops"])
        finally:
            os._exit(code)

    def call(self) -> str:
        return "fork(); the parent: wait4(-1), kill(program, SIGNAL) until the program ends"

    def operation(self) -> str:
        return "become the reaper"


def _reside(relay: Relay, pid: int, stops: int) -> int:
    set_title("rootlesskit-init")
    pidfd = open_pidfd(pid)
    close_all_but((2, relay.fd, pidfd, stops))
    os.chdir("/")

    def tell() -> None:  # the first process of a PID namespace cannot be stopped, but who waits for it can
        try:
            os.write(stops, b"s")
        except OSError:
            return

    def reap() -> None:
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid == pid:
                return
            os.waitpid(ended.si_pid, 0)

    return relay.run(pid, pidfd, others=reap, stopped=tell)
