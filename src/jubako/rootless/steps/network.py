"""Steps that have the supervisor connect the network, while the program's process arranges its mounts."""

from __future__ import annotations

from jubako.plan.step import RUNTIME, Slots, Step, step


@step(actor=RUNTIME)
class BeginKeeping(Step):
    """The supervisor is given the namespace to connect, and the process that is to end with it."""

    networked: bool

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("init_pidfd", "network") if self.networked else ("init_pidfd",)

    def apply(self, slots: Slots) -> None:
        slots["begin_keeping"](tuple(slots[name] for name in self.needs))

    def call(self) -> str:
        return f"sendmsg(supervisor, SCM_RIGHTS: {', '.join(self.needs)})"

    def operation(self) -> str:
        return "start the network"


@step(actor=RUNTIME)
class JoinKeeping(Step):
    """Wait until the network is connected, the ports are open and the socket is there: the program may need them."""

    def apply(self, slots: Slots) -> None:
        slots["join_keeping"]()

    def call(self) -> str:
        return "recvmsg(supervisor)"

    def operation(self) -> str:
        return "wait for the network"
