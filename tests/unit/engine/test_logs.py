"""Reading logs: times as people write them, the last lines, and a file that is begun anew while it is read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from jubako.engine.logs import LogReader, LogRecord, _last, parse_moment, parse_record
from jubako.engine.parse.logs import LogRequest, parse_log
from jubako.errors import UsageError
from jubako.runtime.logfile import LogFile


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("2026-01-02T03:04:05.123456789+00:00", 1_767_323_045_123_456_789),
        ("1767323045", 1_767_323_045_000_000_000),
        ("1767323045.5", 1_767_323_045_500_000_000),
    ],
)
def test_a_time_keeps_its_nanoseconds(text, moment):
    assert parse_moment(text) == moment


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("2d", 172800), ("1.5m", 90), ("500ms", 0.5)]
)
def test_a_span_lies_in_the_past(text, seconds):
    assert abs(time.time_ns() - parse_moment(text) - seconds * 1e9) < 1e9


@pytest.mark.parametrize("text", ["", "soon", "10x", "m", "1..5m", "2026-13-01", "١s"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UsageError):
        parse_moment(text)


def test_a_record_may_hold_any_bytes_but_must_be_one():
    assert parse_record(b"T stdout F a b  c\xff") == LogRecord(b"T", 1, True, b"a b  c\xff")
    assert parse_record(b"T stderr P ") == LogRecord(b"T", 2, False, b"")
    for broken in (b"", b"T stdout F", b"T nowhere F x", b"half a rec"):
        assert parse_record(broken) is None


def test_the_last_lines_are_counted_over_both_streams_and_parts():
    def records(*texts: str) -> list[LogRecord]:
        return [LogRecord(b"T", int(text[0]), text[1] == "F", text[2:].encode()) for text in texts]

    every = records("1Fa", "2Fb", "1Pc-", "2Fd", "1Fc", "1Pe")
    assert list(_last(every, -1)) == every
    assert list(_last(every, 0)) == []
    assert list(_last(every, 1)) == every[5:]
    assert list(_last(every, 3)) == every[2:]
    assert list(_last(every, 99)) == every


def test_a_log_that_is_begun_anew_is_read_on(tmp_path: Path):
    log = LogFile(str(tmp_path / "log"), 200)
    reader = LogReader(str(tmp_path / "log"))
    seen: list[bytes] = []
    for number in range(30):
        log.write(1, b"line %d\n" % number)
        if number % 2:
            seen += [found.text for found in reader.read()]
    assert seen == [b"line %d" % number for number in range(30)]
    late = LogReader(str(tmp_path / "log"))
    assert [found.text for found in late.read()][-1] == b"line 29"
    reader.close()
    late.close()


def test_a_half_written_record_waits_for_the_rest(tmp_path: Path):
    path = tmp_path / "log"
    path.write_bytes(b"T stdout F one\nT stdout F tw")
    reader = LogReader(str(path))
    assert [found.text for found in reader.read()] == [b"one"]
    with path.open("ab") as file:
        file.write(b"o\n")
    assert [found.text for found in reader.read()] == [b"two"]
    reader.close()


def test_log_options_are_kept_or_refused():
    assert parse_log("", ()) == parse_log("json-file", ("max-file=2",)) == LogRequest(True, 0)
    assert parse_log("k8s-file", ("max-size=10k",)) == LogRequest(True, 10240)
    assert parse_log("none", ()) == LogRequest(False, 0)
    for driver, options in (("journald", ()), ("", ("path=/x",)), ("", ("max-file=9",)), ("", ("max-size=x",))):
        with pytest.raises(UsageError):
            parse_log(driver, options)
