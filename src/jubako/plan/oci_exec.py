"""The plan of a runtime's `exec`: one more program in a bundle's container (setns(2)).

As in `plan.joined`, the process that joins is hidden before it enters, and looks nothing up that the container could
answer. The program is cloned as its sibling: a child of the runtime, that goes on when the runtime has gone.
"""

from __future__ import annotations

from jubako.linux.clone import CLONE_PARENT
from jubako.plan import attributes
from jubako.plan.host import Host
from jubako.plan.making import Making, listener_slots, plan_last, plan_user
from jubako.plan.step import Plan, Step
from jubako.plan.steps import joining, lifecycle, namespaces, process, terminal
from jubako.plan.steps import program as program_steps
from jubako.spec.types import Linux, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def plan_exec(program: Process, linux: Linux, kinds: tuple[str, ...], host: Host, making: Making) -> Plan:
    """The plan that runs `program` in the namespaces `kinds`, joined in this order from the slots "ns:TYPE"; `linux` is
    that part of the container's document."""
    given = [f"ns:{kind}" for kind in kinds]
    if making.console:
        given.append("console_socket")
    return Plan(tuple(_steps(program, linux, kinds, host, making)), tuple(given))


def _steps(program: Process, linux: Linux, kinds: tuple[str, ...], host: Host, making: Making) -> Iterator[Step]:
    extras = making.extras
    if making.listens and linux.seccomp is not None:
        from jubako.plan.steps.notify import ConnectListener, DescribeToListener

        yield ConnectListener(linux.seccomp.listener_path)
    yield joining.CloneJoiner(0, extras.cgroup)
    yield from attributes.plan_initial_affinity(program)
    yield joining.HideJoiner()
    for kind in kinds:
        yield namespaces.JoinNamespace(kind, f"ns:{kind}")
    yield joining.CloneJoined(CLONE_PARENT)
    if making.listens and linux.seccomp is not None:
        state = making.state
        yield DescribeToListener(
            state.oci_version, state.id, state.bundle, linux.seccomp.listener_metadata, state.annotations,
            status="running", container_pid=making.container_pid, joined=True,
        )  # fmt: skip
    yield joining.TellProgram()
    if "user" in kinds:
        yield namespaces.TakeRootIds(keep_groups=making.deny_setgroups or making.keep_groups)
    yield process.BeginSession()
    yield process.HideProcess()
    if program.terminal:
        size = program.console_size
        yield terminal.OpenJoinedTerminal(size.height if size else 0, size.width if size else 0)
        yield lifecycle.SendTerminal() if making.console else terminal.KeepTerminal()
        yield terminal.UseTerminal()
    if making.new_keyring:
        yield process.NewSessionKeyring()
    yield program_steps.CloseDescriptors(3 + extras.preserve_fds, also=listener_slots(making))
    yield from plan_user(program, extras)
    yield program_steps.EnterDirectory(program.cwd or "/", create=False)
    yield terminal.OwnStreams()
    for limit in program.rlimits:
        yield process.SetRlimit(limit.type, limit.soft, limit.hard)
    yield from attributes.plan_scheduling(program, joined=True)
    yield from attributes.plan_final_affinity(program)
    yield from plan_last(program, linux, host, making)
