"""Runs pytest below a child subreaper, so that no process of a test can leave its family tree.

    python tests/world/reaper.py python -m pytest …

Whatever a test starts and loses stays a descendant of this process (prctl(2), PR_SET_CHILD_SUBREAPER): `traces` finds
it there. Orphans that end are reaped at once, as init would do it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    os.environ["JUBAKO_TEST_REAPER"] = str(os.getpid())
    child = os.fork()
    if child == 0:
        os.execvp(sys.argv[1], sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C reaches pytest by itself
    signal.signal(signal.SIGTERM, lambda number, _frame: os.kill(child, number))
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
