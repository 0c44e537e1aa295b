"""Bundles, ids and console sockets that are none: one error, and nothing is made."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oci.conftest import call, left
from world.bundle import Bundle
from world.faults import faults_of
from world.runtime import Runtime, new_id

# --- bundles ----------------------------------------------------------------------------------------------------------


def test_a_bundle_that_is_none(runtime: Runtime, place: Path) -> None:
    (place / "file").write_text("")
    (place / "empty").mkdir()
    (place / "directory" / "config.json").mkdir(parents=True)
    (place / "pipe").mkdir()
    os.mkfifo(place / "pipe/config.json")
    (place / "loop").mkdir()
    (place / "loop/config.json").symlink_to("config.json")
    for name, said in (
        ("missing", "ENOENT"),
        ("file", "ENOTDIR"),
        ("empty", "ENOENT"),
        ("directory", "no regular file"),
        ("pipe", "no regular file"),
        ("loop", "ELOOP"),
    ):
        result = call(runtime, "create", "--bundle", place / name, new_id(), timeout=20)
        assert faults_of(result, f"{place}/{name}", said) == []
        assert left(runtime) == []


def test_a_root_file_system_that_is_none(bundle: Bundle, refused: Callable[..., None]) -> None:
    shutil.rmtree(bundle.rootfs)
    refused(bundle.config, f"{bundle.rootfs}", "ENOENT", "root.path")
    bundle.rootfs.write_text("")
    refused(bundle.config, f"{bundle.rootfs}", "ENOTDIR", "root.path")
    bundle.rootfs.unlink()
    bundle.rootfs.symlink_to(bundle.rootfs)
    refused(bundle.config, f"{bundle.rootfs}", "ELOOP", "root.path")
    for path, said in (("x" * 300, "ENAMETOOLONG"), ("/dev/null", "ENOTDIR"), ("/proc/self/fd/0", "ENOTDIR")):
        refused(bundle.config | {"root": {"path": path}}, said)


def test_an_empty_root_file_system_has_no_program(bundle: Bundle, refused: Callable[..., None]) -> None:
    shutil.rmtree(bundle.rootfs)
    bundle.rootfs.mkdir()
    refused(bundle.config, "execute sh")
    bundle.config["mounts"] = []
    refused(bundle.config, "execute sh")


def test_names_that_are_no_unicode_are_kept_as_they_are(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(place) + b"/b\xff\n"))
    shutil.move(bundle.path, odd)
    moved = Bundle(odd, bundle.config)
    moved.config["annotations"] = {"name": "\udcff"}
    moved.sh("exec sleep 1000")
    box = runtime.start_new(moved)
    assert os.fsencode(box.state["bundle"]) == os.fsencode(odd)
    assert runtime("list").exit_code == 0
    assert box.exec("true").exit_code == 0
    box.delete("--force")


# --- ids --------------------------------------------------------------------------------------------------------------

IDS = ("", ".", "..", "a/b", "/etc", "../../etc", "é", "\u202eab", "a\nb", "x" * 256, "x" * 10_000, "a\udcff", "%", "~")
COMMANDS = ("create", "run", "start", "state", "kill", "delete", "exec", "ps", "pause", "update")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_id_that_is_none_is_refused_by_every_command(runtime: Runtime, bundle: Bundle, command: str) -> None:
    bundle.write()
    flags = ("--bundle", str(bundle.path)) if command in ("create", "run") else ()
    flags = ("--force",) if command == "delete" else flags
    words = {"exec": ("true",), "kill": ("TERM",)}.get(command, ())
    before = sorted(os.listdir(bundle.path.parent))
    for identifier in IDS:
        result = call(runtime, command, *flags, "--", identifier, *words)
        assert faults_of(result, "id") == [], result
        assert result.stderr.count("\n") <= 2, "the name does not break the line"
    assert sorted(set(os.listdir(bundle.path.parent)) - {"state"}) == before
    assert left(runtime) == []


# --- console sockets --------------------------------------------------------------------------------------------------


@contextmanager
def short_directory() -> Iterator[Path]:
    """A socket's address holds 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="jubako-s-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def with_terminal(bundle: Bundle) -> Bundle:
    bundle.process["terminal"] = True
    return bundle


def test_a_console_socket_that_is_none(with_terminal: Bundle, refused: Callable[..., None]) -> None:
    with short_directory() as place:
        (place / "file").write_text("")
        (place / "directory").mkdir()
        os.mkfifo(place / "pipe")
        deaf = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deaf.bind(str(place / "deaf"))
        packets = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        packets.bind(str(place / "packets"))
        for name, said in (
            ("missing", "ENOENT"),
            ("file", "ECONNREFUSED"),
            ("directory", "ECONNREFUSED"),
            ("pipe", "ECONNREFUSED"),
            ("deaf", "ECONNREFUSED"),
            ("packets", "EPROTOTYPE"),
            ("x" * 300, "too long"),
        ):
            path = str(place / name)
            refused(with_terminal.config, "--console-socket", said, flags=("--console-socket", path), timeout=20)
        deaf.close()
        packets.close()


def test_a_console_socket_without_a_terminal_and_the_other_way_round(
    bundle: Bundle, refused: Callable[..., None]
) -> None:
    refused(bundle.config, "process.terminal is not true", flags=("--console-socket", "/nowhere"))
    bundle.process["terminal"] = True
    refused(bundle.config, "--console-socket")


def test_a_console_socket_that_is_closed_at_once(with_terminal: Bundle, refused: Callable[..., None]) -> None:
    with short_directory() as place, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(place / "console"))
        listener.listen()

        def close_at_once() -> None:
            listener.accept()[0].close()

        closing = threading.Thread(target=close_at_once)
        closing.start()
        refused(with_terminal.config, "console socket", "EPIPE", flags=("--console-socket", str(place / "console")))
        closing.join()


def test_a_console_socket_at_which_nobody_accepts_is_no_hang(
    with_terminal: Bundle, refused: Callable[..., None]
) -> None:
    with short_directory() as place, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(place / "console"))
        listener.listen(0)
        waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(str(place / "console"))
        flags = ("--console-socket", str(place / "console"))
        refused(with_terminal.config, "--console-socket", "nobody has accepted", flags=flags, timeout=20)
        for each in waiting:
            each.close()


def test_a_pid_file_that_cannot_be_written_leaves_no_container(
    bundle: Bundle, place: Path, refused: Callable[..., None]
) -> None:
    (place / "directory").mkdir()
    for path, said in ((place / "no/such/file", "ENOENT"), (place / "directory", "EISDIR"), ("/proc/version", "(E")):
        refused(bundle.config, "write --pid-file", str(path), said, flags=("--pid-file", str(path)))
    assert not [name for name in os.listdir(place) if name.startswith(".")]
