"""The two networks that need no helper: none at all but a loopback of one's own, and the host's own."""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.net.link import Connection, Link
from jubako.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.link import NetworkOptions, Where


class NoNetwork:
    """A namespace that nothing leaves."""

    name = "none"
    ports: tuple[str, ...] = ("builtin",)

    def __init__(self, options: NetworkOptions) -> None:
        _refuse_options(self.name, options)

    def plan(self) -> Link:
        return Link(self.name)

    def explain(self) -> tuple[str, ...]:
        return ()

    def connect(self, where: Where) -> Connection:
        return Connection(self.plan())


class HostNetwork:
    """The host's namespace itself: its devices, its ports, its abstract sockets."""

    name = "host"
    ports: tuple[str, ...] = ()

    def __init__(self, options: NetworkOptions) -> None:
        _refuse_options(self.name, options)

    def plan(self) -> Link:
        return Link(self.name, host="127.0.0.1", shared=True)

    def explain(self) -> tuple[str, ...]:
        return ()

    def connect(self, where: Where) -> Connection:
        return Connection(self.plan())


def _refuse_options(name: str, options: NetworkOptions) -> None:
    plain = type(options)(driver=options.driver)
    if replace(options, program="") == plain:
        return
    changed = [field for field, value in options.__dict__.items() if value != plain.__dict__[field]]
    raise UsageError(
        "read --network",
        name,
        reason=f"it has no options, and {', '.join(changed)} was given",
        hint="the drivers pasta and slirp4netns have",
    )
