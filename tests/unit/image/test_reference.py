"""Image names are read and completed as docker does."""

from __future__ import annotations

import pytest

from jubako.errors import UsageError
from jubako.image.reference import parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("typed", "complete", "short"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("foo/bar", "docker.io/foo/bar:latest", "foo/bar:latest"),
        ("docker.io/foo/bar:x", "docker.io/foo/bar:x", "foo/bar:x"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x:tag", "localhost:5000/x:tag", "localhost:5000/x:tag"),
        ("quay.io/a/b/c:v1", "quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("HOST/x", "HOST/x:latest", "HOST/x:latest"),
        ("a__b/c-d.e_f--g", "docker.io/a__b/c-d.e_f--g:latest", "a__b/c-d.e_f--g:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox:1@{DIGEST}", f"busybox:1@{DIGEST}"),
        ("x:" + "t" * 128, "docker.io/library/x:" + "t" * 128, "x:" + "t" * 128),
    ],
)
def test_a_name_is_completed_as_docker_completes_it(typed: str, complete: str, short: str) -> None:
    reference = parse_reference(typed)
    assert str(reference) == complete
    assert reference.short == short
    assert parse_reference(reference.short) == reference
    assert parse_reference(complete) == reference


@pytest.mark.parametrize(
    "typed",
    [
        "", ":", "/", "Busybox", "foo/Bar", "foo//bar", "/foo", "foo/", "-x", "x-", "x..y", "x___y", "x._y", "a b",
        "x:", "x:.tag", "x:-tag", "x:" + "t" * 129, "x@", "x@sha256:12", "x@md5:" + "0" * 32, f"x@{DIGEST.upper()}",
        "a" * 256, "0" * 64, "host:port/x", "-host.io/x", "h/../x", "x\0", "é", "x:tag:tag", "[::1/x", "a.b:/x",
    ],
)  # fmt: skip
def test_a_malformed_name_is_refused_with_the_name_in_the_message(typed: str) -> None:
    with pytest.raises(UsageError, match="read image name") as caught:
        parse_reference(typed)
    assert repr(typed)[:20] in str(caught.value)
    assert caught.value.exit_code == 125


def test_upper_case_is_named_as_the_fault() -> None:
    with pytest.raises(UsageError, match="upper-case"):
        parse_reference("foo/Bar")
