"""The plan of a fake root: which step is taken when, by which of the processes (`jubako.plan.step`).

    command      clone ─┐ newuidmap, lock    clone ─┐            ┌ wait, watch ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌ its exit code
    supervisor          └─────────────── (waits) ───┼────────────┤ network, ports, api.sock ╌╌╌╌╌╌╌╌╌╌╌╌╌ ends with it
    program                                         └ unshare ───┴ copy-up, /sys ──┴ resolv.conf, execve ╌╌╌╌╌╌┘
"""

from __future__ import annotations

import os

from jubako.ids.base_ids import WITH_HELPERS, BaseIds
from jubako.linux import clone
from jubako.plan.step import Plan, Step
from jubako.plan.steps.lifecycle import BeginStageMaps, JoinStageMaps
from jubako.plan.steps.namespaces import TakeRootIds, WriteStageMaps
from jubako.record import record
from jubako.rootless import program as _program  # noqa: F401 - the program's process can import nothing
from jubako.rootless import state
from jubako.rootless.options import HOST, NONE, OVERLAY, PROPAGATIONS, RootlessOptions, copied_directories
from jubako.rootless.steps.copy_up import CopyUp, CopyUpOverlay, FindLinksOut
from jubako.rootless.steps.mounts import (
    BindFile,
    DetachNetwork,
    HoldNetwork,
    KeepNetwork,
    MountGroups,
    MountProc,
    MountSys,
    SetPropagation,
)
from jubako.rootless.steps.network import BeginKeeping, JoinKeeping
from jubako.rootless.steps.processes import (
    AdoptFirst,
    BecomeProgram,
    CloneChild,
    CloneFirst,
    CloneKeeper,
    CloneStage,
    EndWithParent,
    EnterChildUserNamespace,
    EnterUserNamespace,
    EvacuateGroup,
    HoldSignals,
    OpenUserNamespace,
    PrepareState,
    UnshareNamespaces,
    WriteChildPid,
)
from jubako.rootless.steps.reaper import BecomeReaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

GIVEN = (
    "prepare_state", "begin_keeping", "join_keeping", "hold_signals", "write_child_pid", "ignored_signals",
    "stops",
)  # fmt: skip
"""What the slots hold beforehand: what the command's process does with objects of its own."""


@record
class Place:
    """The state directory, and who the caller is. With `listen` systemd has passed it descriptors."""

    state: str
    temporary: bool
    uid: int
    gid: int
    listen: bool = False


def plan_rootless(options: RootlessOptions, ids: BaseIds, place: Place) -> Plan:
    """All steps, in order."""
    plan = Plan(tuple(_steps(options, ids, place)), GIVEN)
    plan.check_slots()
    return plan


def _steps(options: RootlessOptions, ids: BaseIds, place: Place) -> Iterator[Step]:
    networked = options.driver != HOST
    yield CloneKeeper()
    if ids.writer == WITH_HELPERS:
        yield BeginStageMaps(_triples(ids.uids), _triples(ids.gids))
    yield PrepareState(place.state, place.temporary)
    yield OpenUserNamespace()
    yield from _child(options)
    yield UnshareNamespaces(_flags(options))
    if networked:
        yield DetachNetwork() if options.detach_network else HoldNetwork()
    if ids.writer == WITH_HELPERS:
        yield JoinStageMaps()
    else:
        yield WriteStageMaps(ids.uids.text(), ids.gids.text(), ids.setgroups_deny)
    yield BeginKeeping(networked)
    if options.evacuate:
        yield EvacuateGroup(options.evacuate)
    yield TakeRootIds(keep_groups=True)
    yield EndWithParent()
    yield from _mounts(options, place)
    yield JoinKeeping()
    yield WriteChildPid(f"{place.state}/{state.CHILD_PID}")
    yield HoldSignals()
    yield from _files(options, place)
    if options.reaper:
        yield BecomeReaper()
    yield BecomeProgram(options.command, _environment(place), place.listen)


def _child(options: RootlessOptions) -> Iterator[Step]:
    if not options.pid:
        yield CloneChild()
        yield EnterChildUserNamespace()
        return
    yield CloneStage()
    yield EnterUserNamespace()
    yield CloneFirst()
    yield AdoptFirst()


def _flags(options: RootlessOptions) -> int:
    flags = clone.CLONE_NEWNS
    if options.driver != HOST and not options.detach_network:
        flags |= clone.CLONE_NEWNET
    for wanted, flag in (
        (options.cgroup, clone.CLONE_NEWCGROUP),
        (options.uts, clone.CLONE_NEWUTS),
        (options.ipc, clone.CLONE_NEWIPC),
    ):
        if wanted:
            flags |= flag
    return flags


def _mounts(options: RootlessOptions, place: Place) -> Iterator[Step]:
    yield SetPropagation(PROPAGATIONS[options.propagation])
    if options.pid:
        yield MountProc()
    if options.detach_network:
        yield KeepNetwork(f"{place.state}/{state.NETNS}")
    if options.copy_up and options.copy_up_mode != OVERLAY:
        yield FindLinksOut(copied_directories(options))
    numbers = int.from_bytes(os.urandom(4), "little")
    for position, path in enumerate(copied_directories(options)):
        yield CopyUpOverlay(path) if options.copy_up_mode == OVERLAY else CopyUp(path, numbers + position)
    own_network = options.driver != HOST and not options.detach_network
    if own_network:
        yield MountSys(groups=not options.evacuate)
    if options.evacuate:
        yield MountGroups(over=not own_network)


def _files(options: RootlessOptions, place: Place) -> Iterator[Step]:
    """A network that leads somewhere has its own name servers; in a detached one only those who enter it ask them."""
    if options.driver not in (HOST, NONE) and not options.detach_network:
        fresh = "/etc" in copied_directories(options) and options.copy_up_mode != OVERLAY
        for name in (state.RESOLV_CONF, state.HOSTS):
            yield BindFile(f"{place.state}/{name}", f"/etc/{name}", fresh)


def _environment(place: Place) -> tuple[tuple[str, str], ...]:
    return (
        ("ROOTLESSKIT_STATE_DIR", place.state),
        ("ROOTLESSKIT_PARENT_EUID", str(place.uid)),
        ("ROOTLESSKIT_PARENT_EGID", str(place.gid)),
    )


def _triples(id_map: object) -> tuple[tuple[int, int, int], ...]:
    return tuple((entry.inside, entry.outside, entry.size) for entry in id_map.entries)  # type: ignore[attr-defined]
