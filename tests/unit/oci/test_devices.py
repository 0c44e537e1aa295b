"""OCI's device rules: what they are read as, and what they cannot take away."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import JubakoError, UsageError
from jubako.linux.bpf_devices import BLOCK, CHARACTER, EVERYTHING, MKNOD, READ, WRITE, Rule
from jubako.oci.devices import read_rules, restrict_devices
from jubako.spec.load import load_resources
from unit.linux.forked import in_child
from world.cgroup import GROUPS, cgroup2_mount


def rules(*devices: dict[str, Any]) -> tuple[Rule, ...]:
    return read_rules(load_resources({"devices": list(devices)}).devices)


def test_what_is_left_out_or_minus_one_means_all():
    assert rules(
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "a", "major": -1, "minor": -1},
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": True, "type": "b", "major": 0, "access": "m"},
    ) == (
        Rule(False),
        Rule(True),
        Rule(True, CHARACTER, 10, 229, READ | WRITE),
        Rule(True, BLOCK, 0, None, MKNOD),
    )
    assert Rule(True).access == EVERYTHING


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("type", {"allow": True, "type": "p"}),
        ("type", {"allow": True, "type": "cb"}),
        ("access", {"allow": True, "access": "rx"}),
        ("major", {"allow": True, "major": -2}),
        ("minor", {"allow": True, "minor": -3}),
    ],
)
def test_a_wrong_rule_is_refused_with_its_path(path, rule):
    with pytest.raises(UsageError) as caught:
        rules({"allow": True}, rule)
    assert caught.value.subject == f"linux.resources.devices[1].{path}"


@pytest.fixture
def group() -> Iterator[Path]:
    path = cgroup2_mount() / f"{GROUPS}devices-{os.getpid()}"
    path.mkdir()
    yield path
    path.rmdir()


def answers(group: Path, *paths: str) -> list[int]:
    """The errno of opening each of `paths` for reading, as a process of the group."""

    def child() -> list[int]:
        (group / "cgroup.procs").write_text("0")
        found = []
        for path in paths:
            try:
                os.close(os.open(path, os.O_RDONLY | os.O_NOCTTY))
                found.append(0)
            except OSError as failure:
                found.append(failure.errno or -1)
        return found

    return list(in_child(child))


@pytest.mark.root
def test_no_list_takes_away_the_devices_that_every_container_has(group):
    always = [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "ptmx")]
    restrict_devices(str(group), rules({"allow": False}))
    assert answers(group, *always) == [0] * len(always)


@pytest.mark.root
def test_what_is_not_listed_is_refused_and_an_update_allows_it(group, tmp_path):
    node = tmp_path / "fuse"
    os.mknod(node, 0o600 | 0o020000, os.makedev(10, 229))
    for device, wanted in ((), errno.EPERM), (({"allow": True, "type": "c", "major": 10, "minor": 229},), 0):
        restrict_devices(str(group), rules(*device))
        assert answers(group, str(node)) == [wanted]


@pytest.mark.root
def test_a_group_that_is_gone_is_named(tmp_path):
    with pytest.raises(JubakoError, match=f"restrict the devices of {tmp_path}"):
        restrict_devices(str(tmp_path), ())
