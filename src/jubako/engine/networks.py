"""Bridge networks: one JSON file each in `data/networks`, and which containers are on them.

What a network is stands in `net/bridge`; here is where it is kept, and what commands do with it. A file is written
whole, under a lock that is held while names and subnets are looked at.
"""

from __future__ import annotations

import fcntl
import os

from jubako.engine import store
from jubako.errors import JubakoError, NotFoundError, UsageError
from jubako.net.bridge import client
from jubako.net.bridge.asked import Asked, dump_places, load_places
from jubako.net.bridge.network import (
    DEFAULT_NETWORK,
    OTHER_NAMES,
    Network,
    dump_network,
    host_routes,
    load_network,
    make_network,
)
from jubako.paths import Paths, make_directory
from jubako.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.net.link import NetworkOptions
    from jubako.runtime.base import Base

PLACES = "networks.json"
"""In a running container's run directory: what it has been given."""
KEY = "networks"
"""In a container's document: what was asked for."""
_ENDING = ".json"
_APART = (
    "containers from before the base user namespace was made anew are on bridges of their own: "
    "they and this one see each other when they have been started again"
)


def create_network(paths: Paths, name: str = "", *, ignore: bool = False, **wanted: Any) -> Network:
    """Make a network (see `make_network` for what may be wanted); its name is `jubakoN` if none is given. With `ignore`
    one that there is already is no error."""
    with _Lock(paths):
        known = {network.name: network for network in list_networks(paths)}
        if not name:
            name = next(f"{DEFAULT_NETWORK}{n}" for n in range(1, 10000) if f"{DEFAULT_NETWORK}{n}" not in known)
        if name in known:
            if ignore:
                return known[name]
            raise UsageError("make the network", name, reason="there is one of this name")
        return _create(paths, name, list(known.values()), wanted)


def find_network(paths: Paths, name: str) -> Network:
    """The network of this name, id or unambiguous beginning of an id. The default one is made if it is missing."""
    if name == DEFAULT_NETWORK or name in OTHER_NAMES:
        return _default(paths)
    networks = list_networks(paths)
    found = [network for network in networks if network.name == name]
    found = found or [network for network in networks if len(name) > 2 and network.id.startswith(name)]
    if len(found) > 1:
        raise UsageError("find network", name, reason=f"{len(found)} ids begin so")
    if not found:
        raise NotFoundError(
            "find network", name, reason="no such network", hint="jubako network ls lists them, create makes one"
        )
    return found[0]


def list_networks(paths: Paths) -> list[Network]:
    """All networks by name; the default one if it has been used. Damaged files are left out (`damaged_networks`)."""
    found = []
    for name in _names(paths):
        try:
            found.append(_read(paths, name))
        except JubakoError:
            continue
    return found


def damaged_networks(paths: Paths) -> list[str]:
    """The names of networks whose files cannot be read; they can be removed."""
    damaged = []
    for name in _names(paths):
        try:
            _read(paths, name)
        except NotFoundError:
            continue
        except JubakoError:
            damaged.append(name)
    return damaged


def inspect_network(paths: Paths, name: str) -> dict[str, Any]:
    """Everything known of the network, as podman shows it, with the containers that are on it now."""
    network = find_network(paths, name)
    containers = {}
    for neighbour in client.neighbours(paths):
        interfaces = {
            place.device: {
                "subnets": [{"ipnet": address, "gateway": _gateway(network, address)} for address in place.addresses],
                "mac_address": place.hardware,
                "aliases": list(place.aliases),
            }
            for place in neighbour.places
            if place.network == network.name
        }
        if interfaces:
            containers[neighbour.id] = {"name": neighbour.name, "interfaces": interfaces}
    return {**dump_network(network), "containers": containers}


def remove_network(paths: Paths, name: str, *, force: bool = False) -> str:
    """Remove the network; its name. One that a container is to be on is refused, or with `force` those containers are
    removed first."""
    from jubako.engine.deleting import remove_container

    if name in damaged_networks(paths):
        os.unlink(_path(paths, name))
        return name
    if _resolved(name) == DEFAULT_NETWORK:
        raise UsageError("remove network", name, reason="it is the default network")
    network = find_network(paths, name)
    while True:
        with _Lock(paths):
            users = containers_of(paths, network.name)
            if not users:
                try:
                    os.unlink(_path(paths, network.name))
                except FileNotFoundError:
                    raise NotFoundError("remove network", name, reason="it has just been removed") from None
                return network.name
        if not force:
            raise JubakoError(
                "remove network",
                network.name,
                reason=f"containers are on it: {', '.join(container.name for container in users[:5])}",
                hint="remove them, disconnect them, or add --force, which removes them",
            )
        for container in users:
            remove_container(paths, container, force=True)


def prune_networks(paths: Paths, labels: tuple[str, ...] = ()) -> list[str]:
    """Remove every network that no container is to be on, but for the default one; their names. With `labels` only
    those that have all of them (KEY or KEY=VALUE)."""
    removed = []
    for network in list_networks(paths):
        known = dict(network.labels)
        wanted = [label.partition("=") for label in labels]
        if network.name == DEFAULT_NETWORK or not all(
            key in known and (not equals or known[key] == value) for key, equals, value in wanted
        ):
            continue
        try:
            removed.append(remove_network(paths, network.name))
        except JubakoError:  # a container is on it, or it was removed just now
            continue
    return removed


def containers_of(paths: Paths, network: str) -> list[store.Container]:
    """The containers that are to be on the network, running or not."""
    return [
        container
        for container in store.list_containers(paths)
        if any(_resolved(place.network) == network for place in asked_of(container))
    ]


def asked_of(container: store.Container) -> tuple[Asked, ...]:
    """The places on bridge networks that a container is to have."""
    return load_places(container.document.get(KEY) or [])


# --- for who starts a container ---------------------------------------------------------------------------------------


def reserve_places(
    paths: Paths,
    base: Base | None,
    identifier: str,
    name: str,
    asked: tuple[Asked, ...],
    uplink: NetworkOptions | None = None,
) -> client.Reservation:
    """Places for a container that is about to start, and the connection that keeps them (see `client.Reservation`).

    If the keeper before was killed, the containers that it had connected are connected again first, so that they get
    the addresses that they had; `warnings` of the reservation says which of them could not be.
    """
    warnings = []
    if _have_places(paths, identifier) and not client.is_running(paths, base):
        warnings = _reconnect_all(paths, base)
    if client.others(paths, base):
        warnings.append(_APART)
    wishes = tuple(_wish(paths, place) for place in asked)
    made = client.reserve(paths, base, identifier, name, wishes, uplink)
    made.warnings = tuple(warnings)
    return made


def write_places(run_directory: str, places: tuple[client.Place, ...]) -> None:
    """Write down what a running container has, so that it gets the same again from another keeper."""
    entries = [{**place.__dict__} for place in places]
    store.write_document(f"{run_directory}/{PLACES}", {"places": entries})


def read_places(run_directory: str) -> tuple[client.Place, ...]:
    """What `write_places` wrote; nothing if there is no such file."""
    document = store.read_document(f"{run_directory}/{PLACES}") or {}
    return tuple(client.load_place(entry) for entry in document.get("places", ()))


# --- running containers -----------------------------------------------------------------------------------------------


def connect_container(paths: Paths, container: store.Container, asked: Asked) -> None:
    """Put a container on one more network: at once if it runs, and whenever it starts."""
    network = find_network(paths, asked.network)
    asked = replace(asked, network=network.name)
    _refuse_other_kinds("connect", container)
    if any(_resolved(place.network) == network.name for place in asked_of(container)):
        raise UsageError("connect container", container.name, reason=f"it is on the network {network.name} already")
    with _Lock(paths):  # so that the network is not removed meanwhile
        wish = _wish(paths, asked)
        if container.running:
            places = client.connect(paths, container.id, wish)
            write_places(store.run_directory(paths, container.id), places)
        _change_document(container, lambda places: (*places, asked))


def disconnect_container(paths: Paths, container: store.Container, name: str, *, force: bool = False) -> None:
    """Take a container from a network. With `force` also from one that is no more."""
    try:
        network = find_network(paths, name).name
    except NotFoundError:
        if not force:
            raise
        network = name
    _refuse_other_kinds("disconnect", container)
    if not any(_resolved(place.network) == network for place in asked_of(container)):
        raise UsageError("disconnect container", container.name, reason=f"it is not on the network {network}")
    if container.running:
        try:
            places = client.disconnect(paths, container.id, network)
            write_places(store.run_directory(paths, container.id), places)
        except NotFoundError:  # the keeper was killed
            pass
    _change_document(container, lambda places: tuple(place for place in places if _resolved(place.network) != network))


def reload_networks(paths: Paths, base: Base | None, names: tuple[str, ...]) -> None:
    """Connect running containers that have lost their bridge networks, with the addresses that they had."""
    client.tidy(paths)
    connected = {neighbour.id for neighbour in client.neighbours(paths)}
    for container in [store.find_container(paths, name) for name in names]:
        if not container.running or not asked_of(container):
            raise UsageError("reload", container.name, reason="it does not run, or is on no bridge network")
        if container.id not in connected:
            _reconnect(paths, base, container)


def _reconnect_all(paths: Paths, base: Base | None) -> list[str]:
    """The same for all of them; what went wrong with whom."""
    from jubako.engine.ports import reload_network

    warnings = []
    for container in store.list_containers(paths):
        if container.running and asked_of(container):
            try:
                reload_networks(paths, base, (container.id,))
                reload_network(paths, container)
            except JubakoError as failure:
                warnings.append(f"container {container.name} has lost its network: {failure}")
    return warnings


def running_base(paths: Paths) -> Base | None:
    """The base of this user for the keeper's sake: None for the host's root, which has none, and if it is not there."""
    from jubako.engine.launch import open_basis
    from jubako.runtime.base import find_running

    if os.geteuid() == 0 and open_basis(paths).fd < 0:
        return None
    return find_running(paths)


def _reconnect(paths: Paths, base: Base | None, container: store.Container) -> None:
    """Do again what the supervisor did when the container started. Its end is known by its process from now on."""
    from jubako.engine.launch import container_namespaces
    from jubako.linux.pidfd import open_process

    before = read_places(store.run_directory(paths, container.id))
    wishes = tuple(
        client.Wish(find_network(paths, place.network), _plain(place), place.hardware, place.aliases, place.device)
        for place in before
    ) or tuple(_wish(paths, place) for place in asked_of(container))
    namespaces = container_namespaces(paths, container)
    own = _base_of(namespaces, base)
    life = open_process(container.state.monitor, container.state.monitor_start)
    try:
        if life is None or "network" not in namespaces:
            return
        made = client.reserve(paths, own, container.id, container.name, wishes)
        try:
            made.attach(namespaces["network"], life)
            write_places(store.run_directory(paths, container.id), made.places)
        finally:
            made.close()
    finally:
        if own is not None and own is not base:
            os.close(own.fd)
        for fd in (*namespaces.values(), *((life,) if life is not None else ())):
            os.close(fd)


def _base_of(namespaces: dict[str, int], base: Base | None) -> Base | None:
    """The base that a running container is nested in, which is not the present one if that was made anew since."""
    from jubako.linux.clone import parent_namespace

    if base is None or "user" not in namespaces:
        return base
    if os.path.samestat(os.fstat(namespaces["user"]), os.fstat(base.fd)):
        return base
    parent = parent_namespace(namespaces["user"])
    return replace(base, fd=parent, pid=0)


# --- files ------------------------------------------------------------------------------------------------------------


class _Lock:
    """Held while a network is made or removed."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.fd = -1

    def __enter__(self) -> _Lock:
        make_directory(self.paths.data)
        self.fd = os.open(self.paths.data + "/networks.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_failure: object) -> None:
        os.close(self.fd)


def _create(paths: Paths, name: str, known: list[Network], wanted: dict[str, Any]) -> Network:
    from datetime import UTC, datetime
    from ipaddress import ip_network

    taken = [ip_network(subnet.cidr) for network in known for subnet in network.subnets]
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    network = make_network(name, (*taken, *host_routes()), created=moment, **wanted)
    make_directory(paths.data + "/networks")
    store.write_document(_path(paths, name), dump_network(network))
    return network


def _default(paths: Paths) -> Network:
    try:
        return _read(paths, DEFAULT_NETWORK)
    except NotFoundError:
        pass
    with _Lock(paths):
        try:
            return _read(paths, DEFAULT_NETWORK)
        except NotFoundError:
            return _create(paths, DEFAULT_NETWORK, list_networks(paths), {})


def _read(paths: Paths, name: str) -> Network:
    path = _path(paths, name)
    try:
        document = store.read_document(path)
        if document is None:
            if os.path.exists(path):
                raise ValueError("it is no JSON object")
            raise NotFoundError("find network", name, reason="no such network")
        network = load_network(document)
        if network.name != name:
            raise ValueError(f"it is of the network {network.name}")
    except NotFoundError:
        raise
    except (JubakoError, ValueError, KeyError, TypeError, AttributeError) as failure:
        cause = failure.reason if isinstance(failure, JubakoError) else f"{type(failure).__name__}: {failure}"
        raise JubakoError(
            "read", path, reason=f"it is damaged: {cause}", hint=f"jubako network rm {name} removes it"
        ) from failure
    return network


def _names(paths: Paths) -> list[str]:
    try:
        entries = os.listdir(paths.data + "/networks")
    except FileNotFoundError:
        return []
    return sorted(entry.removesuffix(_ENDING) for entry in entries if entry.endswith(_ENDING))


def _path(paths: Paths, name: str) -> str:
    return f"{paths.data}/networks/{name}{_ENDING}"


def _resolved(name: str) -> str:
    return DEFAULT_NETWORK if name in OTHER_NAMES else name


def _wish(paths: Paths, asked: Asked) -> client.Wish:
    network = find_network(paths, asked.network)
    return client.Wish(network, asked.addresses, asked.hardware, asked.aliases, asked.device)


def _have_places(paths: Paths, identifier: str) -> bool:
    """Whether another container has written down places; cheap, since hardly ever one has when a keeper is made."""
    own = store.run_directory(paths, identifier)
    try:
        others = [entry.path for entry in os.scandir(paths.run + "/containers") if entry.path != own]
    except FileNotFoundError:
        return False
    return any(os.path.exists(f"{other}/{PLACES}") for other in others)


def _plain(place: client.Place) -> tuple[str, ...]:
    return tuple(address.partition("/")[0] for address in place.addresses)


def _gateway(network: Network, address: str) -> str:
    return next((one.gateway for one in network.subnets if (":" in one.cidr) is (":" in address)), "")


def _refuse_other_kinds(operation: str, container: store.Container) -> None:
    if container.document.get(KEY) is None:
        raise UsageError(
            f"{operation} container",
            container.name,
            reason="it was not made with a bridge network",
            hint="jubako run --network NAME",
        )


def _change_document(container: store.Container, change: Any) -> None:
    with store.Lock(container.directory):
        document = store.read_document(container.directory + "/container.json")
        if document is None:
            raise NotFoundError("change container", container.name, reason="it has just been removed")
        places = change(load_places(document.get(KEY) or []))
        store.write_document(container.directory + "/container.json", {**document, KEY: dump_places(places)})
