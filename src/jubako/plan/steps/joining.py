"""Steps of a process that enters a running container: setns(2), with whatever runs there hostile and awake."""

from __future__ import annotations

from jubako.linux import cgroup, clone, prctl
from jubako.plan.step import INIT, RUNTIME, SUPERVISOR, Slots, Step, quote, step
from jubako.plan.steps.processes import Clone, stop_imports


@step(actor=RUNTIME)
class CloneJoiner(Clone):
    """A process of its own enters: the caller stays outside, with the host's files and terminal. With `group` it is
    born into the container's control group, and so is the program that it starts."""

    flags: int
    group: str = ""

    child = SUPERVISOR
    produces = ("supervisor_pid",)

    def operation(self) -> str:
        return "start the process that joins"


@step(actor=SUPERVISOR)
class CloneJoined(Clone):
    """A PID namespace holds for children only, so the program is a child of the process that joined."""

    flags: int

    child = INIT
    produces = ("init_pidfd",)

    def apply(self, slots: Slots) -> None:
        pid, pidfd = clone.clone(self.flags)  # no look into /proc: it is the container's here
        slots["child"] = 1 if pid == 0 else 0
        if pid:
            slots["init_child"], slots["init_pidfd"] = pid, pidfd

    def operation(self) -> str:
        return "start the program's process"


@step(actor=RUNTIME)
class TellProgram(Step):
    """The runtime is told which process will be the program: its own child, cloned by another."""

    needs = ("init_pidfd",)

    def apply(self, slots: Slots) -> None:
        return

    def call(self) -> str:
        return "recvmsg(SCM_RIGHTS): a pidfd of the program's process"


@step(actor=SUPERVISOR)
class HideJoiner(Step):
    """Before it enters, this process becomes unreadable for root of the container (CVE-2016-9962)."""

    def apply(self, slots: Slots) -> None:
        prctl.set_dumpable(False)
        stop_imports()

    def call(self) -> str:
        return "prctl(PR_SET_DUMPABLE, 0)"


@step(actor=SUPERVISOR)
class EnterCgroup(Step):
    """What is started here is counted, paused and killed with the container."""

    directory: str

    def apply(self, slots: Slots) -> None:
        cgroup.add_process(self.directory, 0)

    def call(self) -> str:
        return f'write({quote(self.directory + "/cgroup.procs")}, "0")'

    def operation(self) -> str:
        return "enter the cgroup"

    def subject(self) -> str:
        return self.directory


@step(actor=INIT)
class DieWithParent(Step):
    """When the process outside is killed, this one ends too (PR_SET_PDEATHSIG, set after the last change of ids)."""

    def apply(self, slots: Slots) -> None:
        prctl.set_parent_death_signal(9)

    def call(self) -> str:
        return "prctl(PR_SET_PDEATHSIG, SIGKILL)"
