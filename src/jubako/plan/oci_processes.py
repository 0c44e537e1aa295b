"""The plan of a bundle up to its first process: what the runtime does, and the stage that joins namespaces for it.

namespaces(7), user_namespaces(7), time_namespaces(7); OCI runtime-spec 1.3, config-linux.md, "Namespaces", "User
namespace mappings", "Offset for Time Namespace".
"""

from __future__ import annotations

from jubako.linux.clone import CLONE_NEWTIME, CLONE_PARENT, FLAGS
from jubako.plan import attributes
from jubako.plan.host import Host
from jubako.plan.making import HELPERS, Making
from jubako.plan.namespaces import NamespaceSet, namespaces_of
from jubako.plan.oci_mounts import Bundle, plan_mount_sources
from jubako.plan.step import Step
from jubako.plan.steps import joining, lifecycle, mounts
from jubako.plan.steps import namespaces as ns
from jubako.plan.steps.processes import CloneInit, CloneSupervisor
from jubako.spec.types import IdMapping, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    _MapSteps = tuple[type[ns.WriteIdMaps], type[lifecycle.BeginIdMaps], type[lifecycle.JoinIdMaps]]

FIRST = (ns.WriteIdMaps, lifecycle.BeginIdMaps, lifecycle.JoinIdMaps)
STAGE = (ns.WriteStageMaps, lifecycle.BeginStageMaps, lifecycle.JoinStageMaps)
"""The steps that write the maps of the first process, or of the stage."""


def is_staged(spec: Spec, spaces: NamespaceSet) -> bool:
    """Whether a process of its own has to stand between the runtime and the container: what is joined, and a time
    namespace with offsets, would hold for the runtime too, and for its hooks."""
    return bool(spaces.joined) or bool(spec.linux.time_offsets)


def plan_outside(spec: Spec, spaces: NamespaceSet, host: Host, making: Making, bundle: Bundle) -> Iterator[Step]:
    """The steps up to the moment the first process is there with its ids; those of the runtime and of the stage."""
    staged = is_staged(spec, spaces)
    offsets = tuple((o.clock, o.secs, o.nanosecs) for o in spec.linux.time_offsets)
    # Without rights here the stage gets them in the container's user namespace, which it makes itself.
    inside = bool(offsets) and spaces.nested and making.powerless
    seccomp = spec.linux.seccomp
    if making.listens and seccomp is not None:
        from jubako.plan.steps.notify import ConnectListener, DescribeToListener

        yield ConnectListener(seccomp.listener_path)
    if staged:
        yield CloneSupervisor(FLAGS["user"] if inside else 0)
        if inside:
            yield from _id_maps(spec, making, STAGE)
        if making.extras.cgroup:
            from jubako.plan.steps.cgroups import OpenGroup

            yield OpenGroup(making.extras.cgroup)
    # Who runs in there already must not look into a process of ours, nor into the one that it clones (CVE-2016-9962).
    hidden = bool(spaces.joined) and not spaces.nested
    late = bool(offsets)  # a hidden process may not write its own offsets
    score = spec.process.oom_score_adj
    if hidden and score is not None:
        yield lifecycle.SetOomScoreBefore(score)
    if hidden and not late:
        yield joining.HideJoiner()
    for kind in _joining_order(spaces, making):
        yield ns.JoinNamespace(kind, f"ns:{kind}")
    if host.foreign_proc:
        yield ns.UnshareMounts()
        yield mounts.MountForeignProc(host.foreign_proc)
    flags = CLONE_PARENT if staged else 0
    for kind in spaces.new:
        flags |= FLAGS[kind]
    if making.in_group:
        flags &= ~FLAGS["cgroup"]
    if inside:
        flags &= ~FLAGS["user"]
    if offsets:
        flags &= ~CLONE_NEWTIME
        yield ns.NewTimeNamespace(offsets)
    if hidden and late:
        yield joining.HideJoiner()
    yield CloneInit(flags, making.extras.cgroup)
    if spaces.nested and not inside:
        yield from _id_maps(spec, making, FIRST)
    if score is not None and not hidden:
        yield lifecycle.SetOomScoreOf(score)
    yield from plan_mount_sources(spec, spaces, host, bundle)
    if making.listens and seccomp is not None:
        state = making.state
        yield DescribeToListener(
            state.oci_version, state.id, state.bundle, seccomp.listener_metadata, state.annotations
        )  # fmt: skip
    yield lifecycle.Record("cloned")
    yield from attributes.plan_scheduling(spec.process)
    yield from attributes.plan_resctrl(spec.linux, making.modules, making.state.id)
    yield from attributes.plan_net_devices(spec.linux)


def _joining_order(spaces: NamespaceSet, making: Making) -> tuple[str, ...]:
    """The user namespace comes last, since what it does not own cannot be joined from inside; but who has no rights
    outside of it has to enter it first."""
    return tuple(sorted(spaces.joined, key=lambda kind: (kind == "user") != making.powerless))


def needs_foreign_proc(spec: Spec) -> bool:
    """Whether the container's own process may not mount proc: its user namespace does not own the PID namespace."""
    spaces = namespaces_of(spec)
    return spaces.nested and "pid" in spaces.joined and any(mount.type == "proc" for mount in spec.mounts)


def _id_maps(spec: Spec, making: Making, whose: _MapSteps) -> Iterator[Step]:
    write, begin, join = whose
    uids, gids = spec.linux.uid_mappings, spec.linux.gid_mappings
    if making.writer == HELPERS:
        yield begin(_triples(uids), _triples(gids))
        yield join()
        return
    texts = ["".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in each) for each in (uids, gids)]
    yield write(texts[0], texts[1], deny_setgroups=making.deny_setgroups)


def _triples(mappings: tuple[IdMapping, ...]) -> tuple[tuple[int, int, int], ...]:
    return tuple((m.container_id, m.host_id, m.size) for m in mappings)
