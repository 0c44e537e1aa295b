"""The keeper as containers' supervisors and commands see it.

`reserve` is for whoever makes a container, before anything of it is there: it makes the keeper if there is none, and
says the addresses. The connection goes to the supervisor, which attaches the container's network namespace through it
and holds it as long as the container lives.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError, NotFoundError
from jubako.linux import scm
from jubako.net.bridge import wire
from jubako.net.bridge.keeper import KeeperLock, keeper_directory, remove_keeper_directory, start_keeper
from jubako.net.bridge.network import dump_network
from jubako.net.link import Link
from jubako.paths import make_run_directories
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.net.bridge.network import Network
    from jubako.net.link import NetworkOptions
    from jubako.paths import Paths
    from jubako.runtime.base import Base

_TRIES = 50
LOST = "the keeper of bridge networks has ended: this container has no network any more; jubako network reload"


@record
class Wish:
    """A place on a network that a container wants; empty is what the keeper chooses."""

    network: Network
    addresses: tuple[str, ...] = ()
    hardware: str = ""
    aliases: tuple[str, ...] = ()
    device: str = ""


@record
class Place:
    """What a container has on one network; addresses have their prefix lengths."""

    network: str
    device: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    hardware: str
    aliases: tuple[str, ...]
    mtu: int


@record
class Neighbour:
    """A container on bridge networks, as the keeper knows it."""

    id: str
    name: str
    places: tuple[Place, ...]


class Reservation:
    """A connection to the keeper, and what it has promised. A forked child may go on with it; whoever does not, closes
    it: the container is on its networks until the last copy is closed."""

    def __init__(self, socket: scm.Socket, answer: dict[str, Any], made: bool = False) -> None:
        self.socket = socket
        self.made = made
        """Whether the keeper was made just now."""
        self.warnings: tuple[str, ...] = ()
        self._learn(answer)

    def _learn(self, answer: dict[str, Any]) -> None:
        self.places = tuple(load_place(entry) for entry in answer["ports"])
        self.dns = tuple(str(server) for server in answer["dns"])
        self.host = str(answer["host"])

    def fileno(self) -> int:
        """The descriptor to keep, and to poll: it is readable when the keeper has something to say, or has ended."""
        return self.socket.fileno()

    def link(self) -> Link:
        """The same as a network driver would say it."""
        if not self.places:  # it was taken off the last one
            return Link("bridge")
        first = self.places[0]
        return Link(
            "bridge",
            device=first.device,
            addresses=tuple(address for place in self.places for address in place.addresses),
            gateways=next((place.gateways for place in self.places if place.gateways), ()),
            dns=self.dns,
            mtu=min(place.mtu for place in self.places),
            host=self.host,
        )

    def attach(self, namespace: int, life: int = -1) -> None:
        """Connect the network namespace of this descriptor, which is made anew if it was done before. With `life`, a
        pidfd, the container stays on its networks until that process ends, and this connection may be closed."""
        descriptors = (namespace, life) if life >= 0 else (namespace,)
        try:
            self._learn(_ask(self.socket, {"do": "attach"}, descriptors))
        except ConnectionResetError:
            raise JubakoError("connect to the bridge network", reason="the keeper has just ended") from None

    def read_notice(self) -> str:
        """What the keeper has to say, for the log, when the descriptor is readable. After its end the connection is
        closed, and `fileno` is -1."""
        try:
            document, _ = wire.receive(self.socket)
        except OSError:
            document = None
        if document is None:
            self.close()
            return LOST
        return str(document.get("notice", ""))

    def close(self) -> None:
        """Let go of it, in this process."""
        self.socket.close()


def reserve(
    paths: Paths,
    base: Base | None,
    identifier: str,
    name: str,
    wishes: tuple[Wish, ...],
    uplink: NetworkOptions | None = None,
) -> Reservation:
    """Places on networks for a container. `base` is the user's, None where this process is in it or there is none
    (the host's root). `uplink` is how a keeper that has no way out yet is to make it, the machine's best if None.

    Raises `JubakoError`: a program or package is missing, an address is taken or cannot be.
    """
    request = {"do": "reserve", "id": identifier, "name": name, **_said(wishes, uplink)}
    return _ask_keeper(paths, base, request)


def connect(paths: Paths, identifier: str, wish: Wish) -> tuple[Place, ...]:
    """Put a running container on one more network; all its places. Raises `NotFoundError` if no keeper knows it."""
    return _change(paths, {"do": "add", "id": identifier, **_said((wish,), None)})


def disconnect(paths: Paths, identifier: str, network: str) -> tuple[Place, ...]:
    """Take a running container from a network; the places that it still has."""
    return _change(paths, {"do": "remove", "id": identifier, "network": network})


def neighbours(paths: Paths) -> list[Neighbour]:
    """Who is on bridge networks now, whichever base they are of."""
    return [one for directory in keeper_directories(paths) for one in _neighbours(directory)]


def keeper_directories(paths: Paths) -> list[str]:
    """Where keepers are, or have been. There is more than one if the base was made anew while containers ran."""
    try:
        return [f"{paths.run}/{name}" for name in sorted(os.listdir(paths.run)) if name.startswith("bridge-")]
    except FileNotFoundError:
        return []


def _neighbours(directory: str) -> list[Neighbour]:
    socket = _connect(directory)
    if socket is None:
        return []
    try:
        return [Neighbour(one["id"], one["name"], tuple(map(load_place, one["ports"]))) for one in _members(socket)]
    except ConnectionResetError:  # it ends, since nobody is left
        return []
    finally:
        socket.close()


def _members(socket: scm.Socket) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    more = True
    while more:
        answer = _ask(socket, {"do": "members", "after": len(found)})
        more = answer["more"]
        found += answer["members"]
    return found


def is_running(paths: Paths, base: Base | None) -> bool:
    """Whether there is a keeper now."""
    socket = _connect(keeper_directory(paths, base))
    if socket is not None:
        socket.close()
    return socket is not None


def others(paths: Paths, base: Base | None) -> bool:
    """Whether a keeper of another base is there."""
    own = keeper_directory(paths, base)
    found = [_connect(directory) for directory in keeper_directories(paths) if directory != own]
    for socket in found:
        if socket is not None:
            socket.close()
    return any(socket is not None for socket in found)


def tidy(paths: Paths) -> None:
    """Remove what keepers that were killed have left on disk."""
    directories = keeper_directories(paths)
    if not directories:
        return
    lock = KeeperLock(paths)
    lock.take()
    try:
        for directory in directories:
            socket = _connect(directory)
            if socket is None:
                remove_keeper_directory(directory)
            else:
                socket.close()
    finally:
        lock.release()


def _ask_keeper(paths: Paths, base: Base | None, request: dict[str, Any]) -> Reservation:
    """What the keeper gives, which is made if there is none. One that ends just now answers nothing: then there is
    another try."""
    directory = keeper_directory(paths, base)
    made = False
    for _ in range(_TRIES):
        found = _connect(directory)
        if found is None:
            found, new = _make(paths, base, directory)
            made = made or new
        socket = found
        try:
            return Reservation(socket, _ask(socket, request), made)
        except ConnectionResetError:
            socket.close()
        except BaseException:
            socket.close()
            raise
    raise JubakoError("connect to", "the keeper of bridge networks", reason="it ends as soon as it has begun")


def _make(paths: Paths, base: Base | None, directory: str) -> tuple[scm.Socket, bool]:
    """A connection to a new keeper, and True; or to one that another has just made."""
    make_run_directories(paths)
    lock = KeeperLock(paths)
    lock.take()
    try:
        socket = _connect(directory)
        if socket is not None:
            return socket, False
        return start_keeper(paths, base, directory), True
    finally:
        lock.release()


def _connect(directory: str) -> scm.Socket | None:
    try:
        return scm.connect(directory, wire.SOCKET)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def _ask(socket: scm.Socket, request: dict[str, Any], descriptors: tuple[int, ...] = ()) -> dict[str, Any]:
    """The answer. Raises what it tells of, and `ConnectionResetError` if there is none."""
    try:
        wire.send(socket, request, descriptors)
        while True:
            answer, _ = wire.receive(socket)
            if answer is None:
                break
            if "notice" not in answer:
                wire.raise_failure(answer)
                return answer
    except BrokenPipeError:
        pass
    raise ConnectionResetError


def _change(paths: Paths, request: dict[str, Any]) -> tuple[Place, ...]:
    for directory in keeper_directories(paths):
        socket = _connect(directory)
        if socket is None:
            continue
        try:
            if any(one["id"] == request["id"] for one in _members(socket)):
                return tuple(load_place(entry) for entry in _ask(socket, request)["ports"])
        except ConnectionResetError:  # it ends, since nobody is left
            pass
        finally:
            socket.close()
    raise NotFoundError("find container", request["id"][:12], reason="it is on no bridge network now")


def _said(wishes: tuple[Wish, ...], uplink: NetworkOptions | None) -> dict[str, Any]:
    entries = [{**wish.__dict__, "network": dump_network(wish.network)} for wish in wishes]
    said: dict[str, Any] = {"wishes": entries}
    if uplink is not None:
        said["uplink"] = dict(uplink.__dict__)
    return said


def load_place(entry: dict[str, Any]) -> Place:
    """The place of a document."""
    values: dict[str, Any] = {}
    for name, value in entry.items():
        values[name] = tuple(value) if isinstance(value, list) else value
    return Place(**values)
