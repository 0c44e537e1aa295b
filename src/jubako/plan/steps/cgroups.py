"""Steps that place a container in a control group: cgroups(7), "Control Group v2"."""

from __future__ import annotations

from jubako.linux import cgroup
from jubako.plan.step import SUPERVISOR, Slots, Step, quote, step


@step(actor=SUPERVISOR)
class OpenGroup(Step):
    """Hold the container's control group before namespaces are joined in which its path leads elsewhere."""

    directory: str

    produces = ("group",)

    def apply(self, slots: Slots) -> None:
        slots["group"] = cgroup.open_group(self.directory)

    def call(self) -> str:
        return f"open({quote(self.directory)}, O_RDONLY|O_DIRECTORY|O_CLOEXEC)"

    def operation(self) -> str:
        return "open the cgroup"

    def subject(self) -> str:
        return self.directory
