"""PID 1 of the container as a process of ours (`--init`): pid_namespaces(7), "The namespace's init process".

It reaps what is orphaned, passes signals on to the program and ends with its status. It needs no binary in the
image: it is this interpreter, gone resident without privileges and hidden from everything inside.
"""

from __future__ import annotations

import _signal
import os

from jubako.linux import caps, prctl
from jubako.linux.descriptors import close_all_but
from jubako.linux.title import set_title
from jubako.plan.step import Slots, Step, step

_CAP_KILL = 1 << 5
_FORWARDED = tuple(n for n in range(1, 65) if n not in (9, 17, 19, 20, 21, 22, 11, 7, 4, 8, 5, 31, 32, 33))


@step()
class BecomeInit(Step):
    """This process stays as PID 1 and reaps; its child goes on to become the program."""

    def apply(self, slots: Slots) -> None:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (*_FORWARDED, 17))
        pid = os.fork()
        if pid == 0:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
            os.setsid()
            return
        code = 255
        try:
            code = _reside(pid)
        finally:
            os._exit(code)

    def call(self) -> str:
        return "fork(); the parent: wait4(-1), kill(program, SIGNAL) until the program ends"

    def operation(self) -> str:
        return "become the container's init"


def _reside(program: int) -> int:
    """Reap and forward until `program` ends; its exit code as shells count it."""
    set_title("jubako-init")
    prctl.set_no_new_privs()
    close_all_but(())
    caps.limit_bounding(_CAP_KILL)
    caps.capset(_CAP_KILL, _CAP_KILL, 0)
    while True:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 255
            if pid == 0:
                break
            if pid == program:
                code = os.waitstatus_to_exitcode(status)
                return 128 - code if code < 0 else code
        number = _signal.sigwait((*_FORWARDED, 17))
        if number != 17:
            try:
                os.kill(program, number)
            except (ProcessLookupError, PermissionError):
                continue
