"""What every network driver is asked for, and what it makes: one protocol for containers and for the fake root.

A driver connects one network namespace with the outside. It is made of plain options (`jubako.net.parse`), says what it
will give before anything is started (`plan`: the addresses go into resolv.conf and hosts), and then connects, from a
process that is outside of that namespace and has rights over it: the supervisor. Helper programs are children of that
process, which is the first one of a PID namespace: whatever dies first, no helper is left.
"""

from __future__ import annotations

from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from jubako.net.helper import Helper
    from jubako.net.ports.spec import PortSpec


@record
class NetworkOptions:
    """What was asked for. Empty or 0 means the driver's default; a driver refuses what it cannot keep.

    `cidr` is the network inside, `mtu` in bytes, `host_loopback` lets the namespace reach what listens on the host's
    own loopback addresses. `program` is the helper's name or path; `arguments` go to it as they are. `rules` are the
    proxy's (`--allow`), `bridge` is a network's or a bridge's name.
    """

    driver: str = ""
    mtu: int = 0
    cidr: str = ""
    device: str = ""
    ipv6: bool = False
    host_loopback: bool = False
    program: str = ""
    arguments: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    bridge: str = ""
    sandbox: str = ""
    """slirp4netns's own sandbox: true, false or auto (empty)."""
    seccomp: str = ""
    """slirp4netns's own filter: true, false or auto (empty)."""
    ports: str = ""
    """The port driver that was asked for by name; empty for the network driver's best."""


@record
class Where:
    """Where a driver connects: descriptors, none of which it closes.

    `network` is the namespace. `user` is the user namespace that owns it, -1 where the calling process is in it (or in
    an ancestor, with all rights there). `directory` is a private one for sockets and files. `outside` is the socket of
    a process that has stayed in the host's user namespace (`jubako.net.outside`), for drivers whose program is set-uid;
    -1 where the calling process is in that namespace itself.
    """

    network: int
    directory: str
    user: int = -1
    outside: int = -1


@record
class Link:
    """What a driver gives: the device inside, its addresses with their prefix lengths, routers and name servers.

    `environment` is for the program inside (a proxy's address); `host` is the address at which the host is reached from
    inside, empty where it is not. `shared` says that the namespace is the host's own.
    """

    driver: str
    device: str = ""
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    mtu: int = 0
    host: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    shared: bool = False


class Connection:
    """A link that is up: what it really is (`dynamic` parts filled in), and the processes that carry it."""

    def __init__(
        self, link: Link, helpers: tuple[Helper, ...] = (), api: str = "", keeper: Keeper | None = None
    ) -> None:
        self.link = link
        self.helpers = helpers
        self.api = api
        """The path of slirp4netns's socket, for its port driver."""
        self.keeper = keeper
        """Who carries the network for others too, and is no child of ours."""


if TYPE_CHECKING:

    class Keeper(Protocol):
        """A connection that lives as long as the network is to be there."""

        def fileno(self) -> int:
            """What to wait for; -1 once its other end has gone."""

        def read_notice(self) -> str:
            """What there is to log, when there is something to read."""

        def close(self) -> None:
            """Leave the network."""

    class Driver(Protocol):
        """One way to connect. Each has a module of its own in `jubako.net.drivers`."""

        name: str
        ports: tuple[str, ...]
        """The port drivers that go with it, the best first."""

        def __init__(self, options: NetworkOptions) -> None:
            """Raises `UsageError` for options that this driver does not know or cannot keep, `NotFoundError` with the
            package's name where its program is missing. Starts nothing."""

        def plan(self) -> Link:
            """What it will give."""

        def explain(self) -> tuple[str, ...]:
            """The command lines of its helpers and what else it does, for `explain`; one line each."""

        def connect(self, where: Where) -> Connection:
            """Connect, and return when packets can pass. Raises `JubakoError` with the helper's own words, and then
            nothing of it is left. Called in a process with one thread; it may fork and wait for its children."""

    class PortForwarder(Protocol):
        """Ports that are forwarded into one namespace, by whatever means; lives in the process that made it."""

        helpers: tuple[Helper, ...]
        descriptors: tuple[int, ...]
        """What it needs to stay open, besides the helpers' own."""

        def add(self, port: PortSpec) -> PortSpec:
            """Forward it: returns when connections are taken, with the port that was chosen where `host_port` is 0;
            that is what `remove` wants. Raises `JubakoError`, and then nothing is forwarded."""

        def remove(self, port: PortSpec) -> None:
            """Take no new connections; those that there are go on."""

        def close(self) -> None:
            """End it all, and the helpers."""
