"""How a first process becomes the program: the same for a new container and for one that is joined."""

from __future__ import annotations

from jubako.plan.extras import Extras
from jubako.plan.host import Host
from jubako.plan.step import Step
from jubako.plan.steps import identity, process, rootfs, terminal
from jubako.plan.steps import program as program_steps
from jubako.spec.types import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def plan_program(
    program: Process,
    host: Host,
    extras: Extras,
    *,
    create_directory: bool,
    read_only: bool = False,
    joined: bool = False,
    tied: bool = False,
) -> Iterator[Step]:
    """The first process becomes the program: the same for a new container and for one that is joined.

    `tied` ends the program with its supervisor or with the process that sent it, where no PID namespace of the
    container's own does so.
    """
    if program.terminal:
        if joined:
            yield terminal.OpenJoinedTerminal()
            yield terminal.TakeTerminal()
        yield terminal.UseTerminal()
    elif extras.streams:
        yield process.ConnectStreams(extras.streams)
    yield process.NewSessionKeyring()
    for limit in program.rlimits:
        yield process.SetRlimit(limit.type, limit.soft, limit.hard)
    user = program.user
    named = user.username or (f"{user.uid}:{user.gid}" if user.uid or user.gid else "0")
    yield identity.ResolveUser(named, (*extras.groups, *(str(gid) for gid in user.additional_gids)))
    yield program_steps.CloseDescriptors(3 + extras.preserve_fds)
    yield program_steps.EnterDirectory(program.cwd or "/", create_directory)
    if read_only:
        yield rootfs.MakeRootReadOnly()
    yield terminal.OwnStreams()
    if not joined:
        yield process.HideProcess()
    if tied:
        from jubako.plan.steps.joining import DieWithParent
    if extras.init:
        from jubako.plan.steps.resident import BecomeInit

        if tied:
            yield DieWithParent()
        yield BecomeInit()
    yield from plan_execution(program, host, extras, tied=tied)


def plan_execution(
    program: Process,
    host: Host,
    extras: Extras,
    *,
    tied: bool = False,
    change_groups: bool = True,
    last: tuple[Step, ...] = (),
) -> Iterator[Step]:
    """The last steps of all: rights are given up, and after the steps `last` the program takes the process's place."""
    if tied:
        from jubako.plan.steps.joining import DieWithParent
    sets, user = program.capabilities, program.user
    late = bool(extras.filter) and not program.no_new_privileges
    if sets is not None:
        yield identity.LimitCapabilities(sets.bounding)
    yield identity.SetUser(
        keep_capabilities=sets is not None and (late or bool(sets.permitted)),
        umask=0o022 if user.umask is None else user.umask,
        change_groups=change_groups and not host.setgroups_denied,
    )
    if sets is not None:
        yield identity.SetCapabilities(sets, with_admin=late)
    if program.no_new_privileges:
        yield identity.SetNoNewPrivileges()
    if tied:
        yield DieWithParent()
    yield from last
    yield program_steps.FilterAndExec(
        program.args,
        program.env,
        extras.filter,
        extras.filter_flags,
        guard_interpreter=host.interpreter_writable,
    )
