"""Sizes, limits, signals, variables, namespaces and security options: every value one clear answer."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jubako.engine.parse.env import parse_assignments, parse_env, parse_labels, read_env_file, read_label_file
from jubako.engine.parse.namespaces import Choice, choose_namespaces, parse_namespace, parse_ns, parse_time_offsets
from jubako.engine.parse.security import SecurityChoice, is_unmasked, parse_security
from jubako.engine.parse.sizes import parse_bool, parse_octal, parse_size
from jubako.engine.parse.ulimit import parse_ulimits
from jubako.errors import UsageError
from jubako.runtime.signals import parse_signal
from jubako.spec.types import RLIM_INFINITY, Rlimit, TimeOffset

CALLER = {"HOME": "/home/me", "LC_ALL": "C", "LC_TIME": "de", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("10b", 10),
        ("1k", 1024),
        ("64m", 64 << 20),
        ("64M", 64 << 20),
        ("64mb", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("2 GB", 2 << 30),
        ("1t", 1 << 40),
    ],
)
def test_a_size_is_bytes_or_has_a_unit(text: str, size: int) -> None:
    assert parse_size(text, "memory") == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1.m", ".5g", "1e3", "0x10", "٣", "1 2", "9" * 30, "9999999p"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="read --memory"):
        parse_size(text, "memory")


@pytest.mark.parametrize(("text", "value"), [("1", True), ("TRUE", True), ("t", True), ("0", False), ("False", False)])
def test_a_truth_value_is_spelled_as_go_has_it(text: str, value: bool) -> None:
    assert parse_bool(text, "x") is value


@pytest.mark.parametrize("text", ["", "8", "0o22", "-1", "99999"])
def test_what_is_no_octal_mode_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not an octal mode"):
        parse_octal(text, "umask")


LIMITS = [
    (("nofile=1024",), (Rlimit("RLIMIT_NOFILE", 1024, 1024),)),
    (("nofile=1024:2048",), (Rlimit("RLIMIT_NOFILE", 2048, 1024),)),
    (("core=-1",), (Rlimit("RLIMIT_CORE", RLIM_INFINITY, RLIM_INFINITY),)),
    (("nproc=5:unlimited",), (Rlimit("RLIMIT_NPROC", RLIM_INFINITY, 5),)),
    (("RLIMIT_CPU=1",), (Rlimit("RLIMIT_CPU", 1, 1),)),
    (("cpu=1", "core=0", "cpu=2"), (Rlimit("RLIMIT_CPU", 2, 2), Rlimit("RLIMIT_CORE", 0, 0))),
    (("host",), ()),
]


@pytest.mark.parametrize(("values", "limits"), LIMITS, ids=[",".join(values) for values, _ in LIMITS])
def test_limits_have_a_soft_and_a_hard_value(values: tuple[str, ...], limits: tuple[Rlimit, ...]) -> None:
    assert parse_ulimits(values) == limits


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nofile", "must be NAME=SOFT[:HARD]"),
        ("files=5", "there is no limit 'files'"),
        ("nofile=", "'' is not a number, -1 or unlimited"),
        ("nofile=1:", "'' is not a number, -1 or unlimited"),
        ("nofile=1k", "'1k' is not a number, -1 or unlimited"),
        ("nofile=-2", "'-2' is not a number, -1 or unlimited"),
        ("nofile=10:5", "the soft limit 10 is above the hard limit 5"),
        ("nofile=-1:5", "the soft limit -1 is above the hard limit 5"),
        ("nofile=18446744073709551616", "is not a number, -1 or unlimited"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(value: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_ulimits((value,))
    assert reason in str(caught.value)


@pytest.mark.parametrize("text", ["15", "TERM", "SIGTERM", "sigterm", "Term"])
def test_a_signal_has_a_name_and_a_number(text: str) -> None:
    assert parse_signal(text) == signal.SIGTERM


def test_every_signal_of_this_machine_is_known_by_its_name() -> None:
    assert {parse_signal(one.name) for one in signal.Signals} == set(signal.Signals)


def test_real_time_signals_count_from_either_end() -> None:
    assert parse_signal("RTMIN+3") == signal.SIGRTMIN + 3
    assert parse_signal("SIGRTMAX-1") == signal.SIGRTMAX - 1
    assert parse_signal("RTMIN") == signal.SIGRTMIN


@pytest.mark.parametrize("text", ["", "0", "65", "-1", "FOO", "_DFL", "SIG_IGN", "RTMIN+99", "RTMAX+1", "15 ", "SIG"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="read --stop-signal"):
        parse_signal(text, "stop-signal")


VARIABLES: list[tuple[tuple[str, ...], dict[str, str]]] = [
    (("A=1", "B="), {"A": "1", "B": ""}),
    (("A=x=y",), {"A": "x=y"}),
    (("HOME", "NOT_SET", "EMPTY"), {"HOME": "/home/me", "EMPTY": ""}),
    (("LC_*",), {"LC_ALL": "C", "LC_TIME": "de"}),
    (("A=1", "A=2"), {"A": "2"}),
    (("A*=1",), {"A*": "1"}),
    (("A=1\n2",), {"A": "1\n2"}),
]


@pytest.mark.parametrize(("entries", "result"), VARIABLES, ids=[",".join(entries) for entries, _ in VARIABLES])
def test_variables_are_set_copied_or_left_out(entries: tuple[str, ...], result: dict[str, str]) -> None:
    assert parse_env(entries, CALLER) == result


@pytest.mark.parametrize("entry", ["", "=x", "A=\0"])
def test_a_variable_that_cannot_be_is_refused(entry: str) -> None:
    with pytest.raises(UsageError, match="read --env"):
        parse_env((entry,), CALLER)


def test_a_file_of_variables_has_comments_and_copies(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes("\ufeff# comment\n\nA=1\r\n  B=two words \nHOME\nNOT_SET\nC=#no comment\n".encode())
    assert read_env_file(str(file), CALLER) == {"A": "1", "B": "two words ", "HOME": "/home/me", "C": "#no comment"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"A=1\n=x\n", "line 2 has no name before ="),
        (b"A B=1\n", "line 1: 'A B' is not a name"),
        (b"export A=1\n", "line 1: 'export A' is not a name"),
        (b"A=\xff\n", "byte 2 is not UTF-8"),
    ],
)
def test_a_file_of_variables_that_cannot_be_read_names_the_line(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "env").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_env_file(str(tmp_path / "env"), CALLER)
    assert caught.value.reason == reason


def test_a_file_of_variables_that_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"read --env-file .*/nothing: No such file or directory \(ENOENT\)"):
        read_env_file(str(tmp_path / "nothing"), CALLER)


def test_labels_may_be_without_a_value(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("x=1\n#no\ny\n")
    assert parse_labels(("a=b=c", "d")) == {"a": "b=c", "d": ""}
    assert read_label_file(str(tmp_path / "labels")) == {"x": "1", "y": ""}
    with pytest.raises(UsageError, match="a label must have a name"):
        parse_labels(("=x",))


def test_an_annotation_must_have_a_value() -> None:
    assert parse_assignments(("a=", "b=c"), "annotation") == {"a": "", "b": "c"}
    with pytest.raises(UsageError, match="read --annotation 'a': must be of the form KEY=VALUE"):
        parse_assignments(("a",), "annotation")


NAMESPACES = [
    (("pid", "host", "pid"), Choice("pid", "host", "", "pid")),
    (("pid", "private", "pid"), Choice("pid", "private", "", "pid")),
    (("pid", "container:web", "pid"), Choice("pid", "container", "web", "pid")),
    (("network", "none", "network"), Choice("network", "private", "", "network")),
    (("network", "ns:/run/netns/x", "network"), Choice("network", "ns", "/run/netns/x", "network")),
    (("ipc", "none", "ipc"), Choice("ipc", "none", "", "ipc")),
    (("ipc", "shareable", "ipc"), Choice("ipc", "private", "", "ipc")),
]


@pytest.mark.parametrize(("arguments", "choice"), NAMESPACES, ids=[a[0] + "=" + a[1] for a, _ in NAMESPACES])
def test_a_namespace_is_private_the_hosts_or_another_containers(
    arguments: tuple[str, str, str], choice: Choice
) -> None:
    assert parse_namespace(*arguments) == choice


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        ("net=host", Choice("network", "host", "", "ns")),
        ("mnt=private", Choice("mount", "private", "", "ns")),
        ("time=private", Choice("time", "private", "", "ns")),
        ("uts=/proc/1/ns/uts", Choice("uts", "ns", "/proc/1/ns/uts", "ns")),
        ("cgroup=container:web", Choice("cgroup", "container", "web", "ns")),
        ("net=none", Choice("network", "private", "", "ns")),
    ],
)
def test_ns_takes_any_namespace_by_any_of_its_names(value: str, choice: Choice) -> None:
    assert parse_ns(value) == choice


WRONG_NAMESPACES: list[tuple[Callable[..., Any], tuple[str, ...], str]] = [
    (parse_namespace, ("pid", "hots", "pid"), "read --pid 'hots': there is no such mode"),
    (parse_namespace, ("pid", "none", "pid"), "there is no such mode"),
    (parse_namespace, ("pid", "container:", "pid"), "there is no such mode"),
    (parse_namespace, ("pid", "host:x", "pid"), "there is no such mode"),
    (parse_namespace, ("pid", "ns:x", "pid"), "the path 'x' must be absolute"),
    (parse_namespace, ("network", "bridge", "ns"), "there is no such mode"),
    (parse_ns, ("net",), "must be TYPE=private, TYPE=host or TYPE=PATH"),
    (parse_ns, ("net=",), "must be TYPE=private, TYPE=host or TYPE=PATH"),
    (parse_ns, ("foo=host",), "there is no namespace 'foo'"),
    (parse_ns, ("mnt=host",), "a container always has a mount namespace of its own"),
    (parse_ns, ("user=host",), "the user namespace has its own flag"),
    (parse_ns, ("uts=none",), "there is no such mode"),
]


@pytest.mark.parametrize(("parse", "arguments", "reason"), WRONG_NAMESPACES)
def test_a_namespace_that_cannot_be_is_refused(
    parse: Callable[..., Any], arguments: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse(*arguments)
    assert reason in str(caught.value)


def test_two_different_wishes_for_one_namespace_are_refused() -> None:
    same = parse_ns("pid=host")
    assert choose_namespaces((parse_namespace("pid", "host", "pid"), same))["pid"].mode == "host"
    with pytest.raises(UsageError, match="combine --pid and --ns for the pid namespace"):
        choose_namespaces((parse_namespace("pid", "private", "pid"), same))


OFFSETS = [
    ("monotonic=5", (TimeOffset("monotonic", 5, 0),)),
    ("boottime=-5", (TimeOffset("boottime", -5, 0),)),
    ("boottime=+1.5", (TimeOffset("boottime", 1, 500_000_000),)),
    ("boottime=-1.5", (TimeOffset("boottime", -2, 500_000_000),)),
    ("monotonic=1,boottime=2", (TimeOffset("monotonic", 1), TimeOffset("boottime", 2))),
    ("monotonic=0.0000000019", (TimeOffset("monotonic", 0, 1),)),
]


@pytest.mark.parametrize(("value", "offsets"), OFFSETS, ids=[value for value, _ in OFFSETS])
def test_clocks_are_moved_by_seconds_counted_as_the_kernel_wants_them(
    value: str, offsets: tuple[TimeOffset, ...]
) -> None:
    assert parse_time_offsets((value,)) == offsets


@pytest.mark.parametrize("value", ["", "5", "realtime=5", "monotonic=", "monotonic=x", "monotonic=1.", "boottime=--1"])
def test_a_clock_that_cannot_be_moved_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="read --time-offset"):
        parse_time_offsets((value,))


SECURITY: list[tuple[tuple[str, ...], SecurityChoice]] = [
    ((), SecurityChoice()),
    (("seccomp=unconfined",), SecurityChoice(seccomp="unconfined")),
    (("seccomp:unconfined",), SecurityChoice(seccomp="unconfined")),
    (("seccomp=/a=b.json",), SecurityChoice(seccomp="/a=b.json")),
    (("no-new-privileges",), SecurityChoice(no_new_privileges=True)),
    (("no-new-privileges=false",), SecurityChoice(no_new_privileges=False)),
    (("no-new-privileges:true",), SecurityChoice(no_new_privileges=True)),
    (("mask=/a:/b/", "mask=/c"), SecurityChoice(mask=("/a", "/b", "/c"))),
    (("unmask=all",), SecurityChoice(unmask=("ALL",))),
    (("unmask=/proc/*",), SecurityChoice(unmask=("/proc/*",))),
    (("systempaths=unconfined",), SecurityChoice(unmask=("ALL",))),
    (("proc-opts=hidepid=2,subset=pid",), SecurityChoice(proc_options=("hidepid=2", "subset=pid"))),
    (("label=disable", "apparmor=unconfined"), SecurityChoice()),
]


@pytest.mark.parametrize(("values", "choice"), SECURITY, ids=[",".join(values) for values, _ in SECURITY])
def test_security_options_are_read_in_old_and_new_spelling(values: tuple[str, ...], choice: SecurityChoice) -> None:
    assert parse_security(values) == choice


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "there is no such option"),
        ("seccomp", "there is no such option"),
        ("seccomp=", "there is no such option"),
        ("secomp=x", "there is no such option"),
        ("no-new-privileges=maybe", "'maybe' is neither true nor false"),
        ("mask=proc", "'proc' must be an absolute path without .."),
        ("unmask=/proc/../sys", "must be an absolute path without .."),
        ("mask=/proc/*", "a * may only stand at the end, and only to unmask"),
        ("unmask=/p*/x", "a * may only stand at the end, and only to unmask"),
        ("label=type:spc_t", "SELinux labels are not set by jubako"),
        ("apparmor=my-profile", "AppArmor profiles are not set by jubako"),
    ],
)
def test_a_security_option_that_cannot_be_kept_is_refused(value: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_security((value,))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("path", "unmask", "expected"),
    [
        ("/proc/kcore", (), False),
        ("/proc/kcore", ("ALL",), True),
        ("/proc/kcore", ("/proc/kcore",), True),
        ("/proc/kcore", ("/proc",), False),
        ("/proc/kcore", ("/proc/*",), True),
        ("/sys/firmware", ("/proc/*",), False),
    ],
)
def test_unmasking_takes_paths_a_trailing_star_or_all(path: str, unmask: tuple[str, ...], expected: bool) -> None:
    assert is_unmasked(path, unmask) is expected
