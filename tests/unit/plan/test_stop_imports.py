"""A process on its way into a container loads no more modules: their paths would lead into the container."""

from __future__ import annotations

import os
import sys

from jubako.plan.steps.processes import stop_imports


def test_a_module_that_is_not_loaded_cannot_be_loaded_any_more() -> None:
    sys.modules.pop("colorsys", None)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            stop_imports()
            import colorsys  # noqa: F401
        except ModuleNotFoundError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_what_is_loaded_already_stays_usable() -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            stop_imports()
            import stat

            code = 0 if stat.S_ISDIR(os.stat("/").st_mode) else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
