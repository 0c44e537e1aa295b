"""Steps that give the program what config.json says about scheduling, memory, personality, labels and parameters of the
kernel: sched_setattr(2), ioprio_set(2), set_mempolicy(2), personality(2), sched_setaffinity(2), proc(5).
"""

from __future__ import annotations

import errno
import os

from jubako.linux import ioprio, lsm, mempolicy, personality, sched
from jubako.linux.procfs import private_procfs, write_in_procfs
from jubako.plan.step import INIT, RUNTIME, SUPERVISOR, Slots, Step, printable, quote, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

_MASK_OF_CPUS = "a CPU of the list does not exist, or the caller may not use it"


@step(actor=RUNTIME)
class SetScheduler(Step):
    """How soon and how long the container's processes run, set from outside, where the right to ask for more is."""

    policy: str
    nice: int = 0
    priority: int = 0
    flags: tuple[str, ...] = ()
    runtime: int = 0
    deadline: int = 0
    period: int = 0

    needs: ClassVar[tuple[str, ...]] = ("init_pid",)

    def apply(self, slots: Slots) -> None:
        self._set(slots["init_pid"])

    def _set(self, pid: int) -> None:
        flags = 0
        for name in self.flags:
            flags |= sched.FLAGS[name]
        sched.set_scheduler(
            pid, sched.POLICIES[self.policy], flags, self.nice, self.priority, self.runtime, self.deadline, self.period
        )

    def call(self) -> str:
        fields = [f"sched_policy={printable(self.policy)}", f"sched_flags={printable('|'.join(self.flags)) or '0'}"]
        for name in ("nice", "priority", "runtime", "deadline", "period"):
            if getattr(self, name):
                fields.append(f"sched_{name}={getattr(self, name)}")
        return f"sched_setattr({'PID' if self.actor == RUNTIME else '0'}, {{{', '.join(fields)}}}, 0)"

    def operation(self) -> str:
        return "set the scheduler"

    def subject(self) -> str:
        return printable(self.policy)

    def hint(self, errno_: int) -> str:
        if errno_ == errno.EPERM:
            return "real-time policies and a nice value below the caller's want CAP_SYS_NICE on the host"
        return "this kernel does not know the policy or one of the flags" if errno_ == errno.EINVAL else ""


@step(actor=INIT)
class SetOwnScheduler(SetScheduler):
    """How soon and how long the program runs that enters the container."""

    policy: str

    needs: ClassVar[tuple[str, ...]] = ()

    def apply(self, slots: Slots) -> None:
        self._set(0)


@step(actor=RUNTIME)
class SetIoPriority(Step):
    """Whose requests the disks serve first, set from outside, where the right to ask for more is."""

    io_class: str
    level: int = 0

    needs: ClassVar[tuple[str, ...]] = ("init_pid",)

    def apply(self, slots: Slots) -> None:
        ioprio.set_io_priority(slots["init_pid"], ioprio.CLASSES[self.io_class], self.level)

    def call(self) -> str:
        pid = "PID" if self.actor == RUNTIME else "0"
        return f"ioprio_set(IOPRIO_WHO_PROCESS, {pid}, IOPRIO_PRIO_VALUE({printable(self.io_class)}, {self.level}))"

    def operation(self) -> str:
        return "set the priority of input and output"

    def subject(self) -> str:
        return printable(self.io_class)

    def hint(self, errno_: int) -> str:
        return "IOPRIO_CLASS_RT wants CAP_SYS_ADMIN or CAP_SYS_NICE on the host" if errno_ == errno.EPERM else ""


@step(actor=INIT)
class SetOwnIoPriority(SetIoPriority):
    """Whose requests the disks serve first, for the program that enters the container."""

    io_class: str

    needs: ClassVar[tuple[str, ...]] = ()

    def apply(self, slots: Slots) -> None:
        ioprio.set_io_priority(0, ioprio.CLASSES[self.io_class], self.level)


@step(actor=INIT)
class SetPersonality(Step):
    """Which machine uname(2) names: LINUX32 is for programs of a 32-bit world."""

    domain: str

    def apply(self, slots: Slots) -> None:
        personality.set_personality(personality.DOMAINS[self.domain])

    def call(self) -> str:
        return f"personality(PER_{printable(self.domain)})"


@step(actor=INIT)
class SetMemoryPolicy(Step):
    """From which nodes of the machine the container's processes get their memory (numa(7))."""

    mode: str
    nodes: tuple[int, ...] = ()
    flags: tuple[str, ...] = ()

    def apply(self, slots: Slots) -> None:
        mode = mempolicy.MODES[self.mode]
        for name in self.flags:
            mode |= mempolicy.FLAGS[name]
        mempolicy.set_memory_policy(mode, self.nodes)

    def call(self) -> str:
        mode = printable("|".join((self.mode, *self.flags)))
        return f"set_mempolicy({mode}, {{{', '.join(map(str, self.nodes))}}})"

    def operation(self) -> str:
        return "set the memory policy"

    def subject(self) -> str:
        return printable(self.mode)

    def hint(self, errno_: int) -> str:
        if errno_ == errno.EINVAL:
            return "a node of the list does not exist or is not allowed here, or this kernel does not know the mode"
        return ""


@step(actor=SUPERVISOR)
class SetInitialAffinity(Step):
    """The CPUs of the process that joins until it is in the container's control group."""

    cpus: tuple[int, ...]

    def apply(self, slots: Slots) -> None:
        os.sched_setaffinity(0, self.cpus)

    def call(self) -> str:
        return f"sched_setaffinity(0, {{{', '.join(map(str, self.cpus))}}})"

    def operation(self) -> str:
        return "set the CPU affinity"

    def hint(self, errno_: int) -> str:
        return _MASK_OF_CPUS if errno_ == errno.EINVAL else ""


@step(actor=INIT)
class SetFinalAffinity(SetInitialAffinity):
    """The CPUs of the program, from among those of the container's control group."""

    cpus: tuple[int, ...]


@step(actor=INIT)
class SetExecLabel(Step):
    """The label under which the security module confines the program, written to a procfs that is known to be one."""

    module: str
    label: str

    def apply(self, slots: Slots) -> None:
        proc = private_procfs()
        try:
            lsm.set_exec_label(proc, self.module, self.label)
        finally:
            os.close(proc)

    def call(self) -> str:
        path = "attr/apparmor/exec" if self.module == lsm.APPARMOR else "attr/exec"
        text = f"exec {self.label}" if self.module == lsm.APPARMOR else self.label
        return (
            f'fsopen("proc"); fsmount(); openat2(proc, "PID/task/TID/{path}", RESOLVE_BENEATH|RESOLVE_NO_XDEV); '
            f"write({quote(text)})"
        )

    def operation(self) -> str:
        return f"set the {quote(self.module)[1:-1]} label"

    def subject(self) -> str:
        return quote(self.label)[1:-1]

    def hint(self, errno_: int) -> str:
        return "the profile or label is not loaded" if errno_ in (errno.ENOENT, errno.EINVAL) else ""


@step(actor=INIT)
class SetKernelParameter(Step):
    """A parameter of the container's own namespaces, written to a procfs that is known to be one."""

    name: str
    path: str
    """Below /proc."""
    value: str

    def apply(self, slots: Slots) -> None:
        proc = private_procfs()
        try:
            write_in_procfs(proc, self.path, os.fsencode(self.value))
        finally:
            os.close(proc)

    def call(self) -> str:
        return (
            f'fsopen("proc"); fsmount(); openat2(proc, {quote(self.path)}, RESOLVE_BENEATH|RESOLVE_NO_XDEV); '
            f"write({quote(self.value)})"
        )

    def operation(self) -> str:
        return "set the kernel parameter"

    def subject(self) -> str:
        return quote(self.name)[1:-1]

    def hint(self, errno_: int) -> str:
        return "this kernel has no such parameter in a namespace" if errno_ == errno.ENOENT else ""
