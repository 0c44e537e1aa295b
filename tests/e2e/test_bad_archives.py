"""Archives that are corrupt, lie, or want out are refused or tamed, and leave nothing behind (see `clean`)."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from world import archives
from world.command import Command, Result
from world.refusal import refused

Run = Callable[..., Result]


def hostile(entry: Callable[[tarfile.TarFile], None]) -> bytes:
    """A layer with one hostile thing in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry(archive)
    return buffer.getvalue()


def add(archive: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size, entry.mode = kind, link, len(data), 0o755
    entry.devmajor, entry.devminor = 8, 0
    archive.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize(
    "damage",
    ["noise", "empty", "truncated", "directory", "missing layer", "wrong digest", "not an archive of an image"],
)
def test_an_archive_that_is_corrupt(damage: str, docker_archive: Path, tmp_path: Path, jubako: Command) -> None:
    bad = tmp_path / "bad.tar"
    good = docker_archive.read_bytes()
    if damage == "noise":
        bad.write_bytes(os.urandom(100_000))
    elif damage == "empty":
        bad.write_bytes(b"")
    elif damage == "truncated":
        bad.write_bytes(good[: len(good) // 2])
    elif damage == "directory":
        bad.mkdir()
    elif damage == "not an archive of an image":
        archives.write_tar(bad, {"hello": b"world"})
    elif damage == "missing layer":
        layer = archives.files_layer({"f": "x"})
        archives.write_docker_archive(tmp_path / "whole.tar", [layer], ["bad:latest"])
        with tarfile.open(tmp_path / "whole.tar") as whole, tarfile.open(bad, "w") as part:
            for member in whole:
                if "layer.tar" not in member.name:
                    part.addfile(member, whole.extractfile(member))
    else:
        bad = archives.write_oci_layout(tmp_path / "layout", [archives.files_layer({"f": "x" * 9000})], compress=False)
        largest = max((bad / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
        largest.write_bytes(largest.read_bytes().replace(b"xx", b"yy"))
    text = refused(jubako("load", "-i", bad))
    assert "digest" in text or damage != "wrong digest", text
    assert "bad" not in jubako("images").stdout


@pytest.mark.parametrize(
    "trick",
    [
        lambda a: add(a, "../../escaped", data=b"x"),
        lambda a: add(a, "/../escaped", data=b"x"),
        lambda a: (add(a, "link", tarfile.SYMTYPE, "/tmp"), add(a, "link/jubako-escaped", data=b"x")),
        lambda a: (add(a, "link", tarfile.SYMTYPE, "../../../../../../tmp"), add(a, "link/jubako-escaped", data=b"x")),
        lambda a: (add(a, "hard", tarfile.LNKTYPE, "/etc/passwd"),),
        lambda a: (add(a, "hard", tarfile.LNKTYPE, "../../../../../../../etc/passwd"),),
        lambda a: (add(a, "d", tarfile.SYMTYPE, "."), add(a, "d/../../../jubako-escaped", data=b"x")),
    ],
)
def test_an_archive_that_wants_out(
    trick: Callable[[tarfile.TarFile], None], tmp_path: Path, jubako: Command, run: Run, busybox_layer: bytes
) -> None:
    bad = archives.write_docker_archive(tmp_path / "bad.tar", [busybox_layer, hostile(trick)], ["bad:latest"])
    told = jubako("load", "-i", bad)
    # either it is refused, or what it names lies inside of the image: never is anything written outside
    assert not [name for name in os.listdir("/tmp") if "escaped" in name]
    assert not list(Path(jubako.account.home).glob("**/*escaped")) or told.exit_code == 0
    if told.exit_code:
        refused(told)
        return
    try:
        shown = run("bad", "sh", "-c", "cat /hard /link/jubako-escaped /tmp/jubako-escaped /escaped 2>/dev/null")
        assert jubako.account.name not in shown.stdout, "no file of the host got in"
    finally:
        jubako("rmi", "bad", check=True)


def test_an_archive_with_device_nodes_gives_no_devices(
    tmp_path: Path, jubako: Command, run: Run, busybox_layer: bytes
) -> None:
    nodes = hostile(lambda a: (add(a, "sda", tarfile.BLKTYPE), add(a, "mem", tarfile.CHRTYPE)))  # type: ignore[arg-type,return-value]
    bad = archives.write_docker_archive(tmp_path / "bad.tar", [busybox_layer, nodes], ["bad:latest"])
    told = jubako("load", "-i", bad)
    if told.exit_code:
        refused(told)
        return
    try:
        shown = run("bad", "sh", "-c", "test -b /sda && echo device; test -c /mem && echo device; head -c1 /sda /mem")
        assert "device" not in shown.stdout, shown
    finally:
        jubako("rmi", "bad", check=True)


def test_a_file_system_archive_that_is_corrupt_is_not_imported(tmp_path: Path, jubako: Command) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(5000))
    refused(jubako("import", tmp_path / "noise", "mine"))
    refused(jubako("import", tmp_path / "missing", "mine"), "missing")
    refused(jubako("import", "-", "mine", input=b"\x1f\x8b\x08" + os.urandom(500)))
    assert "mine" not in jubako("images").stdout


def test_a_disk_that_is_full_while_loading(docker_archive: Path, tmp_path: Path, jubako: Command) -> None:
    for name in ("small", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    script = (
        'mount -t tmpfs -o size=500k small "$0/small"; "$@"; code=$?;'
        ' find "$0/small" -type f -size +0 ! -name "*.lock" ! -name "*.json" | sed s/^/left:/;'
        ' JUBAKO_RUN="$0/run" "$1" system shutdown; exit $code'
    )
    argv = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(tmp_path))
    places = {"JUBAKO_ROOT": f"{tmp_path}/small", "JUBAKO_RUN": f"{tmp_path}/run"}
    done = subprocess.run(
        (*argv, *jubako.argv("load", "-i", docker_archive)),
        capture_output=True, text=True, env=jubako.environment(places), timeout=60,
    )  # fmt: skip
    refused(Result(argv, done.stdout, done.stderr, done.returncode), "No space left on device (ENOSPC)")
