"""What flows between a container and its watchers: nothing is lost, nothing is sent twice, nobody is waited for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.runtime.logfile import LogFile
from jubako.runtime.streams import STDERR, STDOUT, Input, Sink, Source


@pytest.fixture(autouse=True)
def no_descriptor_is_lost() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


def fill(fd: int) -> int:
    """Fill a pipe: how many bytes it took."""
    os.set_blocking(fd, False)
    taken = 0
    try:
        while True:
            taken += os.write(fd, b"x" * 4096)
    except BlockingIOError:
        return taken


# --- sinks and sources


def test_what_a_container_writes_reaches_the_log_and_every_sink() -> None:
    logged: list[tuple[int, bytes]] = []
    reader, writer = os.pipe()
    outs = [os.pipe(), os.pipe()]
    source = Source(reader, STDERR, lambda kind, data: logged.append((kind, data)))
    source.sinks = [Sink(out[1], owned=True) for out in outs]
    os.write(writer, b"hello")
    assert source.pump() == 5
    assert source.stalled
    source.drain()
    assert not source.stalled
    assert logged == [(STDERR, b"hello")]
    assert [os.read(out[0], 10) for out in outs] == [b"hello", b"hello"]
    assert source.pump() == 0
    os.close(writer)
    assert source.pump() == -1
    source.close()
    assert [os.read(out[0], 10) for out in outs] == [b"", b""]
    for out in outs:
        os.close(out[0])


def test_a_full_sink_keeps_what_it_could_not_write_and_stalls_its_source() -> None:
    reader, writer = os.pipe()
    out_reader, out_writer = os.pipe()
    source = Source(reader, STDOUT, None)
    source.sinks = [Sink(out_writer, owned=True)]
    already = fill(out_writer)
    os.write(writer, b"late")
    source.pump()
    source.drain()
    assert source.stalled
    while already:
        already -= len(os.read(out_reader, min(already, 1 << 16)))
    source.drain()
    assert not source.stalled
    assert os.read(out_reader, 10) == b"late"
    source.close()
    for fd in (writer, out_reader):
        os.close(fd)


def test_no_more_than_a_pipe_takes_without_waiting_is_written_at_once() -> None:
    reader, writer = os.pipe()
    sink = Sink(writer, owned=True)
    sink.put(b"y" * 10_000)
    assert sink.drain()
    assert len(sink.pending) == 10_000 - 4096
    assert len(os.read(reader, 1 << 16)) == 4096
    sink.close()
    os.close(reader)


def test_a_sink_whose_reader_is_gone_is_forgotten_and_the_others_go_on() -> None:
    reader, writer = os.pipe()
    gone, kept = os.pipe(), os.pipe()
    os.close(gone[0])
    source = Source(reader, STDOUT, None)
    source.sinks = [Sink(gone[1], owned=True), Sink(kept[1], owned=True)]
    os.write(writer, b"hello")
    source.pump()
    source.drain()
    assert [sink.fd for sink in source.sinks] == [kept[1]]
    assert os.read(kept[0], 10) == b"hello"
    source.close()
    os.close(writer)
    os.close(kept[0])


def test_a_sink_that_gave_up_closes_its_descriptor_once() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sink = Sink(writer, owned=True)
    sink.put(b"x")
    assert not sink.drain()
    again, other = os.pipe()  # takes the same number
    sink.close()
    os.close(again)
    os.close(other)


def test_a_callers_own_descriptor_is_left_open() -> None:
    reader, writer = os.pipe()
    sink = Sink(writer, owned=False)
    sink.close()
    os.write(writer, b"x")
    os.close(reader)
    os.close(writer)


def test_a_terminal_that_everybody_closed_is_an_end() -> None:
    master, slave = os.openpty()
    source = Source(master, STDOUT, None)
    os.close(slave)
    assert source.pump() == -1
    source.close()


# --- input


def test_input_of_every_client_reaches_the_container() -> None:
    (reader, writer), one, two = os.pipe(), os.pipe(), os.pipe()
    feed = Input(writer)
    os.write(one[1], b"a")
    os.write(two[1], b"b")
    assert feed.take(one[0])
    assert feed.take(two[0])
    assert feed.drain()
    assert feed.pending == b""
    assert os.read(reader, 10) == b"ab"
    os.close(one[1])
    assert not feed.take(one[0])
    os.set_blocking(two[0], False)
    assert feed.take(two[0])
    for fd in (reader, writer, one[0], *two):
        os.close(fd)


def test_input_waits_for_a_container_that_does_not_read_and_ends_with_one_that_closed() -> None:
    reader, writer = os.pipe()
    feed = Input(writer)
    fill(writer)
    feed.pending = b"more"
    assert feed.drain()
    assert feed.pending == b"more"
    os.close(reader)
    assert not feed.drain()
    assert feed.pending == b""
    os.close(writer)


# --- the log

STAMP = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}\+00:00"


def records(path: Path) -> list[bytes]:
    """The log's records without their times."""
    lines = path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    for line in lines:
        assert re.match(STAMP + rb" std(out|err) [FP] ", line), line
    return [line.partition(b" ")[2] for line in lines]


def test_a_log_has_one_record_a_line_and_marks_those_that_go_on(tmp_path: Path) -> None:
    log = LogFile(f"{tmp_path}/log")
    log.write(1, b"one\ntwo")
    log.write(2, b"oops\n")
    log.write(1, b" goes on\n\n")
    log.write(1, b"")
    assert records(tmp_path / "log") == [
        b"stdout F one", b"stdout P two", b"stderr F oops", b"stdout F  goes on", b"stdout F ",
    ]  # fmt: skip
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    os.close(log.fd)


def test_a_log_goes_on_where_an_earlier_start_ended(tmp_path: Path) -> None:
    for text in (b"first\n", b"second\n"):
        log = LogFile(f"{tmp_path}/log")
        log.write(1, text)
        os.close(log.fd)
    assert records(tmp_path / "log") == [b"stdout F first", b"stdout F second"]


def test_a_log_beyond_its_limit_starts_anew_and_keeps_one_older_part(tmp_path: Path) -> None:
    log = LogFile(f"{tmp_path}/log", 200)
    for number in range(12):
        log.write(1, b"%d\n" % number)
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1"]
    kept = records(tmp_path / "log.1") + records(tmp_path / "log")
    assert kept == [b"stdout F %d" % number for number in range(12 - len(kept), 12)]
    assert (tmp_path / "log.1").stat().st_size < 300
    os.close(log.fd)


def test_a_log_that_somebody_took_away_is_made_anew_and_harms_nobody(tmp_path: Path) -> None:
    log = LogFile(f"{tmp_path}/log", 100)
    (tmp_path / "log").unlink()
    log.write(1, b"x" * 200)
    log.write(1, b"y\n")
    assert records(tmp_path / "log") == [b"stdout F y"]
    os.close(log.fd)


def test_a_full_disk_loses_records_and_never_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(f"{tmp_path}/log", 300)
    real_open, real_write = os.open, os.write
    monkeypatch.setattr(os, "write", lambda fd, data: (_ for _ in ()).throw(OSError(28, "full")))
    log.write(1, b"lost\n")
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, data[:50]))
    log.write(1, b"z" * 100 + b"\n")  # only half of it fits
    monkeypatch.setattr(os, "write", real_write)
    log.write(1, b"whole\n")
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(b" stdout F zzzzz")
    assert lines[1].endswith(b" stdout F whole")
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    log.write(1, b"y" * 300 + b"\n")  # over the limit, and no new file can be made
    monkeypatch.setattr(os, "open", real_open)
    log.write(1, b"again\n")
    log.write(1, b"and again\n")
    assert records(tmp_path / "log")[-1:] == [b"stdout F and again"]
    assert log.fd >= 0
    os.close(log.fd)
