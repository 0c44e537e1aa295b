"""Steps of a container whose making and start are two commands: OCI runtime-spec 1.3, runtime.md, "Lifecycle".

`create` leaves the first process waiting before its program; `start`, another process, lets it go on. What the runtime
keeps of a container is not a plan's business: the step `Record` calls what the slot "recorder" holds.
"""

from __future__ import annotations

import os

from jubako.linux import clone, scm
from jubako.plan.program import find_program
from jubako.plan.step import INIT, RUNTIME, SUPERVISOR, Slots, Step, quote, step
from jubako.plan.steps.processes import AwaitCaller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

__all__ = [
    "AwaitCaller", "BeginIdMaps", "JoinIdMaps", "LookUpProgram", "Record", "SendTerminal", "SetOomScoreBefore",
    "SetOomScoreOf",
]  # fmt: skip


@step(actor=RUNTIME)
class Record(Step):
    """Write down what a later command must know, before anything else can go wrong."""

    moment: str

    needs = ("recorder", "init_pidfd")

    def apply(self, slots: Slots) -> None:
        slots["recorder"](self.moment, slots)

    def call(self) -> str:
        return 'write("state.json.new"); rename("state.json.new", "state.json")'

    def operation(self) -> str:
        return "write the state of"

    def subject(self) -> str:
        return f"the {self.moment} container"


@step(actor=SUPERVISOR)
class SetOomScoreOf(Step):
    """How soon the kernel picks the container when memory runs out, set by who may still lower it (proc(5))."""

    value: int

    needs: ClassVar[tuple[str, ...]] = ("init_pid",)

    def apply(self, slots: Slots) -> None:
        self._write(f"/proc/{slots['init_pid']}/oom_score_adj")

    def _write(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if int(os.read(fd, 16)) != self.value:
                os.write(fd, str(self.value).encode())
        finally:
            os.close(fd)

    def call(self) -> str:
        return f'write("/proc/PID/oom_score_adj", "{self.value}")'

    def operation(self) -> str:
        return "set process.oomScoreAdj to"

    def subject(self) -> str:
        return str(self.value)

    def hint(self, errno_: int) -> str:
        return "a value below the caller's own wants CAP_SYS_RESOURCE on the host"


@step(actor=SUPERVISOR)
class SetOomScoreBefore(SetOomScoreOf):
    """How soon the kernel picks the container when memory runs out: inherited, since a hidden process's is root's."""

    value: int

    needs: ClassVar[tuple[str, ...]] = ()

    def apply(self, slots: Slots) -> None:
        self._write("/proc/self/oom_score_adj")

    def call(self) -> str:
        return f'write("/proc/self/oom_score_adj", "{self.value}")'


@step(actor=SUPERVISOR)
class BeginIdMaps(Step):
    """Several ids are mapped by two set-uid programs, started side by side: they are the slow part (newuidmap(1))."""

    uids: tuple[tuple[int, int, int], ...]
    gids: tuple[tuple[int, int, int], ...]

    of = "init_pid"
    needs = (of,)
    produces = ("id_maps",)

    def apply(self, slots: Slots) -> None:
        from jubako.ids.idmap import IdMap
        from jubako.ids.newidmap import begin_id_maps

        slots["id_maps"] = begin_id_maps(slots[self.of], IdMap.of(*self.uids), IdMap.of(*self.gids))

    def call(self) -> str:
        uids, gids = (" ".join(str(number) for entry in each for number in entry) for each in (self.uids, self.gids))
        return f'execve("newuidmap", "PID {uids}"); execve("newgidmap", "PID {gids}")'

    def operation(self) -> str:
        return "write the id maps"


@step(actor=SUPERVISOR)
class JoinIdMaps(Step):
    """Wait until both have written their map."""

    needs = ("id_maps",)

    def apply(self, slots: Slots) -> None:
        from jubako.ids.newidmap import join_id_maps

        join_id_maps(slots.values.pop("id_maps"))

    def call(self) -> str:
        return "wait4(newuidmap); wait4(newgidmap)"


@step(actor=RUNTIME)
class BeginStageMaps(BeginIdMaps):
    """The same for a stage that makes the container's user namespace itself."""

    of = "supervisor_pid"
    needs = (of,)


@step(actor=RUNTIME)
class JoinStageMaps(JoinIdMaps):
    """Wait until both have written the stage's map."""


@step(actor=RUNTIME)
class SendTerminal(Step):
    """The master goes to who asked for the terminal, through the socket that it listens at."""

    needs = ("master", "console_socket")

    def apply(self, slots: Slots) -> None:
        scm.send(slots["console_socket"], b"/dev/ptmx", (slots["master"],))
        slots.close("master")
        slots.values.pop("console_socket").close()

    def call(self) -> str:
        return "sendmsg(console socket, SCM_RIGHTS: the master)"

    def operation(self) -> str:
        return "send the terminal to the console socket"


@step(actor=INIT)
class LookUpProgram(Step):
    """A program that is not there is told now, not when the container is started."""

    name: str
    environment: tuple[str, ...]
    directory: str

    def apply(self, slots: Slots) -> None:
        name = self.name
        if "/" in name and not name.startswith("/"):
            name = os.path.join(self.directory, name)
        find_program(name, self.environment)

    def call(self) -> str:
        return f"openat2({quote(self.name)}, O_PATH, RESOLVE_NO_MAGICLINKS)"

    def operation(self) -> str:
        return "execute"

    def subject(self) -> str:
        return self.name


@step(actor=INIT)
class HoldNamespaces(Step):
    """Who is not privileged where the container is made cannot ask the hidden process for its namespaces: it has them
    ready for `exec` until its program begins."""

    produces = ("namespaces",)

    def apply(self, slots: Slots) -> None:
        held: dict[str, int] = {}
        for kind in clone.FLAGS:
            try:
                held[kind] = clone.open_namespace("self", kind)
            except FileNotFoundError:  # a kernel without time namespaces
                continue
        slots["namespaces"] = held

    def call(self) -> str:
        return 'for each type: open("/proc/self/ns/TYPE")'
