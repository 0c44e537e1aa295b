"""Steps that place a container in a control group: cgroups(7), "Control Group v2"."""

from __future__ import annotations

from jubako.linux import cgroup
from jubako.plan.step import SUPERVISOR, Slots, Step, quote, step


@step(actor=SUPERVISOR)
class JoinCgroup(Step):
    """The container's processes are counted, frozen and killed together, from their first one on."""

    directory: str

    needs = ("init_pid",)

    def apply(self, slots: Slots) -> None:
        cgroup.add_process(self.directory, slots["init_child"])  # as the writer counts pids

    def call(self) -> str:
        return f'write({quote(self.directory + "/cgroup.procs")}, "PID")'

    def operation(self) -> str:
        return "place the container in the cgroup"

    def subject(self) -> str:
        return self.directory
