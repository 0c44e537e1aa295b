"""Device filters: compiled and interpreted here without the kernel, then loaded into it and tried."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.linux import bpf_devices
from jubako.linux.bpf_devices import BLOCK, CHARACTER, EVERYTHING, MKNOD, READ, WRITE, Rule, compile_rules
from unit.linux.forked import in_child
from world.cgroup import GROUPS, cgroup2_mount

numbers = st.one_of(st.none(), st.integers(0, 3))
rules = st.builds(
    Rule, st.booleans(), st.sampled_from([0, BLOCK, CHARACTER]), numbers, numbers, st.integers(0, EVERYTHING)
)


def allowed(listed: list[Rule], kind: int, major: int, minor: int, wanted: int) -> bool:
    """The rule's words, the long way: each access is as the last rule says that matches the device and has it."""
    answer = dict.fromkeys((READ, WRITE, MKNOD), False)
    for rule in listed:
        if rule.kind in (0, kind) and rule.major in (None, major) and rule.minor in (None, minor):
            for access in answer:
                if rule.access & access:
                    answer[access] = rule.allow
    return all(answer[access] for access in answer if wanted & access)


def interpret(program: bytes, kind: int, major: int, minor: int, wanted: int) -> bool:
    """Run an eBPF program as the kernel would; anything else than what filters are made of is a KeyError."""
    registers = {1: 0}
    context = {0: wanted << 16 | kind, 4: major, 8: minor}
    position = 0
    while True:
        opcode, pair, *rest = program[8 * position : 8 * position + 8]
        target, source = pair & 15, pair >> 4
        offset, value = int.from_bytes(rest[:2], "little", signed=True), int.from_bytes(rest[2:], "little", signed=True)
        position += 1
        if opcode == 0x95:
            return bool(registers[0])
        if opcode == 0x61:
            registers[target] = context[offset]
        elif opcode == 0xB7:
            registers[target] = value
        elif opcode == 0xBF:
            registers[target] = registers[source]
        elif opcode == 0x54:
            registers[target] &= value & 0xFFFFFFFF
        elif opcode == 0x74:
            registers[target] >>= value
        elif (opcode, registers[target] == value) in ((0x15, True), (0x55, False)):
            position += offset
        elif opcode not in (0x15, 0x55):
            raise KeyError(opcode)


@given(st.lists(rules, max_size=6))
def test_a_filter_answers_as_its_list_says(listed):
    program = compile_rules(listed)
    for kind, major, minor, wanted in product((BLOCK, CHARACTER), range(4), (0, 3), range(1, 8)):
        assert interpret(program, kind, major, minor, wanted) == allowed(listed, kind, major, minor, wanted)


def test_a_number_that_no_device_has_matches_none():
    program = compile_rules([Rule(True, CHARACTER, 1, 3), Rule(False, CHARACTER, 1 << 32 | 1), Rule(True, 0, 1 << 31)])
    assert interpret(program, CHARACTER, 1, 3, READ)
    assert not interpret(program, CHARACTER, 0, 0, READ)


# --- in the kernel ----------------------------------------------------------------------------------------------------


@pytest.fixture
def group() -> Iterator[Path]:
    path = cgroup2_mount() / f"{GROUPS}bpf-{os.getpid()}"
    path.mkdir()
    yield path
    path.rmdir()


def put_in_force(group: Path, *listed: Rule) -> None:
    directory = os.open(group, os.O_RDONLY)
    program = bpf_devices.load(compile_rules(listed))
    try:
        bpf_devices.attach(directory, program)
    finally:
        os.close(program)
        os.close(directory)


def try_open(group: Path, path: str, flags: int) -> int:
    """The errno of opening `path` as a process of the group; 0 if it could be."""

    def child() -> int:
        (group / "cgroup.procs").write_text("0")
        try:
            os.open(path, flags)
        except OSError as failure:
            return failure.errno or -1
        return 0

    return int(in_child(child))


@pytest.mark.root
def test_what_is_not_allowed_cannot_be_opened_and_what_is_can(group):
    put_in_force(group, Rule(True, CHARACTER, 1, 3, READ))
    assert try_open(group, "/dev/null", os.O_RDONLY) == 0
    assert try_open(group, "/dev/null", os.O_WRONLY) == errno.EPERM
    assert try_open(group, "/dev/null", os.O_RDWR) == errno.EPERM
    assert try_open(group, "/dev/zero", os.O_RDONLY) == errno.EPERM
    assert try_open(group, "/etc/passwd", os.O_RDONLY) == 0


@pytest.mark.root
def test_a_new_filter_takes_the_place_of_the_old_one(group):
    put_in_force(group, Rule(True, CHARACTER, 1, 3))
    put_in_force(group, Rule(True), Rule(False, CHARACTER, 1, 3))
    assert try_open(group, "/dev/null", os.O_RDONLY) == errno.EPERM
    assert try_open(group, "/dev/zero", os.O_RDWR) == 0
    directory = os.open(group, os.O_RDONLY)
    ours = bpf_devices._attached(directory)
    for fd in (directory, *ours):
        os.close(fd)
    assert len(ours) == 1


@pytest.mark.root
def test_a_filter_of_others_stays_and_holds_too(group, monkeypatch):
    monkeypatch.setattr(bpf_devices, "NAME", b"somebody_else")
    put_in_force(group, Rule(True), Rule(False, CHARACTER, 1, 5))
    monkeypatch.undo()
    put_in_force(group, Rule(True), Rule(False, CHARACTER, 1, 3))
    put_in_force(group, Rule(True))
    assert try_open(group, "/dev/null", os.O_RDONLY) == 0
    assert try_open(group, "/dev/zero", os.O_RDONLY) == errno.EPERM


@pytest.mark.root
def test_the_making_of_a_node_is_asked_for_too(group, tmp_path):
    def child() -> int:
        (group / "cgroup.procs").write_text("0")
        os.mknod(tmp_path / "allowed", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        try:
            os.mknod(tmp_path / "refused", 0o600 | stat.S_IFBLK, os.makedev(7, 0))
        except PermissionError:
            return 7
        return 1

    put_in_force(group, Rule(True, CHARACTER, access=MKNOD))
    assert in_child(child) == 7


@pytest.mark.root
def test_a_long_list_is_taken_by_the_verifier(group):
    many = [Rule(n % 3 > 0, CHARACTER, n, n, n % 7 + 1) for n in range(1, 1500)]
    put_in_force(group, *many[:500])
    with pytest.raises(OSError, match="Argument list too long"):
        put_in_force(group, *many)
    put_in_force(group, Rule(False), Rule(True), Rule(True, BLOCK))


@pytest.mark.root
def test_the_limit_of_locked_memory_is_not_touched(group):
    import resource

    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    put_in_force(group, Rule(True))
    assert resource.getrlimit(resource.RLIMIT_MEMLOCK) == before
