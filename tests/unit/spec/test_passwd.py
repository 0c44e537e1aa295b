"""Users and groups are looked up as docker and podman do, in files that anyone may have written."""

from __future__ import annotations

import pytest

from jubako.errors import NotFoundError, UsageError
from jubako.spec.passwd import ResolvedUser, lookup_group, lookup_groups, lookup_user, parse_id

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment: 1:2
bob:x:1000:1001:Bob:/home/bob:/bin/sh
1000:x:77:77:a name of digits:/home/77:/bin/sh
www:x:33:33:::
short:x:5
nobody:x:65534:65534:nobody:/:/sbin/nologin
"""
GROUP = """\
root:x:0:
wheel:x:10:root,bob
audio:x:29:bob
bobs:x:1001:
again:x:10:bob
staff:x:50:bobby
"""

FOUND = [
    ("", ResolvedUser(0, 0, (10,), "/root", "root")),
    ("root", ResolvedUser(0, 0, (10,), "/root", "root")),
    ("0", ResolvedUser(0, 0, (10,), "/root", "root")),
    ("bob", ResolvedUser(1000, 1001, (10, 29), "/home/bob", "bob")),
    ("bob:", ResolvedUser(1000, 1001, (10, 29), "/home/bob", "bob")),
    ("1000", ResolvedUser(1000, 1001, (10, 29), "/home/bob", "bob")),
    ("bob:audio", ResolvedUser(1000, 29, (), "/home/bob", "bob")),
    ("bob:5", ResolvedUser(1000, 5, (), "/home/bob", "bob")),
    ("4242", ResolvedUser(4242, 0, (), "/", "")),
    ("4242:4343", ResolvedUser(4242, 4343, (), "/", "")),
    (":audio", ResolvedUser(0, 29, (), "/root", "root")),
    ("www", ResolvedUser(33, 33, (), "/", "www")),
    ("4294967294", ResolvedUser(4294967294, 0, (), "/", "")),
]


@pytest.mark.parametrize(("user", "expected"), FOUND, ids=[user or "(none)" for user, _ in FOUND])
def test_a_user_is_found_by_name_and_by_number(user: str, expected: ResolvedUser) -> None:
    assert lookup_user(user, PASSWD, GROUP) == expected


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("alice", "unable to find user alice in the container's /etc/passwd"),
        ("short", "unable to find user short in the container's /etc/passwd"),
        ("bob:crew", "unable to find group crew in the container's /etc/group"),
        ("alice:crew", "unable to find user alice in the container's /etc/passwd"),
        ("# a comment", "unable to find user # a comment in the container's /etc/passwd"),
    ],
)
def test_an_unknown_name_is_an_error_that_says_where_it_was_looked_for(user: str, message: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        lookup_user(user, PASSWD, GROUP)
    assert caught.value.reason == message
    assert "numeric" in caught.value.hint


@pytest.mark.parametrize("user", ["4294967295", "99999999999", "-1", "bob:4294967296", "bob:-5"])
def test_a_number_that_is_no_id_is_refused(user: str) -> None:
    with pytest.raises(UsageError, match="is not between 0 and 4294967294"):
        lookup_user(user, PASSWD, GROUP)


@pytest.mark.parametrize(
    "line",
    [
        "eve:x:4294967295:0:::",
        "eve:x:99999999999999999999:0:::",
        "eve:x:-1:0:::",
        "eve:x:zero:0:::",
        "eve:x:0x0:0:::",
        "eve:x: 0:0:::",
        "eve:x:٣:0:::",
        "eve:x::0:::",
        "eve:x:0",
        "eve",
        ":x:0:0:::",
        "eve\0:x:0:0:::",
        "#eve:x:0:0:::",
        "eve" + "x" * (1 << 20) + ":x:0:0:::",
    ],
)
def test_a_line_that_is_none_is_skipped(line: str) -> None:
    with pytest.raises(NotFoundError):
        lookup_user("eve", line, "")
    assert lookup_user("eve", line + "\neve:x:7:8::/e:\n", "") == ResolvedUser(7, 8, (), "/e", "eve")


def test_bytes_that_are_not_utf8_do_no_harm() -> None:
    passwd = b"\xff\xfe:x:1:1:::\nbob:x:2:3:\xe9:/home/bob:/bin/sh\n"
    assert lookup_user("bob", passwd, b"\x80:x:5:bob\ngood:x:6:bob\n") == ResolvedUser(2, 3, (5, 6), "/home/bob", "bob")


def test_missing_files_leave_numbers() -> None:
    assert lookup_user("5:6", "", "") == ResolvedUser(5, 6)
    assert lookup_user("", "", "") == ResolvedUser(0, 0)


def test_windows_line_ends_do_not_matter() -> None:
    assert lookup_user("bob", "bob:x:1:2:::/bin/sh\r\n", "g:x:3:bob\r\n") == ResolvedUser(1, 2, (3,), "/", "bob")


def test_a_home_that_is_no_absolute_path_is_not_taken() -> None:
    assert lookup_user("bob", "bob:x:1:2::home:", "").home == "/"


def test_the_first_of_two_lines_counts() -> None:
    assert lookup_user("bob", "bob:x:1:2::/a:\nbob:x:0:0::/b:\n", "").uid == 1


def test_groups_are_found_by_name_and_number_each_once() -> None:
    assert lookup_groups(("audio", "7", "wheel", "29"), GROUP) == (29, 7, 10)
    assert lookup_group("staff", GROUP) == 50
    with pytest.raises(NotFoundError, match="unable to find group crew"):
        lookup_groups(("audio", "crew"), GROUP)


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("12", 12), ("4294967294", 4294967294), ("", None), ("1 ", None), ("1_0", None)]
)
def test_an_id_is_decimal_digits_and_nothing_else(text: str, number: int | None) -> None:
    assert parse_id(text) == number
