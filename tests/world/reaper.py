"""Runs pytest below a child subreaper, so that no process of a test can leave its family tree.

    python tests/world/reaper.py python -m pytest …

Whatever a test starts and loses stays a descendant of this process (prctl(2), PR_SET_CHILD_SUBREAPER): `traces` finds
it there. Orphans that end are reaped at once, as init would do it. However the tests are started, pytest finds the
signals that end a program at their defaults; when whoever started it is gone, it ends them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for option, value in ((_PR_SET_CHILD_SUBREAPER, 1), (_PR_SET_PDEATHSIG, signal.SIGTERM)):
        if prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), f"prctl({option})")
    os.environ["JUBAKO_TEST_REAPER"] = str(os.getpid())
    child = os.fork()
    if child == 0:
        reset_signals()
        os.execvp(sys.argv[1], sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C reaches pytest by itself
    signal.signal(signal.SIGTERM, lambda number, _frame: os.kill(child, number))
    while True:
        pid, status = os.wait()
        if pid == child:
            end_the_rest()
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def reset_signals() -> None:
    """Give the tests the signals of a shell's foreground: a job of `nohup`, or one behind `&`, ignores some of them."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def end_the_rest() -> None:
    """End what goes on after the tests: what they lost, and the bases, which are made anew when next needed."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        if not children:  # the children of those that ended have come here
            return
        for pid in children:
            with suppress(PermissionError, ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
