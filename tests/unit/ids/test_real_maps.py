"""What the kernel says: the base of whoever runs the tests, written and read, and every mode nested in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jubako.errors import JubakoError
from jubako.ids.base import find_base, write_base_maps
from jubako.ids.base_ids import BaseIds, read_base
from jubako.ids.idmap import IdMap
from jubako.ids.mapping import container_ids
from jubako.ids.modes import parse_userns
from jubako.ids.newidmap import write_id_maps
from jubako.linux import clone, prctl


@contextmanager
def new_user_namespace() -> Iterator[int]:
    """The pid of a process that waits in a user namespace without maps."""
    ready, tell_ready = os.pipe()
    wait, release = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(release)
            prctl.set_dumpable(True)  # as it must be for its maps to be written; lost where the parent changed its uid
            clone.unshare(clone.CLONE_NEWUSER)
            os.write(tell_ready, b"y")
            os.read(wait, 1)
        finally:
            os._exit(0)
    os.close(tell_ready)
    os.close(wait)
    try:
        if not os.read(ready, 1):
            pytest.skip("this host gives this user no user namespaces")
        yield child
    finally:
        os.close(ready)
        os.close(release)
        os.waitpid(child, 0)


@pytest.fixture
def base() -> BaseIds:
    try:
        return find_base()
    except JubakoError as failure:
        pytest.skip(str(failure))


def inside(pid: int, action: Callable[[], None]) -> str:
    """Do `action` as root of the user namespace of `pid`, in a process of its own; what it raised, as text."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            clone.setns(clone.open_namespace(pid, "user"), clone.CLONE_NEWUSER)
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            action()
        except BaseException as failure:
            os.write(write_end, f"{type(failure).__name__}: {failure}".encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def test_the_base_of_this_user_is_written_as_computed_and_read_back(base: BaseIds) -> None:
    with new_user_namespace() as pid:
        write_base_maps(pid, base)
        found = read_base(pid, base.caller_uid, base.caller_gid)
        assert (found.uids, found.gids, found.setgroups_deny) == (base.uids, base.gids, base.setgroups_deny)


@pytest.mark.parametrize(
    ("mode", "uid_specs"),
    [
        ("", ()),
        ("keep-id", ()),
        ("keep-id:uid=7,gid=8", ()),
        ("nomap", ()),
        ("auto", ()),
        ("auto:uidmapping=0:500:1,size=2000", ()),
        ("", ("0:0:1",)),
        ("", ("+5:0:1",)),
    ],
)
def test_the_kernel_takes_the_maps_of_every_mode(base: BaseIds, mode: str, uid_specs: tuple[str, ...]) -> None:
    try:
        ids = container_ids(parse_userns(mode), base, uid_specs)
    except JubakoError as failure:
        pytest.skip(f"not with this user's ids: {failure}")

    def nest() -> None:
        with new_user_namespace() as pid:
            write_id_maps(pid, ids.uids, ids.gids)
            assert IdMap.parse(Path(f"/proc/{pid}/uid_map").read_text()) == ids.uids
            assert IdMap.parse(Path(f"/proc/{pid}/gid_map").read_text()) == ids.gids

    with new_user_namespace() as pid:
        write_base_maps(pid, base)
        assert inside(pid, nest) == ""


def test_a_range_across_two_ranges_of_the_base_is_what_the_kernel_refuses(base: BaseIds) -> None:
    if len(base.uids.entries) < 2:
        pytest.skip("this user's base is one range")
    whole = IdMap.of((0, 0, base.uids.size))

    def nest() -> None:
        with new_user_namespace() as pid:
            write_id_maps(pid, whole, whole)

    with new_user_namespace() as pid:
        write_base_maps(pid, base)
        assert "(EPERM)" in inside(pid, nest)
