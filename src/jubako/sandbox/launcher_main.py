"""The launcher's program: `python -I -S .../launcher_main.py`, with the caller's socket as descriptor 3.

It enters the user's base user namespace once (the host's root has no need to), becomes PID 1 of an outer PID namespace,
so that whatever happens to it ends its containers, takes a mount namespace of its own, and serves. All modules are
loaded before the first container is forked.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.linux.scm import Socket
    from jubako.sandbox.jobs import Jobs

CHANNEL = 3
_CALLS = ("mount", "umount2", "prctl", "setns", "unshare", "sethostname", "setdomainname", "madvise")
"""Looked up once here, and not in every child: each lookup copies some thirty pages there."""


def main() -> None:
    """Come up and serve; what prevents it is told to the caller."""
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from jubako.errors import JubakoError
    from jubako.linux.scm import Socket
    from jubako.runtime.requests import Refused, encode_refusal

    os.set_inheritable(CHANNEL, False)
    channel = Socket(fileno=CHANNEL)
    try:
        _come_up(channel)
    except JubakoError as failure:
        channel.send(encode_refusal(Refused.of(failure)))
    except OSError as failure:
        error = JubakoError.from_os_error("start the launcher", str(failure.filename or ""), failure)
        channel.send(encode_refusal(Refused.of(error)))


def _come_up(channel: Socket) -> None:
    from jubako.engine.launch import open_basis
    from jubako.linux import clone, scm
    from jubako.linux.descriptors import close_all_but
    from jubako.paths import find_paths, make_run_directories
    from jubako.plan.steps.namespaces import join_user_namespace
    from jubako.runtime.base import become_root
    from jubako.runtime.facts import is_interpreter_writable
    from jubako.runtime.requests import PROCESS
    from jubako.sandbox.jobs import Jobs

    close_all_but((0, 1, 2, CHANNEL))  # what the caller let its children inherit is not for us
    os.chdir("/")
    os.umask(0o022)
    caller = _open_caller()
    paths = find_paths()
    make_run_directories(paths)
    basis = open_basis(paths)
    jobs = Jobs(paths, basis.ids, interpreter_writable=is_interpreter_writable())
    if basis.fd >= 0:
        join_user_namespace(basis.fd)
        become_root(basis.ids)
        os.close(basis.fd)
    pid, pidfd = clone.clone(clone.CLONE_NEWPID | clone.CLONE_NEWNS)
    if pid:
        scm.send(channel, PROCESS, (pidfd,))
        return
    try:
        _serve(channel, caller, jobs)
    except BaseException:
        if os.environ.get("JUBAKO_DEBUG"):
            sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def _serve(channel: Socket, caller: int, jobs: Jobs) -> None:
    """The launcher proper: PID 1 of the outer PID namespace. Never returns."""
    import gc

    from jubako.errors import JubakoError
    from jubako.linux.libc import libc
    from jubako.linux.prctl import set_name
    from jubako.runtime.requests import READY, Refused, encode_refusal
    from jubako.runtime.server import Server
    from jubako.sandbox.request import remember_pages

    try:
        set_name("jubako-launcher")
        jobs.make_room()
    except OSError as failure:
        error = JubakoError.from_os_error("start the launcher", str(failure.filename or ""), failure)
        channel.send(encode_refusal(Refused.of(error)))
        return
    if not os.environ.get("JUBAKO_DEBUG"):
        os.dup2(0, 2)
    for name in _CALLS:
        getattr(libc, name)
    gc.disable()
    gc.freeze()
    channel.send(READY)
    Server(channel, caller, jobs.job, remember_pages).serve()
    os._exit(0)


def _open_caller() -> int:
    """A descriptor that tells when the caller has ended, should a forked copy of it still hold the socket open."""
    try:
        return os.pidfd_open(os.getppid())
    except OSError:
        return -1


if __name__ == "__main__":
    main()
