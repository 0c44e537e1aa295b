"""A process that stays in the host's user namespace and starts lxc-user-nic for one that has left it.

A set-uid program gains nothing in a user namespace that is not the host's own, where supervisors are. So whoever starts
a supervisor forks this process first (`start`) and hands it the other end of its socket as `Where.outside`; it does one
thing, for the program and the bridge that it was started for, and ends when the socket is closed everywhere
else. It needs a /proc of its own PID namespace: lxc-user-nic wants the pid of a process in the network namespace. That
is a child of this one, in no PID namespace of any container, that lives no longer than the program runs.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError
from jubako.linux import scm
from jubako.linux.clone import CLONE_NEWNET, CLONE_NEWUSER, owner_namespace, parent_namespace, setns
from jubako.linux.descriptors import close_all_but
from jubako.linux.prctl import has_no_new_privs, set_dumpable, set_parent_death_signal
from jubako.record import record
from jubako.runtime.facts import is_whole

_MOST_WORDS = 4096
_SIGKILL = 9
_FAILED = 125
_ENDED = "the process in the host's user namespace has ended"


@record
class Outside:
    """The process, and the descriptor to hand to the supervisor (and to close here then)."""

    pid: int
    fd: int

    def end(self) -> None:
        """Close our end; where that was the last one, wait for the process."""
        os.close(self.fd)
        os.waitpid(self.pid, 0)


@record
class Attempt:
    """How the program ended, and what it wrote."""

    code: int
    words: str = ""


@record
class Request:
    """What to run, and for which device on which bridge."""

    program: str
    bridge: str
    device: str


def start(request: Request) -> Outside:
    """Fork the process. To be called in the host's user namespace, in a process of one thread."""
    here, there = scm.pair()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            null = os.open("/dev/null", os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            close_all_but((0, 1, 2, there.fileno()))
            serve(there, request)
        finally:
            os._exit(0)
    there.close()
    return Outside(pid, here.detach())


def serve(link: scm.Socket, request: Request) -> None:
    """Do it for every network namespace that comes, until the other end is closed."""
    while True:
        data, descriptors = scm.receive(link)
        if not data or len(descriptors) != 1:
            return
        try:
            done = create(request, descriptors[0])
        except OSError as failure:
            done = Attempt(_FAILED, f"{failure.filename or request.program}: {failure.strerror}")
        except JubakoError as failure:
            done = Attempt(_FAILED, str(failure))
        finally:
            os.close(descriptors[0])
        scm.send(link, b"%d %s" % (done.code, os.fsencode(done.words)))


def ask(outside: int, request: Request, network: int) -> Attempt:
    """`create` in the process outside, or here where `outside` is -1."""
    if outside < 0:
        return create(request, network)
    link = scm.adopt(os.dup(outside))
    try:
        scm.send(link, b"create", (network,))
        data, _descriptors = scm.receive(link)
    except OSError as failure:
        raise JubakoError("run", request.program, reason=_ENDED) from failure
    finally:
        link.close()
    if not data:
        raise JubakoError("run", request.program, reason=_ENDED)
    code, _, words = data.partition(b" ")
    return Attempt(int(code), os.fsdecode(words))


def create(request: Request, network: int) -> Attempt:
    """Run `lxc-user-nic create` for the network namespace of the descriptor."""
    if not is_whole():
        reason = "a set-uid program has no rights in a user namespace"
        raise JubakoError("run", request.program, reason=reason, hint="start the container from the host itself")
    if has_no_new_privs() and os.geteuid() != 0:
        raise JubakoError("run", request.program, reason="this process may gain no privileges (no_new_privs)")
    holder, end = _hold(network)
    try:
        return _run(
            (request.program, "create", "/dev/null", "dummy", str(holder), "veth", request.bridge, request.device)
        )
    finally:
        os.close(end)
        os.waitpid(holder, 0)


def _hold(network: int) -> tuple[int, int]:
    """A child in the network namespace that a program of this user may look at, and the pipe that ends it."""
    reader, writer = os.pipe()
    here, there = scm.pair()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(writer)
            set_parent_death_signal(_SIGKILL)
            try:
                _enter(network)
                scm.send(there, b"+" + os.readlink("/proc/self").encode())
            except OSError as failure:
                scm.send(there, f"-{failure.errno or 0}".encode())
            os.read(reader, 1)
        finally:
            os._exit(0)
    os.close(reader)
    there.close()
    try:
        data, _descriptors = scm.receive(here)
    finally:
        here.close()
    if data == b"+%d" % pid:
        return pid, writer
    os.close(writer)
    os.waitpid(pid, 0)
    if data[:1] == b"+":
        raise JubakoError("run", "lxc-user-nic", reason="/proc is not that of this PID namespace")
    number = int(data[1:]) if data[:1] == b"-" else 0
    raise JubakoError("enter", "the network namespace", errno=number, reason="" if number else "its process ended")


def _enter(network: int) -> None:
    """Into the namespace, and to be seen by this user's programs, which the kernel forbids with a change of rights.

    An ordinary user has rights over it in a user namespace around it that he has made. The outermost one is taken, not
    the network's own: this process is still in the host's mount namespace, and who is root of a container, and sees
    the host's pids, may trace what is in the container's user namespace.
    """
    if os.geteuid() != 0:
        setns(_outermost(owner_namespace(network)), CLONE_NEWUSER)
    setns(network, CLONE_NEWNET)
    set_dumpable(True)


def _outermost(user: int) -> int:
    """The user namespace right below this process's own that `user` is in, or is."""
    own = os.stat("/proc/self/ns/user")
    while True:
        parent = parent_namespace(user)
        if os.path.samestat(os.fstat(parent), own):
            return user
        user = parent


def _run(argv: tuple[str, ...]) -> Attempt:
    """The program to its end; it reads nothing and inherits nothing."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            close_all_but((0, 1, 2))
            os.execve(argv[0], argv, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"})
        except OSError as failure:
            os.write(2, f"{failure.strerror}\n".encode())
        finally:
            os._exit(127)
    os.close(writer)
    words = b""
    try:
        while piece := os.read(reader, _MOST_WORDS):
            words += piece[: _MOST_WORDS - len(words)]
    finally:
        os.close(reader)
    _pid, status = os.waitpid(pid, 0)
    return Attempt(os.waitstatus_to_exitcode(status), words.decode(errors="replace").strip())
