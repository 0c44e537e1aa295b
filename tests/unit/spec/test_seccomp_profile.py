"""Profiles of docker, podman and OCI: what holds for which container, and what is wrong with a profile."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import UsageError
from jubako.spec.seccomp_profile import ArgTest, Guard, read_profile, resolve_profile
from jubako.spec.types import Seccomp, SeccompArg, SeccompRule


def profile(*rules: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules), **changes}


def rule(*names: str, **changes: Any) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **changes}


def resolved(document: Any, *capabilities: str, machine: str = "x86_64", kernel: str = "6.1.0-18-amd64") -> Seccomp:
    return resolve_profile(document, capabilities, machine, kernel, "p.json").seccomp


def kept(*rules: dict[str, Any], capabilities: tuple[str, ...] = (), **host: str) -> list[str]:
    found = resolved(profile(*rules), *capabilities, **host)
    return [name for one in found.syscalls for name in one.names]


def test_rules_for_capabilities_hold_only_with_all_of_them() -> None:
    rules = (
        rule("bpf", includes={"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}),
        rule("clone", excludes={"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}),
    )
    assert kept(*rules) == ["clone"]
    assert kept(*rules, capabilities=("CAP_BPF",)) == []
    assert kept(*rules, capabilities=("CAP_BPF", "CAP_SYS_ADMIN")) == ["bpf"]


def test_rules_for_architectures_are_named_as_go_names_them() -> None:
    rules = (rule("arch_prctl", includes={"arches": ["amd64", "x32"]}), rule("clone", excludes={"arches": ["arm64"]}))
    assert kept(*rules) == ["arch_prctl", "clone"]
    assert kept(*rules, machine="aarch64") == []
    assert kept(*rules, machine="s390x") == ["clone"]


@pytest.mark.parametrize(("kernel", "holds"), [("4.7.9", False), ("4.8", True), ("4.10.0-rc1", True), ("5.10", True)])
def test_rules_for_newer_kernels_compare_numbers_not_text(kernel: str, holds: bool) -> None:
    assert (kept(rule("ptrace", includes={"minKernel": "4.8"}), kernel=kernel) == ["ptrace"]) is holds
    assert (kept(rule("ptrace", excludes={"minKernel": "4.8"}), kernel=kernel) == []) is holds


def test_the_architecture_map_gives_this_machine_and_its_kin() -> None:
    arch_map = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": None},
    ]
    assert resolved(profile(archMap=arch_map)).architectures == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
    assert resolved(profile(archMap=arch_map), machine="riscv64").architectures == ("SCMP_ARCH_RISCV64",)
    assert resolved(profile(archMap=arch_map), machine="aarch64").architectures == ("SCMP_ARCH_AARCH64",)


def test_ocis_form_is_a_profile_without_questions() -> None:
    document = {
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 38,
                "args": [{"index": 0, "value": 18446744073709551615, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}],
            }
        ],
    }
    assert resolved(document) == Seccomp(
        "SCMP_ACT_KILL_PROCESS",
        None,
        ("SCMP_ARCH_X86_64",),
        ("SECCOMP_FILTER_FLAG_LOG",),
        syscalls=(
            SeccompRule(
                ("clone",), "SCMP_ACT_ERRNO", 38, (SeccompArg(0, 18446744073709551615, "SCMP_CMP_MASKED_EQ", 1),)
            ),
        ),
    )


def test_an_error_may_be_named_and_a_rule_may_have_one_name() -> None:
    document = profile({"name": "read", "action": "SCMP_ACT_ERRNO", "errno": "ENOSYS"}, defaultErrno="EACCES")
    found = resolved(document)
    assert found.default_errno_ret == errno.EACCES
    assert found.syscalls == (SeccompRule(("read",), "SCMP_ACT_ERRNO", errno.ENOSYS),)


def test_guards_are_read_and_asked_the_same_questions() -> None:
    guards = [
        {"names": ["ioctl"], "errno": "EPERM", "args": [{"index": 1, "op": "is", "values": [21522]}]},
        {"names": ["clone"], "errno": "EPERM", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
    ]
    found = resolve_profile(profile(guards=guards), ("CAP_SYS_ADMIN",), "x86_64", "6.1")
    assert found.guards == (Guard(("ioctl",), errno.EPERM, (ArgTest(1, "is", (21522,)),)),)


ARGUMENT = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}
WRONG = [
    ([], "must be an object, not an array"),
    ({}, "defaultAction: is required"),
    (profile(defaultAction="ALLOW"), "defaultAction: 'ALLOW' is not an action of seccomp"),
    (profile(sycalls=[]), "sycalls: is not a property here"),
    (profile(rule("read", action="SCMP_ACT_MAYBE")), "syscalls[0].action: 'SCMP_ACT_MAYBE' is not an action"),
    (profile(rule("read"), rule("read", arg=[])), "syscalls[1].arg: is not a property here"),
    (profile(rule()), "syscalls[0].name: must name a system call"),
    (profile(rule("read", name="write")), "syscalls[0].name: stands beside names"),
    (profile(rule("read", args=[{**ARGUMENT, "op": "=="}])), "syscalls[0].args[0].op: '==' is not a comparison"),
    (profile(rule("read", args=[{**ARGUMENT, "index": 6}])), "syscalls[0].args[0].index: must lie between 0 and 5"),
    (profile(rule("read", args=[{**ARGUMENT, "value": -1}])), "syscalls[0].args[0].value: must lie between 0 and"),
    (profile(rule("read", args=[{"index": 0, "op": "SCMP_CMP_EQ"}])), "syscalls[0].args[0].value: is required"),
    (profile(rule("read", errnoRet=5000)), "syscalls[0].errno: 5000 is not an error number"),
    (profile(rule("read", errno="EWHAT")), "syscalls[0].errno: 'EWHAT' is not the name of an error"),
    (profile(rule("read", includes={"cap": []})), "syscalls[0].includes.cap: is not a property here"),
    (
        profile(rule("read", includes={"minKernel": "new", "arches": ["s390"]})),
        "syscalls[0].minKernel: 'new' is not a kernel's release",
    ),
    (profile(rule(5)), "syscalls[0].names[0]: must be a string"),  # type: ignore[arg-type]
    (profile(architectures=["A"], archMap=[{"architecture": "B"}]), "archMap: stands beside architectures"),
    (
        profile(guards=[{"names": ["a"], "errno": "EPERM", "args": [{"index": 0, "op": "eq", "values": [1]}]}]),
        "guards[0].args[0].op: must be is, is-not or has-bits",
    ),
]


@pytest.mark.parametrize(("document", "text"), WRONG, ids=[text for _document, text in WRONG])
def test_what_is_wrong_is_named_by_its_place(document: Any, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolved(document)
    assert text in str(caught.value)
    assert str(caught.value).startswith("read seccomp profile p.json: ")


def test_rules_that_do_not_hold_here_are_checked_too() -> None:
    with pytest.raises(UsageError, match="SCMP_ACT_MAYBE"):
        resolved(profile(rule("read", action="SCMP_ACT_MAYBE", includes={"caps": ["CAP_SYS_ADMIN"]})))


def test_a_file_is_read_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(profile(rule("read"))))
    assert read_profile(str(path), (), "x86_64", "6.1").seccomp.syscalls == (SeccompRule(("read",), "SCMP_ACT_ALLOW"),)


@pytest.mark.parametrize("content", [b"", b"{", b"not json", b"\xff\xfe", b'{"defaultAction": 1,'])
def test_a_file_that_is_not_json_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"read seccomp profile .*profile.json: not JSON"):
        read_profile(str(path), (), "x86_64", "6.1")


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No such file or directory \(ENOENT\)"):
        read_profile(f"{tmp_path}/none.json", (), "x86_64", "6.1")
    with pytest.raises(UsageError, match=r"\(EISDIR\)"):
        read_profile(str(tmp_path), (), "x86_64", "6.1")
