"""Which namespaces are made, joined or left out: `linux.namespaces` of config.json becomes steps.

The container's process is cloned at once into its new namespaces, so that its user namespace owns the others. What is
joined is joined before that, from the base, which alone may enter namespaces of another container.
"""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.linux.clone import CLONE_NEWPID, CLONE_NEWTIME, FLAGS
from jubako.plan.host import Host
from jubako.plan.step import Step
from jubako.plan.steps import namespaces as ns
from jubako.plan.steps.mounts import MountForeignProc
from jubako.plan.steps.processes import CloneInit, CloneSupervisor
from jubako.record import record
from jubako.spec.types import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


@record
class NamespaceSet:
    """The namespaces of one container by type: `new` are made, `joined` have a descriptor in the slot "ns:TYPE"."""

    new: tuple[str, ...]
    joined: tuple[str, ...]

    def is_own(self, kind: str) -> bool:
        """Whether the container has a new namespace of this type."""
        return kind in self.new

    @property
    def nested(self) -> bool:
        """Whether there is a user namespace of the container's own."""
        return "user" in self.new


def namespaces_of(spec: Spec) -> NamespaceSet:
    """The namespaces that `spec` asks for. Raises `UsageError` for an unknown type or one named twice."""
    new: list[str] = []
    joined: list[str] = []
    for namespace in spec.linux.namespaces:
        if namespace.type not in FLAGS:
            raise UsageError(
                "use namespace type", namespace.type, reason="unknown", hint=f"the kernel has {', '.join(FLAGS)}"
            )
        if namespace.type in new or namespace.type in joined:
            raise UsageError("use namespace type", namespace.type, reason="it is named twice")
        (joined if namespace.path else new).append(namespace.type)
    if "mount" not in new:
        raise UsageError(
            "start a container without a mount namespace of its own", reason="its root file system would be the host's"
        )
    return NamespaceSet(tuple(new), tuple(joined))


def plan_processes(spaces: NamespaceSet, host: Host, *, supervised: bool) -> Iterator[Step]:
    """The supervisor, in the base user namespace: an ordinary user enters it first, since only there is a new PID
    namespace allowed; the host's root stays outside: it may write any map, and id-mapped mounts want its rights."""
    if supervised:
        if not host.privileged:
            yield ns.JoinBase()
        # A PID namespace can be joined only from one of its ancestors, and with the host's there is none to be in: then
        # there is none around the supervisor either, or pids inside would not be those that /proc shows.
        yield CloneSupervisor(CLONE_NEWPID if spaces.is_own("pid") else 0)


def plan_init(spec: Spec, spaces: NamespaceSet, host: Host, *, group: str) -> Iterator[Step]:
    """Clone the container's first process, into its control group if it has one; the supervisor's part up to the moment
    its maps are written."""
    for kind in spaces.joined:
        if kind != "user":
            yield ns.JoinNamespace(kind, f"ns:{kind}")
    if "pid" in spaces.joined and any(mount.type == "proc" for mount in spec.mounts):
        yield MountForeignProc(host.foreign_proc)
    flags = 0
    for kind in spaces.new:
        flags |= FLAGS[kind]
    if group:  # a namespace made by clone would have the caller's group as its root
        flags &= ~FLAGS["cgroup"]
    if spec.linux.time_offsets and "time" in spaces.new:
        flags &= ~CLONE_NEWTIME
        yield ns.NewTimeNamespace(tuple((o.clock, o.secs, o.nanosecs) for o in spec.linux.time_offsets))
    if "user" in spaces.joined:
        yield ns.JoinNamespace("user", "ns:user")
    yield CloneInit(flags, group)
    if spaces.nested:
        yield ns.WriteIdMaps(
            _text(spec.linux.uid_mappings), _text(spec.linux.gid_mappings), deny_setgroups=host.setgroups_denied
        )


def plan_identity(
    spec: Spec,
    spaces: NamespaceSet,
    host: Host,
    *,
    place_in_cgroup: bool,
    take_root: bool = True,
    keep_groups: bool = False,
) -> Iterator[Step]:
    """What the first process does once its ids hold: root in its namespace (if that has a root), names, loopback."""
    if spaces.nested and take_root:
        yield ns.TakeRootIds(keep_groups=host.setgroups_denied or keep_groups)
    if place_in_cgroup and spaces.is_own("cgroup"):
        yield ns.UnshareCgroup()
    if spaces.is_own("network"):
        yield ns.BringUpLoopback()
    if spaces.is_own("uts"):
        if spec.hostname:
            yield ns.SetHostName(spec.hostname)
        if spec.domainname:
            yield ns.SetDomainName(spec.domainname)


def _text(mappings: tuple[object, ...]) -> str:
    return "".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in mappings)  # type: ignore[attr-defined]
