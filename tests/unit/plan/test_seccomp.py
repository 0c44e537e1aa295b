"""The default profile call by call, on machines that are not this one too; compiling, caching, and doing without
libseccomp."""

from __future__ import annotations

import errno
import json
import os
import stat
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import JubakoError, UsageError
from jubako.linux import libseccomp
from jubako.plan import filter_tree, seccomp
from jubako.plan.capabilities import DEFAULT, bounding_set
from jubako.plan.seccomp import compile_filter, compiled_filter, custom_filter, default_filter, filter_for
from jubako.plan.ship_filters import MADE_WITH
from jubako.plan.shipped_filters import DEFAULT_PROFILE, GATES, SHIPPED_GATES, SHIPPED_MACHINES, shipped_path
from jubako.spec.seccomp_profile import Filter, gate_capabilities, resolve_profile
from jubako.spec.types import Seccomp, SeccompArg, SeccompRule
from world.bpf import ALLOW, ARCHITECTURES, ERRNO, Machine

EPERM, ENOSYS = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
NO_FAMILY = ERRNO | errno.EAFNOSUPPORT
CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWTIME, CLONE_FS, CLONE_THREAD = 0x10000000, 0x20000, 0x80, 0x200, 0x10000
HIGH = 1 << 32
# Newer than podman's profile of 2022, all but the first than libseccomp 2.5.4 too: futex_waitv, cachestat,
# fchmodat2, map_shadow_stack, futex_wake, futex_wait, futex_requeue, mseal, setxattrat, getxattrat, listxattrat,
# removexattrat.
NEWEST = {449, 451, 452, 453, 454, 455, 456, 462, 463, 464, 465, 466}  # the same on every architecture

needs_library = pytest.mark.skipif(find_library("seccomp") is None, reason="libseccomp is not installed")


def number(name: str, architecture: str) -> int:
    """The call's number there; asked of libseccomp, which knows all tables but for direct calls of 32-bit x86."""
    if (name, architecture) == ("socket", "i386"):
        return 359
    return libseccomp.system_call_number(name, ARCHITECTURES[architecture])


class Container:
    """What a container with certain capabilities may call."""

    def __init__(self, program: bytes, architecture: str = "x86_64") -> None:
        self.machine = Machine(program)
        self.architecture = architecture

    def call(self, name: str, *arguments: int) -> int:
        found = number(name, self.architecture)
        assert found >= 0, f"{name} does not exist on {self.architecture}"
        return self.machine.answer(self.architecture, found, arguments)


@pytest.fixture(params=["x86_64", "i386", "aarch64", "arm"])
def default(request: pytest.FixtureRequest) -> Container:
    """The shipped filter with the default capabilities, seen from each architecture that it covers."""
    machine = {"x86_64": "x86_64", "i386": "x86_64", "aarch64": "aarch64", "arm": "aarch64"}[request.param]
    return Container(default_filter(machine, DEFAULT, "").program, request.param)


@pytest.fixture
def x86(tmp_path: Path) -> Any:
    """Builds a container on x86_64 with `add`ed capabilities."""

    def build(*add: str, drop: tuple[str, ...] = ()) -> Container:
        return Container(default_filter("x86_64", bounding_set(add, drop), str(tmp_path)).program)

    return build


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without libseccomp."""
    monkeypatch.setattr(libseccomp, "_library", None)
    monkeypatch.setattr(libseccomp.ctypes, "CDLL", _refuse)


def _refuse(path: str) -> None:
    raise OSError(f"{path}: cannot open shared object file")


def test_everyday_calls_are_allowed(default: Container) -> None:
    for name in (
        "read",
        "openat",
        "execve",
        "futex",
        "wait4",
        "exit_group",
        "getrandom",
        "ptrace",
        "seccomp",
        "chroot",
    ):
        assert default.call(name) == ALLOW, name


def test_a_new_namespace_is_refused_by_clone_and_unshare(default: Container) -> None:
    assert default.call("clone", CLONE_THREAD | CLONE_FS) == ALLOW
    assert default.call("clone", 17) == ALLOW
    for bit in (1 << 17, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30):
        assert default.call("clone", bit | 17) == EPERM
        assert default.call("clone", bit | HIGH) == EPERM
        assert default.call("unshare", bit) == EPERM
    assert default.call("unshare", CLONE_NEWTIME) == EPERM
    assert default.call("unshare", CLONE_FS) == ALLOW


def test_clone3_looks_like_an_older_kernel_so_that_threads_fall_back(default: Container) -> None:
    assert default.call("clone3") == ENOSYS


def test_keyrings_io_uring_and_what_is_yet_to_come_do_not_exist(default: Container) -> None:
    for name in ("keyctl", "add_key", "request_key", "io_uring_setup", "io_uring_enter", "io_uring_register"):
        assert default.call(name) == ENOSYS, name
    for unheard_of in (700, 5000, 0x3FFFFFFF, 0xFFFFFFFF):
        assert default.machine.answer(default.architecture, unheard_of) == ENOSYS


def test_what_reaches_beyond_the_container_is_refused(default: Container) -> None:
    for name in (
        "bpf", "perf_event_open", "userfaultfd", "mount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen",
        "fsconfig", "fsmount", "fspick", "mount_setattr", "setns", "sethostname", "kexec_load", "init_module",
        "finit_module", "delete_module", "swapon", "swapoff", "reboot", "syslog", "acct", "settimeofday",
        "clock_settime", "open_by_handle_at", "fanotify_init", "quotactl", "kcmp", "pidfd_getfd", "process_madvise",
        "vmsplice", "move_pages", "vhangup",
    ):  # fmt: skip
        assert default.call(name) == EPERM, name


def test_ports_and_old_modes_of_x86_are_refused(x86: Any) -> None:
    for name in ("iopl", "ioperm"):
        assert x86().call(name) == EPERM, name


def test_only_the_usual_socket_families_exist_whatever_the_high_bits_say(default: Container) -> None:
    for family in (1, 2, 10, 16):
        assert default.call("socket", family, 1, 0) == ALLOW
    for family in (3, 17, 29, 31, 38, 40, 44):
        assert default.call("socket", family, 1, 0) == NO_FAMILY
        assert default.call("socket", family | HIGH, 1, 0) == NO_FAMILY


def test_an_audit_socket_is_an_invalid_argument(default: Container) -> None:
    assert default.call("socket", 16, 3, 9) == ERRNO | errno.EINVAL
    assert default.call("socket", 16, 3, 9 | HIGH) == ERRNO | errno.EINVAL
    assert default.call("socket", 16, 3, 0) == ALLOW
    assert default.call("socket", 2, 3, 9) == ALLOW


def test_a_32_bit_program_cannot_choose_a_family_out_of_sight() -> None:
    container = Container(default_filter("x86_64", DEFAULT, "").program, "i386")
    assert container.call("socketcall", 1) == ENOSYS
    assert container.call("socketcall", 3) == ALLOW


def test_typing_into_a_terminal_is_refused_whatever_the_high_bits_say(default: Container) -> None:
    for command in (0x5412, 0x541C):
        assert default.call("ioctl", 0, command) == EPERM
        assert default.call("ioctl", 0, command | HIGH) == EPERM
        assert default.call("ioctl", 0, command | 0xFFFFFFFF00000000) == EPERM
    assert default.call("ioctl", 0, 0x5413) == ALLOW
    assert default.call("ioctl", 0, 0xFFFFFFFF80045430) == ALLOW


def test_only_harmless_personalities_can_be_taken(default: Container) -> None:
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert default.call("personality", value) == ALLOW
    for value in (0x40000, 0x0400000, 0x40000 | HIGH):  # ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC
        assert default.call("personality", value) == EPERM


def test_the_x32_abi_does_not_exist(x86: Any) -> None:
    container = x86()
    for call in range(600):
        assert container.machine.answer("x86_64", 0x40000000 | call) == ENOSYS


def test_a_foreign_architecture_does_not_exist(x86: Any) -> None:
    container = x86()
    for name in ("aarch64", "arm"):
        assert container.machine.answer(name, 0) == ENOSYS


@needs_library
def test_capabilities_open_what_belongs_to_them(x86: Any) -> None:
    admin = x86("SYS_ADMIN")
    for name in ("mount", "setns", "unshare", "clone3", "bpf", "perf_event_open", "pivot_root", "sethostname"):
        assert admin.call(name, CLONE_NEWUSER) == ALLOW, name
    assert admin.call("clone", CLONE_NEWUSER) == ALLOW
    assert admin.call("reboot") == EPERM
    assert x86("SYS_PTRACE").call("kcmp") == ALLOW
    assert x86("SYS_TIME").call("clock_settime") == ALLOW
    assert x86("SYSLOG").call("syslog") == ALLOW
    assert x86("BPF").call("bpf") == ALLOW
    assert x86("PERFMON").call("perf_event_open") == ALLOW
    raw = x86("NET_RAW")
    assert raw.call("socket", 17, 3, 0) == ALLOW
    assert raw.call("socket", 38, 3, 0) == NO_FAMILY
    assert raw.call("socket", 40, 3, 0) == NO_FAMILY
    assert x86("SYS_NICE").call("mbind") == ALLOW
    assert x86().call("mbind") == ENOSYS


def test_without_capabilities_chroot_is_refused_too(x86: Any) -> None:
    assert x86(drop=("ALL",)).call("chroot") == EPERM


@needs_library
def test_every_capability_only_ever_opens(tmp_path: Path) -> None:
    none = Machine(seccomp.compile_shipped("x86_64", "-strict"))
    every = Machine(default_filter("x86_64", bounding_set(["ALL"]), str(tmp_path)).program)
    for architecture in ("x86_64", "i386"):
        for call in range(600):
            if none.answer(architecture, call) == ALLOW:
                assert every.answer(architecture, call) == ALLOW, call


def test_the_capabilities_that_the_profile_asks_about_are_known_without_reading_it() -> None:
    document = json.loads(Path(DEFAULT_PROFILE).read_text())
    assert gate_capabilities(document) == GATES
    assert GATES.intersection(DEFAULT) == {"CAP_SYS_CHROOT"}


@needs_library
@pytest.mark.parametrize("machine", SHIPPED_MACHINES)
@pytest.mark.parametrize("variant", SHIPPED_GATES)
def test_the_shipped_filters_are_what_libseccomp_makes_of_the_profile(machine: str, variant: str) -> None:
    shipped = Path(shipped_path(machine, variant)).read_bytes()
    anew = seccomp.compile_shipped(machine, variant)
    one, other = Machine(shipped), Machine(anew)
    numbers = sorted(set(one.boundaries() + other.boundaries()))
    differing = set()
    for architecture in [*ARCHITECTURES, 0]:
        for call in numbers:
            for arguments in ((), (CLONE_NEWUSER,), (0, 0x5412), (38, 0, 0), (16, 0, 9), (1,)):
                if one.answer(architecture, call, arguments) != other.answer(architecture, call, arguments):
                    differing.add((architecture, call))
    if libseccomp.version() == MADE_WITH:
        assert not differing
        assert len(shipped) == len(anew)
    for architecture, call in differing:  # an older library does not know the newest calls
        assert call in NEWEST, (architecture, call)
        assert {one.answer(architecture, call), other.answer(architecture, call)} == {ALLOW, ENOSYS}


@needs_library
def test_the_newest_calls_are_allowed_whatever_library_is_here(default: Container) -> None:
    for call in NEWEST - {453}:  # map_shadow_stack, which 32-bit programs do not have
        assert default.machine.answer(default.architecture, call) == ALLOW, call


@needs_library
def test_the_default_is_no_weaker_than_podmans() -> None:
    path = Path("/usr/share/containers/seccomp.json")
    if not path.exists():
        pytest.skip("podman's profile is not on this machine")
    document = json.loads(path.read_text())
    theirs = Machine(compile_filter(resolve_profile(document, DEFAULT, "x86_64", "6.1")))
    ours = Machine(default_filter("x86_64", DEFAULT, "").program)
    for architecture in ("x86_64", "i386"):
        for call in set(ours.boundaries() + theirs.boundaries()):
            for arguments in ((), (16, 0, 9), (8,), (0x40000,), (2, 1, 0)):
                if call not in NEWEST and ours.answer(architecture, call, arguments) == ALLOW:
                    assert theirs.answer(architecture, call, arguments) == ALLOW, (architecture, call, arguments)


@pytest.mark.usefixtures("no_library")
def test_defaults_do_not_need_libseccomp() -> None:
    assert default_filter("x86_64", DEFAULT, "").warning == ""
    assert default_filter("aarch64", bounding_set(["NET_ADMIN"], ["KILL"]), "").warning == ""
    assert default_filter("x86_64", (), "").warning == ""


@pytest.mark.usefixtures("no_library")
def test_without_libseccomp_more_capabilities_get_the_stricter_filter_and_a_warning() -> None:
    found = default_filter("x86_64", bounding_set(["SYS_ADMIN", "SYS_TIME"]), "")
    assert found.program == default_filter("x86_64", DEFAULT, "").program
    assert "SYS_ADMIN, SYS_TIME" in found.warning
    assert "apt install libseccomp2" in found.warning


@pytest.mark.usefixtures("no_library")
def test_without_libseccomp_a_profile_of_ones_own_is_an_error_that_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(JubakoError) as caught:
        custom_filter(Seccomp("SCMP_ACT_ALLOW"), str(tmp_path))
    assert "libseccomp" in str(caught.value)
    assert "apt install libseccomp2" in caught.value.hint


@pytest.mark.usefixtures("no_library")
def test_without_libseccomp_a_machine_without_shipped_filter_is_an_error() -> None:
    with pytest.raises(JubakoError, match="riscv64"):
        default_filter("riscv64", DEFAULT, "")


SMALL = Filter(Seccomp("SCMP_ACT_ALLOW", None, ("SCMP_ARCH_X86_64",), (), "", "", (
    SeccompRule(("mkdir",), "SCMP_ACT_ERRNO", errno.EACCES),
)))  # fmt: skip


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Filter]:
    """Every filter that was really compiled."""
    seen: list[Filter] = []
    real = seccomp.compile_filter

    def compiling(wanted: Filter) -> bytes:
        seen.append(wanted)
        return real(wanted)

    monkeypatch.setattr(seccomp, "compile_filter", compiling)
    return seen


@needs_library
def test_a_profile_is_compiled_once(tmp_path: Path, compilations: list[Filter]) -> None:
    cache = tmp_path / "cache" / "seccomp"
    first = compiled_filter(SMALL, str(cache))
    assert compiled_filter(SMALL, str(cache)) == first
    assert len(compilations) == 1
    [entry] = cache.iterdir()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


@needs_library
@pytest.mark.parametrize("damage", ["truncated", "changed", "empty", "writable by others", "a link"])
def test_a_damaged_or_foreign_cache_is_compiled_anew(tmp_path: Path, compilations: list[Filter], damage: str) -> None:
    first = compiled_filter(SMALL, str(tmp_path))
    [entry] = tmp_path.iterdir()
    content = entry.read_bytes()
    if damage == "truncated":
        entry.write_bytes(content[:-8])
    elif damage == "changed":
        entry.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "empty":
        entry.write_bytes(b"")
    elif damage == "writable by others":
        entry.chmod(0o666)
    else:
        entry.rename(tmp_path / "elsewhere")
        entry.symlink_to("elsewhere")
    assert compiled_filter(SMALL, str(tmp_path)) == first
    assert len(compilations) == 2
    compiled_filter(SMALL, str(tmp_path))
    assert len(compilations) == 2


@needs_library
def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert compiled_filter(SMALL, f"{tmp_path}/file/cache") == compile_filter(SMALL)


@needs_library
def test_conditions_on_one_argument_are_alternatives_and_on_several_hold_together() -> None:
    def rule(*args: SeccompArg) -> Machine:
        rules = (SeccompRule(("dup3",), "SCMP_ACT_ERRNO", 5, args),)
        return Machine(compile_filter(Filter(Seccomp("SCMP_ACT_ALLOW", None, ("SCMP_ARCH_X86_64",), syscalls=rules))))

    dup3 = number("dup3", "x86_64")
    either = rule(SeccompArg(0, 1, "SCMP_CMP_EQ"), SeccompArg(0, 2, "SCMP_CMP_EQ"))
    assert [either.answer("x86_64", dup3, [value]) == ERRNO | 5 for value in (0, 1, 2, 3)] == [False, True, True, False]
    both = rule(SeccompArg(0, 1, "SCMP_CMP_GE"), SeccompArg(1, 0xF, "SCMP_CMP_MASKED_EQ", 3))
    assert both.answer("x86_64", dup3, [1, 0x13]) == ERRNO | 5
    assert both.answer("x86_64", dup3, [0, 0x13]) == ALLOW
    assert both.answer("x86_64", dup3, [1, 0x14]) == ALLOW


@needs_library
def test_an_unknown_call_may_be_left_out_of_what_is_allowed_but_not_of_what_is_refused() -> None:
    allowed = SeccompRule(("no_such_call", "read"), "SCMP_ACT_ALLOW")
    compile_filter(Filter(Seccomp("SCMP_ACT_ERRNO", syscalls=(allowed,))))
    refused = SeccompRule(("no_such_call",), "SCMP_ACT_ERRNO")
    with pytest.raises(UsageError, match="no_such_call"):
        compile_filter(Filter(Seccomp("SCMP_ACT_ALLOW", syscalls=(refused,))))


@needs_library
def test_an_unknown_architecture_or_flag_is_refused() -> None:
    with pytest.raises(UsageError, match="SCMP_ARCH_PDP11"):
        compile_filter(Filter(Seccomp("SCMP_ACT_ALLOW", architectures=("SCMP_ARCH_PDP11",))))
    with pytest.raises(UsageError, match="SECCOMP_FILTER_FLAG_X"):
        custom_filter(Seccomp("SCMP_ACT_ALLOW", flags=("SECCOMP_FILTER_FLAG_X",)), "")
    assert custom_filter(Seccomp("SCMP_ACT_ALLOW", flags=("SECCOMP_FILTER_FLAG_LOG",)), "").flags == 2


@needs_library
def test_a_documents_own_filter_always_covers_this_machine() -> None:
    native = os.uname().machine
    for architectures in ((), ("SCMP_ARCH_X86",) if native == "x86_64" else ("SCMP_ARCH_ARM",)):
        asked = Seccomp("SCMP_ACT_ALLOW", architectures=architectures)
        assert Machine(custom_filter(asked, "").program).answer(native, 0) == ALLOW


@needs_library
def test_making_a_docker_profile_small_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        ],
        "syscalls": [
            {"names": ["read", "write", "close", "semop", "shmat", "bind"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_LE"}, {"index": 1, "value": 3, "op": "SCMP_CMP_GT"}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ],
    }  # fmt: skip
    wanted = resolve_profile(document, DEFAULT, "x86_64", "6.1")
    monkeypatch.setattr(filter_tree, "shrink", lambda program: program)
    program = compile_filter(wanted)
    large, small = Machine(program), Machine(filter_tree.Shrinker(program).rewritten())
    numbers = set(small.boundaries() + large.boundaries()) | {0x40000000 | call for call in range(600)}
    values = (0, 3, 4, 8, 9, 40, 41, CLONE_NEWUSER, HIGH, HIGH | 8, HIGH | 40)
    for architecture in [*ARCHITECTURES, 0]:
        for call in numbers:
            for value in values:
                for second in (0, 4, HIGH):
                    arguments = (value, second)
                    expected = large.answer(architecture, call, arguments)
                    assert small.answer(architecture, call, arguments) == expected


@needs_library
def test_the_option_names_a_profile_by_word_or_by_file(tmp_path: Path) -> None:
    assert filter_for("unconfined", DEFAULT, "").program == b""
    assert filter_for("default", DEFAULT, "") == filter_for("builtin", DEFAULT, "")
    path = tmp_path / "profile.json"
    rules = [
        {"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_MKNOD"]}},
        {"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_MKNOD"]}},
    ]
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    native = os.uname().machine
    found = Container(filter_for(str(path), DEFAULT, "").program, native)
    assert (found.call("mkdirat"), found.call("chroot")) == (EPERM, ALLOW)
    with pytest.raises(UsageError, match="ENOENT"):
        filter_for(str(tmp_path / "none"), DEFAULT, "")


@needs_library
@pytest.mark.parametrize("asked", [
    Seccomp("SCMP_ACT_NOTIFY"),
    Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompRule(("mkdir",), "SCMP_ACT_NOTIFY"),)),
])  # fmt: skip
def test_calls_that_a_listener_should_answer_are_refused_while_there_is_none(asked: Seccomp) -> None:
    with pytest.raises(UsageError, match="no listener"):
        custom_filter(asked, "")


ACTIONS = [
    ("SCMP_ACT_KILL", 0), ("SCMP_ACT_KILL_THREAD", 0), ("SCMP_ACT_KILL_PROCESS", 0x80000000),
    ("SCMP_ACT_TRAP", 0x00030000), ("SCMP_ACT_ERRNO", 0x00050001), ("SCMP_ACT_TRACE", 0x7FF00001),
    ("SCMP_ACT_LOG", 0x7FFC0000), ("SCMP_ACT_NOTIFY", 0x7FC00000),
]  # fmt: skip


@needs_library
@pytest.mark.parametrize(("action", "code"), ACTIONS)
def test_every_action_of_a_document_is_what_the_kernel_knows(action: str, code: int) -> None:
    rule = SeccompRule(("mkdirat",), action)
    asked = Seccomp("SCMP_ACT_ALLOW", syscalls=(rule,), listener_path="/x")
    found = Container(custom_filter(asked, "", listening=True).program, os.uname().machine)
    assert found.call("mkdirat") == code
    assert found.call("read") == ALLOW
    if action != "SCMP_ACT_NOTIFY":
        default = Seccomp(action, syscalls=(SeccompRule(("read",), "SCMP_ACT_ALLOW"),))
        found = Container(custom_filter(default, "").program, os.uname().machine)
        assert (found.call("mkdirat"), found.call("read")) == (code, ALLOW)


@needs_library
def test_very_many_conditions_are_a_filter_or_an_error_of_ours() -> None:
    def asked(count: int) -> Seccomp:
        rules = (
            SeccompRule(("personality",), "SCMP_ACT_ERRNO", 7, (SeccompArg(0, n, "SCMP_CMP_EQ"),)) for n in range(count)
        )
        return Seccomp("SCMP_ACT_ALLOW", syscalls=tuple(rules))

    found = Machine(custom_filter(asked(1300), "").program)
    number = libseccomp.system_call_number("personality")
    assert found.answer(os.uname().machine, number, (1299,)) == 0x00050007
    assert found.answer(os.uname().machine, number, (1300,)) == ALLOW
    with pytest.raises(UsageError, match="4096 are the most"):
        custom_filter(asked(5000), "")


@needs_library
def test_error_numbers_of_a_document_are_answered() -> None:
    rules = (SeccompRule(("mkdirat",), "SCMP_ACT_ERRNO", 95), SeccompRule(("read",), "SCMP_ACT_ALLOW"))
    asked = Seccomp("SCMP_ACT_ERRNO", 38, syscalls=rules)
    found = Container(custom_filter(asked, "").program, os.uname().machine)
    assert (found.call("mkdirat"), found.call("write"), found.call("read")) == (0x0005005F, 0x00050026, ALLOW)


@needs_library
@pytest.mark.parametrize(
    ("op", "value", "two", "hits", "misses"),
    [
        ("SCMP_CMP_NE", 5, 0, (4, 1 << 40), (5,)), ("SCMP_CMP_LT", 5, 0, (4,), (5, 1 << 40)),
        ("SCMP_CMP_LE", 5, 0, (5,), (6,)), ("SCMP_CMP_EQ", 1 << 40, 0, (1 << 40,), (0, 1)),
        ("SCMP_CMP_GE", 5, 0, (5, 1 << 40), (4,)), ("SCMP_CMP_GT", 1 << 33, 0, ((1 << 33) + 1,), (1 << 33,)),
        ("SCMP_CMP_MASKED_EQ", 6, 2, (2, 3), (4, 6)),
    ],
)  # fmt: skip
def test_every_comparison_of_a_document_holds_for_all_64_bits(
    op: str, value: int, two: int, hits: tuple[int, ...], misses: tuple[int, ...]
) -> None:
    rule = SeccompRule(("personality",), "SCMP_ACT_ERRNO", 7, (SeccompArg(0, value, op, two),))
    found = Machine(custom_filter(Seccomp("SCMP_ACT_ALLOW", syscalls=(rule,)), "").program)
    number = libseccomp.system_call_number("personality")
    for argument in hits:
        assert found.answer(os.uname().machine, number, (argument,)) == 0x00050007
    for argument in misses:
        assert found.answer(os.uname().machine, number, (argument,)) == ALLOW


@needs_library
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="a family of architectures of x86")
def test_a_document_reaches_all_architectures_that_it_names_and_no_others() -> None:
    rule = SeccompRule(("mkdirat",), "SCMP_ACT_ERRNO", 7)
    architectures = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
    found = Machine(custom_filter(Seccomp("SCMP_ACT_ALLOW", architectures=architectures, syscalls=(rule,)), "").program)
    x32 = 0x40000000
    for architecture, number in (("x86_64", 258), ("i386", 296), ("x86_64", x32 | 258)):
        assert found.answer(architecture, number) == 0x00050007
        assert found.answer(architecture, number & x32) == ALLOW  # its read(2), or the like
    alone = Machine(custom_filter(Seccomp("SCMP_ACT_ALLOW", syscalls=(rule,)), "").program)
    for architecture, number in (("i386", 3), ("x86_64", x32), ("aarch64", 63)):
        assert alone.answer(architecture, number) == 0x00050026
