"""Bridge networks on disk: made, found, refused, removed; and what a container's document says of them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from jubako.engine import networks, store
from jubako.errors import JubakoError, NotFoundError, UsageError
from jubako.net.bridge import network as network_module
from jubako.net.bridge.asked import Asked, dump_places
from jubako.net.bridge.client import Place
from jubako.paths import Paths


@pytest.fixture(autouse=True)
def _no_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host that is connected to nothing."""
    monkeypatch.setattr(networks, "host_routes", list)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(f"{tmp_path}/data", f"{tmp_path}/run", f"{tmp_path}/cache")


def make_container(paths: Paths, name: str, *asked: Asked, kind: bool = True) -> store.Container:
    identifier = store.new_id()
    _, lock = store.new_container(paths, identifier, name)
    directory = store.container_directory(paths, identifier)
    document: dict[str, Any] = {"name": name, networks.KEY: dump_places(asked) if kind else None}
    store.write_document(directory + "/container.json", document)
    store.write_state(directory, store.State(store.CREATED))
    lock.release()
    return store.find_container(paths, name)


def again(paths: Paths, container: store.Container) -> tuple[Asked, ...]:
    return networks.asked_of(store.find_container(paths, container.name))


def test_networks_are_found_by_name_id_and_beginning_of_id(paths: Paths) -> None:
    made = networks.create_network(paths, "back")
    assert networks.find_network(paths, "back") == made
    assert networks.find_network(paths, made.id) == made
    assert networks.find_network(paths, made.id[:12]) == made
    for name in ("front", made.id[:2], "", "../back", "back.json"):
        with pytest.raises(NotFoundError):
            networks.find_network(paths, name)


def test_no_two_networks_have_a_name_or_an_address_in_common(paths: Paths) -> None:
    first, second = networks.create_network(paths), networks.create_network(paths)
    assert (first.name, second.name) == ("jubako1", "jubako2")
    assert first.subnets[0].cidr != second.subnets[0].cidr
    with pytest.raises(UsageError, match="one of this name"):
        networks.create_network(paths, "jubako1")
    assert networks.create_network(paths, "jubako1", ignore=True) == first
    with pytest.raises(UsageError, match="overlaps"):
        networks.create_network(paths, "other", subnets=(first.subnets[0].cidr,))


def test_networks_that_are_made_at_once_do_not_overlap(paths: Paths) -> None:
    threads = [threading.Thread(target=networks.create_network, args=(paths,)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = networks.list_networks(paths)
    assert len({network.name for network in made}) == len({network.subnets for network in made}) == 12


def test_a_subnet_of_the_hosts_is_left_alone(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    import ipaddress

    monkeypatch.setattr(networks, "host_routes", lambda: [ipaddress.ip_network("10.89.0.0/20")])
    assert networks.create_network(paths).subnets[0].cidr == "10.89.16.0/24"


def test_the_default_network_is_made_when_it_is_asked_for_and_stays(paths: Paths) -> None:
    assert networks.list_networks(paths) == []
    made = networks.find_network(paths, "bridge")
    assert made.name == "jubako"
    assert networks.find_network(paths, "podman") == networks.find_network(paths, "jubako") == made
    assert networks.prune_networks(paths) == []
    for name in ("jubako", "bridge"):
        with pytest.raises(UsageError, match="default"):
            networks.remove_network(paths, name, force=True)


def test_a_network_that_a_container_is_to_be_on_is_removed_by_force_only(paths: Paths) -> None:
    networks.create_network(paths, "back")
    networks.create_network(paths, "idle", labels=(("k", "v"),))
    make_container(paths, "web", Asked("back"))
    with pytest.raises(JubakoError, match="web"):
        networks.remove_network(paths, "back")
    assert networks.prune_networks(paths, ("k=other",)) == []
    assert networks.prune_networks(paths, ("k",)) == ["idle"]
    assert networks.prune_networks(paths) == []
    assert networks.remove_network(paths, "back", force=True) == "back"
    assert store.list_containers(paths) == []
    assert networks.list_networks(paths) == []


def test_a_damaged_file_is_told_of_and_can_be_removed(paths: Paths) -> None:
    networks.create_network(paths, "back")
    networks.create_network(paths, "good")
    path = Path(paths.data, "networks", "back.json")
    for text in ("{", "[]", "{}", path.read_text().replace("10.89", "10.9999"), path.read_text().replace("back", "x")):
        path.write_text(text)
        assert [network.name for network in networks.list_networks(paths)] == ["good"]
        assert networks.damaged_networks(paths) == ["back"]
        with pytest.raises(JubakoError):
            networks.remove_network(paths, "other")
    assert networks.remove_network(paths, "back") == "back"
    assert networks.damaged_networks(paths) == []


def test_a_stopped_container_joins_and_leaves_networks_for_its_next_start(paths: Paths) -> None:
    networks.create_network(paths, "back")
    networks.create_network(paths, "front")
    web = make_container(paths, "web", Asked("back"))
    networks.connect_container(paths, web, Asked("front", aliases=("www",)))
    assert again(paths, web) == (Asked("back"), Asked("front", aliases=("www",)))
    with pytest.raises(UsageError, match="already"):
        networks.connect_container(paths, store.find_container(paths, "web"), Asked("front"))
    networks.disconnect_container(paths, store.find_container(paths, "web"), "back")
    assert again(paths, web) == (Asked("front", aliases=("www",)),)
    with pytest.raises(UsageError, match="not on the network"):
        networks.disconnect_container(paths, store.find_container(paths, "web"), "back")
    with pytest.raises(NotFoundError):
        networks.connect_container(paths, web, Asked("none-such"))


def test_the_default_network_is_the_same_by_any_name(paths: Paths) -> None:
    web = make_container(paths, "web", Asked("bridge"))
    assert [one.name for one in networks.containers_of(paths, "jubako")] == ["web"]
    with pytest.raises(UsageError, match="already"):
        networks.connect_container(paths, web, Asked("podman"))
    networks.disconnect_container(paths, web, "default")
    assert again(paths, web) == ()


def test_a_container_with_another_kind_of_network_is_not_connected(paths: Paths) -> None:
    networks.create_network(paths, "back")
    web = make_container(paths, "web", kind=False)
    with pytest.raises(UsageError, match="not made with a bridge network"):
        networks.connect_container(paths, web, Asked("back"))


def test_what_a_container_was_given_is_written_down(tmp_path: Path) -> None:
    place = Place("back", "eth0", ("10.89.0.2/24",), ("10.89.0.1",), "02:00:00:00:00:01", ("db",), 1500)
    networks.write_places(str(tmp_path), (place,))
    assert networks.read_places(str(tmp_path)) == (place,)
    assert networks.read_places(f"{tmp_path}/none") == ()


def test_no_name_of_a_network_is_a_path() -> None:
    for name in ("..", "a/b", "/etc", "a\0b"):
        with pytest.raises(UsageError):
            network_module.check_network_name(name)
