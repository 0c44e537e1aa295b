"""Capability sets, on the calling process and on children that give some up."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest

from jubako.linux import bpf, caps, prctl
from jubako.linux.bpf import Instruction
from jubako.linux.clone import CLONE_NEWUSER, unshare
from jubako.linux.seccomp import filter_and_exec


def in_user_namespace(body: Callable[[], object]) -> object:
    """What `body` returns in a child that has every capability in a user namespace of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            unshare(CLONE_NEWUSER)
            os.write(writing, json.dumps(body()).encode())
        except BaseException as failure:
            os.write(writing, json.dumps(repr(failure)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        text = file.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def status(field: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith(f"{field}:"))


def test_names_and_numbers_are_the_kernels() -> None:
    assert len(caps.NAMES) == 41
    assert caps.NUMBERS["CAP_CHOWN"] == 0
    assert caps.NUMBERS["CAP_SETPCAP"] == 8
    assert caps.NUMBERS["CAP_SYS_ADMIN"] == 21
    assert caps.NUMBERS["CAP_SETFCAP"] == 31
    assert caps.NUMBERS["CAP_MAC_OVERRIDE"] == 32
    assert caps.NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40


def test_a_mask_and_its_names_are_the_same() -> None:
    assert caps.mask(["CAP_CHOWN", "CAP_SYS_ADMIN"]) == 1 | 1 << 21
    assert caps.names(1 | 1 << 21) == ("CAP_CHOWN", "CAP_SYS_ADMIN")
    assert caps.names(caps.mask(caps.NAMES)) == caps.NAMES
    assert caps.names(1 << 50) == ("CAP_50",)
    with pytest.raises(KeyError):
        caps.mask(["CAP_NONE"])


def test_the_highest_capability_is_what_proc_says() -> None:
    with open("/proc/sys/kernel/cap_last_cap") as file:
        assert caps.last_cap() == int(file.read())


def test_the_callers_sets_are_what_proc_says() -> None:
    found = caps.capget()
    assert found == caps.capget(os.getpid())
    assert found.effective == status("CapEff")
    assert found.permitted == status("CapPrm")
    assert found.inheritable == status("CapInh")
    assert caps.bounding() == status("CapBnd")
    assert caps.ambient() == status("CapAmb")


def test_capset_limits_all_three_sets_beyond_the_first_32_too() -> None:
    wanted = caps.mask(["CAP_CHOWN", "CAP_SYSLOG", "CAP_BPF"])
    chown = caps.mask(["CAP_CHOWN"])

    def body() -> list[int]:
        caps.capset(chown, wanted, wanted)
        return [status("CapEff"), status("CapPrm"), status("CapInh")]

    assert in_user_namespace(body) == [chown, wanted, wanted]


def test_what_was_given_up_cannot_be_taken_back() -> None:
    def body() -> str:
        caps.capset(0, 0, 0)
        try:
            caps.capset(1, 1, 0)
        except OSError as failure:
            return f"{failure.strerror}"
        return "taken"

    assert in_user_namespace(body) == "Operation not permitted"


def test_the_bounding_set_is_limited_to_what_is_kept() -> None:
    keep = caps.mask(["CAP_CHOWN", "CAP_BPF"])

    def body() -> list[int]:
        before = caps.bounding()
        caps.limit_bounding(keep)
        return [before.bit_length(), caps.bounding(), status("CapBnd")]

    assert in_user_namespace(body) == [caps.last_cap() + 1, keep, keep]


def test_the_ambient_set_is_exactly_what_is_asked_for() -> None:
    first, second = caps.mask(["CAP_CHOWN", "CAP_BPF"]), caps.mask(["CAP_KILL"])

    def body() -> list[int]:
        both = first | second
        caps.capset(both, both, both)
        caps.set_ambient(first)
        before = status("CapAmb")
        caps.set_ambient(second)
        return [before, status("CapAmb"), caps.ambient()]

    assert in_user_namespace(body) == [first, second, second]


def test_no_new_privs_is_seen_once_it_is_set() -> None:
    def body() -> list[bool]:
        before = prctl.has_no_new_privs()
        prctl.set_no_new_privs()
        return [before, prctl.has_no_new_privs()]

    assert in_user_namespace(body) == [prctl.has_no_new_privs(), True]


@pytest.mark.parametrize("uid", [0, 1000])
def test_execve_takes_what_is_not_in_the_bounding_set_so_the_filter_may_come_last(uid: int) -> None:
    """Without no_new_privs a filter wants CAP_SYS_ADMIN. Held until execve, it is gone behind it, for root and
    others."""
    keep, admin = caps.mask(["CAP_CHOWN"]), caps.mask(["CAP_SYS_ADMIN"])
    allow = bpf.assemble([Instruction(bpf.RETURN, 0x7FFF0000)])
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writing, 1)
            give_ids_of_ones_own(uid)
            prctl.prctl(prctl.PR_SET_KEEPCAPS, 1)
            caps.limit_bounding(keep)
            os.setresuid(uid, uid, uid)
            inheritable = keep if uid else 0
            caps.capset(keep | admin, keep | admin, inheritable)
            caps.set_ambient(inheritable)
            filter_and_exec(allow, "/bin/cat", ["cat", "/proc/self/status"], [])
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading) as file:
        fields = dict(line.split(":", 1) for line in file.read().splitlines())
    os.waitpid(pid, 0)
    assert fields["Seccomp"].strip() == "2"
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == int(fields["CapBnd"], 16) == keep


def give_ids_of_ones_own(uid: int) -> None:
    """A new user namespace in which the caller is `uid`, with all capabilities."""
    outside = os.geteuid()
    unshare(CLONE_NEWUSER)
    with open("/proc/self/uid_map", "w") as file:
        file.write(f"{uid} {outside} 1")
