"""Hooks: programs of the host that take part in a container's life (OCI runtime-spec 1.3, config.md, "POSIX-platform
Hooks"; runtime.md, "Lifecycle").

Each gets the container's state as JSON on its standard input and exactly the environment that it was given. In the
runtime's namespaces they run as children of the runtime, in the container's as children of its first process.
"""

from __future__ import annotations

import errno
import os
import select

from jubako import jsontext
from jubako.errors import JubakoError
from jubako.linux.descriptors import close_all_but
from jubako.linux.pidfd import host_pid, open_pidfd
from jubako.linux.prctl import set_parent_death_signal
from jubako.linux.seccomp import filter_and_exec
from jubako.plan.program import find_program
from jubako.plan.step import INIT, RUNTIME, Slots, Step, quote, step
from jubako.plan.steps.process import reset_signals
from jubako.record import record
from jubako.spec.types import Hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_LONGEST_POLL = 0x7FFFFFFF
"""Milliseconds that poll(2) can wait: three weeks."""


@record
class HookState:
    """What hooks are told of the container (runtime.md, "State"), all but its status and pid."""

    oci_version: str
    id: str
    bundle: str
    annotations: tuple[tuple[str, str], ...] = ()

    def text(self, status: str, pid: int) -> str:
        """The state as JSON."""
        document: dict[str, Any] = {"ociVersion": self.oci_version, "id": self.id, "status": status}
        if pid:
            document["pid"] = pid
        document["bundle"] = self.bundle
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return jsontext.dumps(document)


@step()
class _Hooks(Step):
    """Each hook in order; the first that fails ends the container."""

    point: str
    hooks: tuple[Hook, ...]
    state: HookState
    status: str

    def call(self) -> str:
        return "; ".join(f"fork(); execve({quote(hook.path)})" for hook in self.hooks)

    def operation(self) -> str:
        return f"run the {self.point} hook"

    def subject(self) -> str:
        return self.hooks[0].path


@step(actor=RUNTIME)
class RunHooksOutside(_Hooks):
    """Programs of the host run in the runtime's namespaces, and may change those of the container."""

    needs = ("init_pidfd",)

    def apply(self, slots: Slots) -> None:
        text = self.state.text(self.status, host_pid(slots["init_pidfd"]))
        for hook in self.hooks:
            run_hook(self.point, hook, text, self.state.bundle)


@step(actor=INIT)
class RunHooksInside(_Hooks):
    """Programs run in the container's namespaces, with all the rights that its first process still has."""

    in_root: bool = False
    """The program is the container's own: hostile, as all of its files."""

    def apply(self, slots: Slots) -> None:
        text = self.state.text(self.status, os.getpid())
        for hook in self.hooks:
            run_hook(self.point, hook, text, "", self.in_root)

    def call(self) -> str:
        if not self.in_root:
            return super().call()
        found = "openat2(the directory of {}, O_PATH, RESOLVE_NO_MAGICLINKS); fork(); execveat(AT_SYMLINK_NOFOLLOW)"
        return "; ".join(found.format(quote(hook.path)) for hook in self.hooks)


def run_hook(point: str, hook: Hook, state: str, directory: str, hostile: bool = False) -> None:
    """Run one hook to its end, in `directory` if there is one. Raises `JubakoError` where it cannot be run, fails, or
    takes longer than its timeout; then it has been killed, with what it has started in its session. A `hostile` program
    must not turn out to be ours."""
    # A memory file holds any state whole: nobody has to write while the hook reads, or does not.
    given = os.memfd_create("state", os.MFD_CLOEXEC)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(given, state.encode("utf-8", "surrogateescape"))
        os.lseek(given, 0, os.SEEK_SET)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(hook, given, writer, directory, parent, hostile)
        os.close(writer)
        writer = -1
        pidfd = open_pidfd(pid)
        ended = False
        try:
            ended = _wait(pidfd, hook.timeout)
        finally:  # Ctrl-C comes here too
            if not ended:
                _kill(pid)
            os.close(pidfd)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        number = os.read(reader, 16)
    finally:
        os.close(given)
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    operation = f"run the {point} hook"
    if number:
        raise JubakoError(operation, hook.path, errno=int(number), hint=_exec_hint(int(number)))
    if not ended:
        raise JubakoError(operation, hook.path, reason=f"it took longer than its timeout of {hook.timeout} s")
    if status:
        how = f"it ended with exit code {status}" if status > 0 else f"signal {-status} ended it"
        raise JubakoError(operation, hook.path, reason=how, hint="what it wrote to standard error may say why")


def _wait(pidfd: int, timeout: int | None) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(None if timeout is None else min(timeout * 1000, _LONGEST_POLL)))


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, 9)
    except ProcessLookupError:  # it has not got as far as its session
        os.kill(pid, 9)


def _become(hook: Hook, given: int, failure: int, directory: str, parent: int, hostile: bool) -> None:
    """The child: never returns. It has a session of its own, so that all that belongs to it can be killed; and it ends
    when its parent is killed, since nobody is left then to whom its end would mean anything."""
    try:
        set_parent_death_signal(9)
        if os.getppid() != parent:
            os._exit(127)
        os.setsid()
        reset_signals()
        os.dup2(given, 0, inheritable=True)
        close_all_but((0, 1, 2, failure))
        if directory:
            os.chdir(directory)
        environment = dict(entry.partition("=")[::2] for entry in hook.env)
        arguments = hook.args or (hook.path,)
        if hostile:  # a link to /proc/self/exe would be this interpreter, which the container could then write to
            _become_verified(hook.path, arguments, environment)
        os.execve(hook.path, arguments, environment)
    except JubakoError as error:
        os.write(failure, b"%d" % (error.errno or errno.ENOEXEC))
    except OSError as error:
        os.write(failure, b"%d" % (error.errno or errno.EIO))
    finally:
        os._exit(127)


def _become_verified(path: str, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    arguments, directory, name = find_program(path, ()).open_place(arguments)
    variables = [f"{name}={value}" for name, value in environment.items()]
    number = filter_and_exec(b"", name, arguments, variables, directory=directory)
    raise OSError(number, os.strerror(number), path)


def _exec_hint(number: int) -> str:
    if number == errno.ENOENT:
        return "there is no such program (or its interpreter is missing) where the hook runs"
    if number == errno.ELOOP:
        return "it is reached through a magic link of /proc"
    return "it must be executable: chmod +x" if number == errno.EACCES else ""
