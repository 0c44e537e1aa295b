"""What a request says that OCI's document has no word for, read and checked; and where the request comes from.

A container is kept as two records: the `Spec`, which any OCI runtime would understand, and these extras, which the
engine needs around it. What the engine can use as it was typed (name, --rm, --detach, --cidfile ...) stays in
`RunOptions`.
"""

from __future__ import annotations

import os

from jubako.ids.modes import Userns
from jubako.record import record
from jubako.spec.types import Pairs, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from jubako.net.bridge.asked import Asked
    from jubako.net.link import NetworkOptions
    from jubako.net.ports.spec import PortSpec

# Kinds of root file system.
DIRECTORY = "directory"  # --rootfs DIR: written to directly
OVERLAY = "overlay"  # --rootfs DIR:O: DIR below a throw-away layer
IMAGE = "image"  # the unpacked layers of an image, below the container's own layer
HOST = "host"  # the running system, read-only
HOST_OVERLAY = "host:rw"  # the running system below a throw-away layer


@record
class RootSource:
    """Where the root file system comes from: `path` for a directory, `image` for a name."""

    kind: str
    path: str = ""
    image: str = ""


@record
class Join:
    """A namespace (OCI's name for its type) to share with another container.

    The spec's entry for that type has no path yet: the engine puts it in when it knows the other's PID 1.
    """

    type: str
    container: str


@record
class HostsFiles:
    """What /etc/hosts and /etc/resolv.conf are to say; `added` holds (address, names) in the order given.

    `keep_hosts` and `keep_resolv_conf` leave the image's own file alone.
    """

    added: tuple[tuple[str, tuple[str, ...]], ...] = ()
    keep_hosts: bool = False
    keep_resolv_conf: bool = False
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@record
class Restart:
    """`policy` is no, on-failure, always or unless-stopped; `retries` 0 is without end."""

    policy: str = "no"
    retries: int = 0


@record
class NetworkRequest:
    """How the container's own network namespace is to be connected, and which ports of the host lead into it."""

    options: NetworkOptions
    ports: tuple[PortSpec, ...] = ()


@record
class ContainerExtras:
    """The request's other half; see the module's text.

    `seccomp` is "default", "unconfined" or the absolute path of a profile in docker's or OCI's form: the filter depends
    on the capabilities and the kernel, so it is resolved when it is compiled. `groups` are names for --group-add, to be
    looked up in the container (numbers are in the spec's additional_gids already). `uidmap` and `gidmap` are as given,
    for `ids.mapping.container_ids`. `stop_signal` is a number; `timeout` 0 never ends the container.
    """

    root: RootSource
    userns: Userns = Userns()
    uidmap: tuple[str, ...] = ()
    gidmap: tuple[str, ...] = ()
    joins: tuple[Join, ...] = ()
    groups: tuple[str, ...] = ()
    seccomp: str = "default"
    hosts: HostsFiles = HostsFiles()
    labels: Pairs = ()
    stop_signal: int = 15
    stop_timeout: int = 10
    timeout: int = 0
    restart: Restart = Restart()
    init: bool = False
    no_pivot: bool = False
    preserve_fds: int = 0
    storage: str = ""
    cgroups: bool = True
    cgroup_parent: str = ""
    best_effort: bool = False
    network: NetworkRequest | None = None
    places: tuple[Asked, ...] = ()
    """On bridge networks; kept beside the extras, since they change (`engine.networks`)."""


@record
class Request:
    """Both halves of a container that is asked for."""

    spec: Spec
    extras: ContainerExtras


@record
class Context:
    """What a request means depends on who makes it, from where, for which container.

    `directory` and `env` are the caller's; `nodename` is the host's; `tty_group` says that group 5 is mapped in the
    container, `last_cap` is the kernel's highest capability.
    """

    container_id: str
    directory: str = "/"
    env: Pairs = ()
    nodename: str = ""
    tty_group: bool = False
    last_cap: int = 40

    def environment(self) -> Mapping[str, str]:
        """The caller's environment by name."""
        return dict(self.env)


def read_context(container_id: str, tty_group: bool = False) -> Context:
    """The context of this very process."""
    from jubako.linux.caps import last_cap

    return Context(
        container_id,
        _working_directory(),
        tuple(os.environ.items()),
        os.uname().nodename,
        tty_group,
        last_cap(),
    )


def _working_directory() -> str:
    """Where relative paths count from; empty where it was removed: a container needs none."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""
