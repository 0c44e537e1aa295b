"""What a start is made of besides the plan: generated files, groups, ranges, the request as it is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jubako import jsontext
from jubako.engine import allocation, cgroups, files, store
from jubako.engine.allocation import AllocationLock, allocate_ids, dump_ids, load_ids
from jubako.engine.document import dump_extras, load_extras
from jubako.engine.extras import ContainerExtras, HostsFiles, Join, Restart, RootSource
from jubako.engine.files import plan_files, write_files
from jubako.engine.prepare import layer_directories, place_layers
from jubako.engine.streams import StreamRequest, Streams, check_streams
from jubako.errors import JubakoError, UsageError
from jubako.ids.base import BaseIds
from jubako.ids.idmap import IdMap
from jubako.ids.mapping import ContainerIds
from jubako.ids.modes import AUTO, Userns
from jubako.linux import cgroup
from jubako.paths import Paths
from jubako.plan.step import Slots
from jubako.record import replace
from jubako.spec.defaults import default
from jubako.spec.types import Linux, Mount, Namespace, Spec
from unit.linux.forked import in_child

OWN = replace(default(), hostname="box")
SHARED = Spec(hostname="", linux=Linux(namespaces=(Namespace("mount"),)))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    for name in ("data", "data/containers", "data/names"):
        (tmp_path / name).mkdir(mode=0o700)
    return Paths(f"{tmp_path}/data", f"{tmp_path}/run", f"{tmp_path}/cache")


def texts(spec: Spec, hosts: HostsFiles = HostsFiles()) -> dict[str, str]:
    return {mount.destination: text for mount, text in plan_files("/run/x", spec, hosts)}


# --- /etc/hosts and the like


def test_a_network_of_its_own_has_its_own_names_and_no_name_server() -> None:
    found = texts(OWN)
    assert found["/etc/hostname"] == "box\n"
    assert "127.0.0.1\tlocalhost\n" in found["/etc/hosts"]
    assert "127.0.1.1\tbox\n" in found["/etc/hosts"]
    assert found["/etc/resolv.conf"] == ""


def test_the_hosts_network_has_the_hosts_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_read", lambda path: f"of the host: {path}\n")
    found = texts(SHARED)
    assert found["/etc/hosts"].startswith("of the host: /etc/hosts\n")
    assert found["/etc/resolv.conf"] == "of the host: /etc/resolv.conf\n"
    assert "/etc/hostname" not in found


def test_what_was_asked_for_is_added() -> None:
    hosts = HostsFiles((("10.0.0.1", ("db", "store")),), dns=("9.9.9.9",), search=("a", "b"), options=("ndots:1",))
    found = texts(OWN, hosts)
    assert found["/etc/hosts"].endswith("10.0.0.1\tdb store\n")
    assert found["/etc/resolv.conf"] == "nameserver 9.9.9.9\nsearch a b\noptions ndots:1\n"


def test_files_of_the_image_that_are_to_stay_stay() -> None:
    assert set(texts(OWN, HostsFiles(keep_hosts=True, keep_resolv_conf=True))) == {"/etc/hostname"}


@pytest.mark.parametrize("target", ["/etc", "/etc/hosts"])
def test_a_mount_of_the_users_own_is_not_covered(target: str) -> None:
    found = texts(replace(OWN, mounts=(Mount(target, "bind", "/mine"),)))
    assert "/etc/hosts" not in found
    assert ("/etc/hostname" in found) == (target != "/etc")


def test_the_files_are_written_and_left_out_where_the_root_has_no_place_for_them(tmp_path: Path) -> None:
    mounts = write_files(str(tmp_path), OWN, HostsFiles())
    assert sorted(os.listdir(tmp_path)) == ["hostname", "hosts", "resolv.conf"]
    assert {mount.source for mount in mounts} == {f"{tmp_path}/{name}" for name in os.listdir(tmp_path)}
    assert all({"bind", "nofail", "nosuid", "nodev", "noexec"} <= set(mount.options) for mount in mounts)
    write_files(str(tmp_path), replace(OWN, hostname="x"), HostsFiles())
    assert (tmp_path / "hostname").read_text() == "x\n"


# --- groups


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cgroup2 mount on paper, at the usual place; its files are below the test's directory."""
    monkeypatch.setattr(cgroup, "mount_point", lambda: ("/sys/fs/cgroup", "/"))
    monkeypatch.setattr(cgroup, "own_group", lambda: "/user.slice/me")
    monkeypatch.setattr(os, "access", lambda path, mode: path.startswith("/sys/fs/cgroup/user.slice/me"))
    return tmp_path


def test_a_group_is_made_below_the_callers_own(hierarchy: Path) -> None:
    assert cgroups.find_parent()[0] == "/sys/fs/cgroup/user.slice/me"
    assert cgroups.plan_group("abcdef0123456789" * 4) == "/sys/fs/cgroup/user.slice/me/jubako-abcdef0123456789"
    assert cgroups.plan_group("a" * 64, "/machine/") == "/sys/fs/cgroup/machine/jubako-" + "a" * 16


@pytest.mark.parametrize(
    ("mounted", "own", "said"),
    [
        (None, "/x", "not mounted"),
        (("/sys/fs/cgroup", "/"), None, "not mounted"),
        (("/sys/fs/cgroup/unified", "/"), "/x", "side hierarchy"),
        (("/sys/fs/cgroup", "/docker/a"), "/docker/abc", "lies outside"),
        (("/sys/fs/cgroup", "/"), "/x", "not delegated"),
    ],
)
def test_where_there_can_be_no_group_the_reason_is_told(
    hierarchy: Path, monkeypatch: pytest.MonkeyPatch, mounted: Any, own: Any, said: str
) -> None:
    monkeypatch.setattr(cgroup, "mount_point", lambda: mounted)
    monkeypatch.setattr(cgroup, "own_group", lambda: own)
    directory, reason = cgroups.find_parent()
    assert directory == ""
    assert said in reason
    assert cgroups.plan_group("a" * 64) == ""
    with pytest.raises(JubakoError, match=said):
        cgroups.plan_group("a" * 64, "/machine")


def test_a_mount_that_shows_a_part_of_the_hierarchy_is_counted_from_there(
    hierarchy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "mount_point", lambda: ("/sys/fs/cgroup", "/docker/abc"))
    monkeypatch.setattr(cgroup, "own_group", lambda: "/docker/abc/user.slice/me")
    assert cgroups.find_parent()[0] == "/sys/fs/cgroup/user.slice/me"


def test_a_group_that_cannot_be_made_is_refused_only_where_it_is_needed() -> None:
    assert cgroups.make_group("/proc/no/group") == ""
    with pytest.raises(JubakoError, match="make cgroup /proc/no/group"):
        cgroups.make_group("/proc/no/group", required=True)


def test_a_group_is_killed_and_removed_and_one_that_is_gone_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[str] = []
    monkeypatch.setattr(cgroup, "kill", killed.append)
    group = cgroups.make_group(f"{tmp_path}/a/b")
    cgroups.remove_group(group)
    assert killed == [group]
    assert not os.path.exists(group)
    cgroups.remove_group(group)
    cgroups.remove_group("")
    assert killed == [group]


def test_frozen_is_what_the_kernel_says(tmp_path: Path) -> None:
    (tmp_path / "cgroup.freeze").write_text("1\n")
    assert cgroup.is_frozen(str(tmp_path))
    (tmp_path / "cgroup.freeze").write_text("0\n")
    assert not cgroup.is_frozen(str(tmp_path))
    assert not cgroup.is_frozen(f"{tmp_path}/none")
    assert not cgroup.is_frozen("")


# --- ranges


MAP = IdMap.parse("0 1000 1\n1 100000 65536\n")
BASE = BaseIds(MAP, MAP, "newuidmap", caller_uid=1000, caller_gid=1000)
AUTOMATIC = ContainerExtras(RootSource("image", image="x"), userns=Userns(AUTO))


def test_ranges_survive_the_document() -> None:
    ids = ContainerIds(IdMap.parse("0 5 9\n"), IdMap.parse("0 6 9\n"))
    assert load_ids({"ids": dump_ids(ids)}) == ids
    assert load_ids({}) is None
    assert load_ids({"ids": None}) is None


def test_two_containers_never_share_a_range(paths: Paths) -> None:
    seen: set[int] = set()
    for number in range(3):
        identifier = f"{number}" * 64
        _name, lock = store.new_container(paths, identifier, f"c{number}")
        with AllocationLock(paths):
            ids = allocate_ids(paths, BASE, AUTOMATIC)
            directory = store.container_directory(paths, identifier)
            store.write_document(f"{directory}/container.json", {"name": f"c{number}", "ids": dump_ids(ids)})
        lock.release()
        outside = {entry.outside + i for entry in ids.uids.entries for i in range(entry.size)}
        assert not outside & seen
        seen |= outside


def test_a_range_is_as_large_as_the_users_of_the_image_need(paths: Paths, tmp_path: Path) -> None:
    below, top = tmp_path / "below", tmp_path / "top"
    for layer, uid in ((below, 40_000), (top, 3000)):
        (layer / "etc").mkdir(parents=True)
        (layer / "etc/passwd").write_text(f"web:x:{uid}:1::/:/bin/sh\n")
    small = allocate_ids(paths, BASE, AUTOMATIC)
    large = allocate_ids(paths, BASE, AUTOMATIC, (str(below), str(top)))
    sizes = [sum(entry.size for entry in ids.uids.entries) for ids in (small, large)]
    assert sizes[0] < 3000 < sizes[1] < 40_000


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_a_layer_with_an_odd_passwd_is_passed_over(tmp_path: Path, make: Any) -> None:
    for layer in ("below", "top"):
        (tmp_path / layer / "etc").mkdir(parents=True)
    (tmp_path / "below/etc/passwd").write_text("from below")
    make(tmp_path / "top/etc/passwd")
    before = os.listdir("/proc/self/fd")
    assert allocation._read_top((f"{tmp_path}/below", f"{tmp_path}/top"), "etc/passwd") == "from below"
    assert os.listdir("/proc/self/fd") == before


# --- the request


def test_a_request_survives_the_document() -> None:
    extras = ContainerExtras(
        RootSource("image", image="x"), Userns(AUTO, size=5), ("0:0:1",), ("0:0:2",), (Join("network", "web"),),
        ("audio",), "/p.json", HostsFiles((("1.2.3.4", ("a", "b")),), dns=("9.9.9.9",)), (("l", "v"),), 9, 3, 60,
        Restart("on-failure", 4), init=True, preserve_fds=2, storage="copy", cgroup_parent="/x",
    )  # fmt: skip
    text = jsontext.dumps(dump_extras(extras))
    assert load_extras(jsontext.loads(text)) == extras
    plain = ContainerExtras(RootSource("directory", "/r"))
    assert load_extras(jsontext.loads(jsontext.dumps(dump_extras(plain)))) == plain
    assert hash(load_extras(dump_extras(extras))) == hash(extras)


def test_volumes_under_a_layer_get_one_of_the_containers_own() -> None:
    mounts = (Mount("/a", "overlay", "/src", ("noexec",)), Mount("/b", "bind", "/x"), Mount("/c", "overlay", "/other"))
    placed = place_layers(mounts, "/c")
    assert placed[1] == mounts[1]
    assert placed[0].options == (
        "noexec", "lowerdir=/src", "upperdir=/c/layer/volume0/upper", "workdir=/c/layer/volume0/work",
    )  # fmt: skip
    assert place_layers(placed, "/c") == placed
    assert layer_directories(Spec(mounts=placed), "/c") == (
        "/c/layer/volume0", "/c/layer/volume0/upper", "/c/layer/volume0/work",
        "/c/layer/volume2", "/c/layer/volume2/upper", "/c/layer/volume2/work",
    )  # fmt: skip


# --- streams


@pytest.fixture
def plain_streams() -> Iterator[None]:
    """Standard streams as a shell in a pipeline has them: nothing of a terminal, nothing of pytest's."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


def opened(**request: Any) -> tuple[Streams, Slots]:
    slots = Slots()
    return Streams(StreamRequest(**request), slots), slots


def test_without_interest_in_input_the_program_reads_nothing(plain_streams: None) -> None:
    streams, slots = opened()
    assert streams.names == ("stdin", "stdout", "stderr")
    assert os.readlink(f"/proc/self/fd/{slots['stdin']}") == "/dev/null"
    assert (slots["stdout"], slots["stderr"]) == (1, 2)
    streams.close_theirs()
    streams.close_ours()


def test_in_the_foreground_the_callers_own_streams_are_used_unless_they_are_logged(plain_streams: None) -> None:
    streams, slots = opened(open_input=True, send_input=True)
    assert (slots["stdin"], slots["stdout"], slots["stderr"]) == (0, 1, 2)
    streams, slots = opened(log="/l", log_limit=9)
    assert slots["stdout"] not in (1, 2)
    watch = streams.watched("/d", 5)
    assert (watch.log, watch.log_limit, watch.directory, watch.timeout) == ("/l", 9, "/d", 5)
    os.write(slots["stdout"], b"x")
    assert os.read(watch.stdout, 9) == b"x"
    assert os.path.samestat(os.fstat(watch.out), os.fstat(1))
    streams.close_theirs()


def test_detached_nothing_leads_to_the_caller(plain_streams: None) -> None:
    streams, slots = opened(detach=True, log="/l", open_input=True)
    watch = streams.watched("/d")
    assert watch.detached
    assert (watch.out, watch.err) == (-1, -1)
    os.write(watch.stdin, b"in")
    assert os.read(slots["stdin"], 9) == b"in"
    assert not any(os.get_inheritable(fd) for fd in streams.theirs)
    streams.close_theirs()
    assert streams.theirs == []


def test_a_terminal_needs_no_streams_but_pipes_to_the_supervisor(plain_streams: None) -> None:
    streams, slots = opened(terminal=True, open_input=True, send_input=True, detach_keys="ctrl-a")
    assert streams.names == ()
    assert slots.values == {}
    relay = streams.relayed()
    assert (relay.terminal, relay.detach_keys) == (True, b"\x01")
    watch = streams.watched("/d")
    os.write(watch.out, b"shown")
    assert os.read(relay.output, 9) == b"shown"
    os.write(relay.input, b"typed")
    assert os.read(watch.feed, 9) == b"typed"
    streams.close_theirs()
    streams.close_ours()


@pytest.mark.parametrize(("number", "name"), list(enumerate(("input", "output", "error"))))
def test_a_directory_as_a_standard_stream_is_refused(number: int, name: str) -> None:
    def look() -> str:
        os.dup2(os.open("/", os.O_RDONLY), number)
        try:
            check_streams()
        except UsageError as failure:
            return str(failure)
        return ""

    assert f"use standard {name} (descriptor {number}): it is a directory" in in_child(look)


def test_a_standard_stream_that_is_closed_becomes_nothing_so_that_its_number_is_not_taken() -> None:
    def look() -> list[str]:
        os.close(0)
        os.close(2)
        check_streams()
        return [os.readlink(f"/proc/self/fd/{number}") for number in (0, 2)]

    assert in_child(look) == ["/dev/null", "/dev/null"]


def test_unknown_detach_keys_are_refused_before_anything_is_opened(plain_streams: None) -> None:
    with pytest.raises(UsageError):
        opened(terminal=True, detach_keys="odd")
