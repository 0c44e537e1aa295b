"""Steps that make the processes which take part: clone(2). The applier gives each child a socket to its parent."""

from __future__ import annotations

import errno
import os
import sys

from jubako.linux import cgroup, clone, scm
from jubako.linux.pidfd import host_pid
from jubako.plan.step import INIT, RUNTIME, SUPERVISOR, Slots, Step, quote, step
from jubako.waiting import NAMESPACES, START


def stop_imports() -> None:
    """From here on this process can load no module: soon its paths lead into the container (CVE-2019-14271)."""
    sys.path.clear()
    sys.meta_path.clear()


class Clone(Step):
    """The base of the steps that return twice: in the child, slot `child` is 1, and the applier goes on as it."""

    flags: int
    child = ""
    group = ""
    """The directory of the control group that the child is born into; empty: its parent's."""

    @property
    def sibling(self) -> bool:
        """Whether the child is a child of the cloner's parent, to be waited for there."""
        return bool(self.flags & clone.CLONE_PARENT)

    def apply(self, slots: Slots) -> None:
        if not self.group:
            self.keep(slots, *clone.clone(self.flags))
            return
        group = slots.values.pop("group", -1)
        if group < 0:
            group = cgroup.open_group(self.group)
        try:
            self.keep(slots, *clone.clone(self.flags, group))
        except OSError as failure:
            if failure.errno != errno.ENOSYS:
                raise
            self.keep(slots, *clone.clone(self.flags))  # before Linux 5.7, or below a filter that hides clone3(2)
            if not slots["child"]:
                cgroup.add_process_at(group, slots[f"{self.child}_child"])
        finally:
            os.close(group)

    def keep(self, slots: Slots, pid: int, pidfd: int) -> None:
        """What the two processes go on with."""
        slots["child"] = 1 if pid == 0 else 0
        if pid:
            slots[f"{self.child}_child"] = pid
            slots[f"{self.child}_pidfd"] = pidfd
            slots[f"{self.child}_pid"] = host_pid(pidfd)

    def call(self) -> str:
        spaces = f"{clone.flag_names(self.flags)}|" if self.flags else ""
        if self.group:
            flags = f"{spaces}CLONE_PIDFD|CLONE_INTO_CGROUP"
            return f"clone3({{flags={flags}, exit_signal=SIGCHLD, cgroup={quote(self.group)}}})"
        if self.flags & clone.CLONE_NEWTIME:  # clone(2) has no room for this flag
            return f"clone3({{flags={spaces}CLONE_PIDFD, exit_signal=SIGCHLD}})"
        return f"clone({spaces}CLONE_PIDFD|SIGCHLD)"


@step(actor=RUNTIME)
class CloneSupervisor(Clone):
    """The supervisor is PID 1 of an outer PID namespace: when it ends, in whatever way, the kernel ends everything."""

    flags: int = clone.CLONE_NEWPID

    child = SUPERVISOR
    produces = ("supervisor_pid",)

    def purpose(self) -> str:
        if self.flags & clone.CLONE_NEWPID:
            return self.why
        return "The supervisor waits; in the host's PID namespace the container itself has to ask to end with it"

    def operation(self) -> str:
        return "start the supervisor"


@step(actor=SUPERVISOR)
class CloneInit(Clone):
    """The container's first process, at once in all of its new namespaces; the user namespace owns the others. With
    `group` it is born into that too: counted, frozen and killed with all its children."""

    flags: int
    group: str = ""

    child = INIT
    produces = ("init_pid", "init_pidfd")

    def purpose(self) -> str:
        owner = "; the user namespace owns the others" if self.flags & clone.CLONE_NEWUSER else ""
        group = ", and in its control group" if self.group else ""
        return f"The container's first process, at once in all of its new namespaces{group}{owner}"

    def operation(self) -> str:
        return "make the namespaces"

    def subject(self) -> str:
        return " in ".join(word for word in (clone.namespace_names(self.flags), self.group) if word)

    def hint(self, errno: int) -> str:
        if errno in (11, 16):  # EAGAIN, EBUSY
            return "the control group takes no process: its pids.max is reached, or groups below it have controllers"
        if errno == 28:  # ENOSPC
            return "a limit of user.max_*_namespaces (sysctl) or of nested user namespaces (32) is reached"
        if errno == 1:
            return "user namespaces may be switched off here: jubako doctor says how to allow them"
        return ""


@step(actor=INIT)
class AwaitCaller(Step):
    """The container is made: wait, without a look at anything, until somebody connects and wants its program to run."""

    needs = ("listener",)

    def apply(self, slots: Slots) -> None:
        listener = slots.values.pop("listener")
        held: dict[str, int] = slots.values.pop("namespaces", {})
        while True:
            connection = scm.accept(listener)
            word = _hear(connection)
            if word == START:
                break
            if word == NAMESPACES:
                _hand_out(connection, held)
            connection.close()
        for fd in held.values():
            os.close(fd)
        slots["connection"] = connection
        listener.close()

    def call(self) -> str:
        return "accept4(start socket, SOCK_CLOEXEC); recvmsg()"

    def operation(self) -> str:
        return "wait for the start"


def _hear(connection: scm.Socket) -> bytes:
    try:
        word, descriptors = scm.receive(connection, 64)
    except OSError:  # it has gone
        return b""
    for fd in descriptors:
        os.close(fd)
    return word


def _hand_out(connection: scm.Socket, held: dict[str, int]) -> None:
    try:
        scm.send(connection, ",".join(held).encode(), tuple(held.values()))
    except OSError:
        return
