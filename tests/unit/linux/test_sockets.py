"""Packets with descriptors, listening places, terminals, and files that change."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from jubako.linux import scm, tty
from jubako.linux.inotify import Watcher
from unit.linux.forked import in_child


def test_a_packet_is_one_message_with_its_descriptors() -> None:
    ours, theirs = scm.pair()
    reader, writer = os.pipe()
    scm.send(ours, b"one", (reader, writer))
    scm.send(ours, b"two")
    data, got = scm.receive(theirs)
    assert (data, len(got)) == (b"one", 2)
    assert not any(os.get_inheritable(fd) for fd in (*got, ours.fileno(), theirs.fileno()))
    os.write(got[1], b"x")
    assert os.read(reader, 1) == b"x"
    assert scm.receive(theirs) == (b"two", ())
    ours.close()
    assert scm.receive(theirs) == (b"", ())
    for fd in (*got, reader, writer):
        os.close(fd)


def test_a_packet_that_is_cut_is_an_error_and_its_descriptors_are_closed() -> None:
    ours, theirs = scm.pair()
    before = os.listdir("/proc/self/fd")
    scm.send(ours, b"x" * 100, (0, 0))
    with pytest.raises(OSError, match="message too long"):
        scm.receive(theirs, 50)
    assert os.listdir("/proc/self/fd") == before


def test_more_descriptors_than_are_expected_are_an_error_and_closed() -> None:
    ours, theirs = scm.pair()
    before = os.listdir("/proc/self/fd")
    scm.send(ours, b"x", (0,) * (scm.MAX_DESCRIPTORS + 20))
    with pytest.raises(OSError, match="message too long"):
        scm.receive(theirs)
    assert os.listdir("/proc/self/fd") == before
    scm.send(ours, b"x", (0,) * scm.MAX_DESCRIPTORS)
    _data, got = scm.receive(theirs)
    assert len(got) == scm.MAX_DESCRIPTORS
    for fd in got:
        os.close(fd)


def test_sending_to_who_is_gone_is_an_error_and_no_signal() -> None:
    ours, theirs = scm.pair()
    theirs.close()
    with pytest.raises(BrokenPipeError):
        scm.send(ours, b"x")


def test_a_place_with_a_long_name_can_be_listened_at(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    before = os.listdir("/proc/self/fd")
    listener = scm.listen(str(directory), "control")
    client = scm.connect(str(directory), "control")
    served = scm.accept(listener)
    scm.send(client, b"hello")
    assert scm.receive(served)[0] == b"hello"
    assert not os.get_inheritable(served.fileno())
    for socket in (served, client, listener):
        socket.close()
    with pytest.raises(ConnectionRefusedError):
        scm.connect(str(directory), "control")
    assert os.listdir("/proc/self/fd") == before


def test_a_place_where_nobody_ever_listened_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scm.connect(str(tmp_path), "control")


# --- terminals


def test_a_terminal_is_opened_through_its_master() -> None:
    ptmx = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    master, slave = tty.open_pty(ptmx)
    assert master == ptmx
    assert os.isatty(slave)
    assert not os.get_inheritable(slave)
    os.write(slave, b"hello\n")
    assert os.read(master, 100) == b"hello\r\n"
    tty.set_window_size(master, 24, 132)
    assert tty.window_size(slave) == (24, 132)
    os.close(slave)
    os.close(master)


def test_a_terminal_becomes_the_controlling_one_of_a_new_session() -> None:
    def look() -> list[object]:
        os.setsid()
        _master, slave = tty.open_pty(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
        tty.set_controlling_terminal(slave)
        return [os.getsid(0) == os.getpid(), os.isatty(os.open("/dev/tty", os.O_RDWR))]

    assert in_child(look) == [True, True]


def test_what_is_no_terminal_has_no_size() -> None:
    with open("/dev/null") as file, pytest.raises(OSError, match="ioctl"):
        tty.window_size(file.fileno())


# --- files that change


def test_a_change_of_a_file_and_of_a_directory_wakes_the_watcher(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    watcher = Watcher()
    watcher.watch(str(tmp_path / "log"))
    watcher.watch(str(tmp_path))
    assert fcntl.fcntl(watcher.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    for change in (lambda: (tmp_path / "log").write_text("x"), (tmp_path / "new").mkdir, (tmp_path / "log").unlink):
        started = time.monotonic()
        change()
        assert watcher.wait(seconds=5) == ()
        assert time.monotonic() - started < 3
    watcher.close()


def test_a_watcher_waits_for_other_descriptors_too_and_not_for_ever(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    watcher = Watcher()
    assert watcher.wait(seconds=0.01) == ()
    threading.Timer(0.01, os.write, (writer, b"x")).start()
    assert watcher.wait((reader,), seconds=5) == (reader,)
    watcher.close()
    os.close(reader)
    os.close(writer)


def test_what_is_not_there_can_be_tried(tmp_path: Path) -> None:
    watcher = Watcher()
    assert not watcher.try_watch(f"{tmp_path}/none")
    assert watcher.try_watch(str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        watcher.watch(f"{tmp_path}/none")
    assert caught.value.filename == f"{tmp_path}/none"
    watcher.close()
