"""How a container of a bundle is made, besides what its document says, and the steps that `create` and `exec` share.

OCI runtime-spec 1.3, config.md, "Process".
"""

from __future__ import annotations

from jubako.plan import attributes
from jubako.plan.becoming import plan_execution
from jubako.plan.capabilities import possible_sets
from jubako.plan.extras import Extras
from jubako.plan.host import Host
from jubako.plan.step import Step
from jubako.plan.steps import identity
from jubako.record import record, replace
from jubako.spec.types import Capabilities, Linux, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.plan.steps.hooks import HookState

DIRECT, HELPERS = "direct", "helpers"
"""Who writes the id maps: the runtime itself, or newuidmap and newgidmap."""


@record
class Making:
    """How a bundle is to be made, besides what its document says.

    `writer` says who writes the id maps. `console` sends the terminal to the caller's socket; without it the master
    stays in the runtime's slot "master". `keep_groups` leaves the caller's supplementary groups as they are.
    """

    extras: Extras
    state: HookState
    label: str = ""
    """SELinux's, for new file systems, given by the mount option `label_option`."""
    label_option: str = "context"
    writer: str = DIRECT
    deny_setgroups: bool = False
    keep_groups: bool = False
    console: bool = False
    modules: attributes.Modules = attributes.Modules()
    hosts: tuple[str, ...] = ()
    """The types of joined namespaces that are the host's own."""
    container_pid: int = 0
    """The container's first process as the host counts it, where the program is another's (`exec`)."""
    listens: bool = False
    """Whoever listens at the document's `listenerPath` answers some of its program's system calls."""
    scope: bool = False
    """The container's group is made by another when its process is there (systemd)."""
    powerless: bool = False
    """The runtime has no capabilities in its own user namespace."""
    new_keyring: bool = True

    @property
    def in_group(self) -> bool:
        """Whether the container has a control group, of which its cgroup namespace is to begin."""
        return bool(self.extras.cgroup) or self.scope


def plan_last(program: Process, linux: Linux, host: Host, making: Making) -> Iterator[Step]:
    """What the program has from its own process, last of all: personality, labels, ids, capabilities, its filter."""
    yield from attributes.plan_personality(linux)
    yield from attributes.plan_labels(program, making.modules)
    changed = making.deny_setgroups or making.keep_groups
    last: tuple[Step, ...] = ()
    if making.listens:
        from jubako.plan.steps.notify import AwaitListener

        last = (AwaitListener(),)
    # A document that says nothing of capabilities gives none, as runc and crun have it.
    sets = possible_sets(program.capabilities or Capabilities(), host.last_cap)
    program = replace(program, capabilities=sets)
    yield from plan_execution(program, host, making.extras, change_groups=not changed, last=last)


def listener_slots(making: Making) -> tuple[str, ...]:
    """What has to stay open for the filter's listener."""
    return ("seccomp_listener", "seccomp_state") if making.listens else ()


def plan_user(program: Process, extras: Extras) -> Iterator[Step]:
    """Who the program runs as: the numbers of the document, and a home from the container's passwd file."""
    user = program.user
    groups = (*extras.groups, *(str(gid) for gid in user.additional_gids))
    yield identity.ResolveUser(f"{user.uid}:{user.gid}", groups)
