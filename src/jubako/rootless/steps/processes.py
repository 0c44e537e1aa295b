"""Steps that make the fake root's processes and join them to its user namespace.

The command's own process stays outside, in the caller's session and PID namespace, and is the parent of the program. So
the terminal, job control and whoever waits see one ordinary process. The supervisor makes the user namespace, as the
first process of a PID namespace in which all helpers are.
"""

from __future__ import annotations

import _signal
import os

from jubako.linux import clone
from jubako.linux.pidfd import host_pid
from jubako.linux.prctl import set_parent_death_signal
from jubako.plan.step import INIT, RUNTIME, SUPERVISOR, Slots, Step, quote, step
from jubako.plan.steps.namespaces import join_user_namespace
from jubako.plan.steps.processes import Clone

STAGE = "stage"
_SIGKILL = 9


@step(actor=RUNTIME)
class PrepareState(Step):
    """The state directory is locked, and emptied of what an earlier fake root left that was killed."""

    path: str
    temporary: bool

    def apply(self, slots: Slots) -> None:
        slots["prepare_state"]()

    def call(self) -> str:
        lock = quote(self.path + "/lock")
        return f"mkdir({quote(self.path)}); flock({lock}, LOCK_EX|LOCK_NB); unlink: all but the lock"


@step(actor=RUNTIME)
class CloneKeeper(Clone):
    """The supervisor makes the user namespace. It is PID 1 of an outer PID namespace: no helper outlives it."""

    flags: int = clone.CLONE_NEWUSER | clone.CLONE_NEWPID

    child = SUPERVISOR
    produces = ("supervisor_pid",)

    def operation(self) -> str:
        return "make a user namespace"

    def hint(self, errno: int) -> str:
        return "" if errno == 11 else "jubako doctor says what forbids user namespaces here, and how to allow them"


@step(actor=RUNTIME)
class OpenUserNamespace(Step):
    """The program's process will join the user namespace that the supervisor made."""

    produces = ("user",)
    needs = ("supervisor_pid",)

    def apply(self, slots: Slots) -> None:
        slots["user"] = clone.open_namespace(slots["supervisor_pid"], "user")

    def call(self) -> str:
        return 'open("/proc/PID/ns/user", O_RDONLY)'


@step(actor=RUNTIME)
class CloneChild(Clone):
    """The process that will be the program: a child of the caller's command, in its PID namespace and session."""

    flags: int = 0

    child = INIT
    produces = ("init_pid", "init_pidfd")

    def operation(self) -> str:
        return "start the program's process"


@step(actor=RUNTIME)
class CloneStage(Clone):
    """A PID namespace holds for children only, so one more process enters the user namespace and makes the child."""

    flags: int = 0

    child = STAGE

    def operation(self) -> str:
        return "start the process that makes the PID namespace"


@step(actor=STAGE)
class EnterUserNamespace(Step):
    """Have all capabilities in the user namespace before the PID namespace is made."""

    needs = ("user",)

    def apply(self, slots: Slots) -> None:
        _end_at_an_interrupt()
        join_user_namespace(slots["user"])

    def call(self) -> str:
        return "setns(user, CLONE_NEWUSER); prctl(PR_SET_DUMPABLE, 1)"


@step(actor=STAGE)
class CloneFirst(Clone):
    """The first process of the PID namespace, as a child of the caller's command, which alone waits for it."""

    flags: int = clone.CLONE_NEWPID | clone.CLONE_PARENT

    child = INIT
    produces = ("init_pidfd",)

    def operation(self) -> str:
        return "make the PID namespace"

    def hint(self, errno: int) -> str:
        return "a limit of user.max_pid_namespaces (sysctl) is reached" if errno == 28 else ""


@step(actor=RUNTIME)
class AdoptFirst(Step):
    """The command is told of the child that was made for it."""

    needs = ("init_pidfd",)
    produces = ("init_pid",)

    def apply(self, slots: Slots) -> None:
        slots["init_pid"] = slots["init_child"] = host_pid(slots["init_pidfd"])

    def call(self) -> str:
        return "recvmsg(SCM_RIGHTS): a pidfd of the child"


@step(actor=INIT)
class EnterChildUserNamespace(Step):
    """Have all capabilities in the user namespace, and none outside of it."""

    needs = ("user",)

    def apply(self, slots: Slots) -> None:
        _end_at_an_interrupt()
        join_user_namespace(slots["user"])
        slots.close("user")

    def call(self) -> str:
        return "setns(user, CLONE_NEWUSER); prctl(PR_SET_DUMPABLE, 1)"

    def operation(self) -> str:
        return "join the user namespace"


def _end_at_an_interrupt() -> None:
    """Ctrl-C during the start is for the command's process to tell of; its children just end."""
    if _signal.getsignal(_signal.SIGINT) != _signal.SIG_IGN:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


@step(actor=INIT)
class UnshareNamespaces(Step):
    """The namespaces that were asked for, owned by the user namespace; mounts always, all others are the host's."""

    flags: int

    def apply(self, slots: Slots) -> None:
        clone.unshare(self.flags)

    def call(self) -> str:
        return f"unshare({clone.flag_names(self.flags)})"

    def operation(self) -> str:
        return "make the namespaces"

    def subject(self) -> str:
        return clone.namespace_names(self.flags)

    def hint(self, errno: int) -> str:
        return "a limit of user.max_*_namespaces (sysctl) is reached" if errno == 28 else ""


@step(actor=INIT)
class EndWithParent(Step):
    """Where the command and the supervisor are killed at once, the kernel still ends the program."""

    def apply(self, slots: Slots) -> None:
        set_parent_death_signal(_SIGKILL)

    def call(self) -> str:
        return "prctl(PR_SET_PDEATHSIG, SIGKILL)"


@step(actor=RUNTIME)
class HoldSignals(Step):
    """From here on signals are read from a descriptor, and passed on to the program."""

    def apply(self, slots: Slots) -> None:
        slots["hold_signals"]()

    def call(self) -> str:
        return "rt_sigprocmask(SIG_BLOCK, …); signalfd4(-1, …, SFD_CLOEXEC|SFD_NONBLOCK)"


@step(actor=RUNTIME)
class EvacuateGroup(Step):
    """The processes of this control group move into one below it, so that controllers can be given to its siblings."""

    name: str

    def apply(self, slots: Slots) -> None:
        from jubako.rootless.evacuation import evacuate

        evacuate(self.name)

    def call(self) -> str:
        inner = f"GROUP/{self.name}"
        return f"mkdir({inner}); write({inner}/cgroup.procs, PID …); write(GROUP/cgroup.subtree_control)"

    def operation(self) -> str:
        return "evacuate the control group into"

    def subject(self) -> str:
        return self.name


@step(actor=RUNTIME)
class WriteChildPid(Step):
    """Tell others which process they find the namespaces at."""

    path: str

    needs = ("init_pid",)

    def apply(self, slots: Slots) -> None:
        slots["write_child_pid"](slots["init_pid"])

    def call(self) -> str:
        return f"write({quote(self.path)}, PID)"


@step(actor=INIT)
class BecomeProgram(Step):
    """The program takes this process's place, with the caller's variables, streams and open descriptors."""

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    """What is added to the caller's variables."""
    listen: bool = False
    """Whether descriptors come from systemd, whose variable LISTEN_PID has to name the process that takes them."""

    def apply(self, slots: Slots) -> None:
        from jubako.rootless.program import execute

        variables = {**os.environ, **dict(self.environment)}
        if self.listen:
            variables["LISTEN_PID"] = str(os.getpid())
        execute(self.arguments, variables, slots["ignored_signals"])

    def call(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.environment)
        return f"execve({quote(self.arguments[0])}, [{', '.join(map(quote, self.arguments))}], {{{shown}, …}})"

    def operation(self) -> str:
        return "execute"

    def subject(self) -> str:
        return self.arguments[0]
