"""Reading a container's log: all of it, its end, a span of time, or as it grows.

The records are those of `runtime.logfile`. Following waits for the file to change (inotify(7)) and for the supervisor
to end (its pidfd): what it wrote last is read after that.
"""

from __future__ import annotations

import os
import time
from collections import deque
from datetime import UTC, datetime

from jubako.engine import store
from jubako.engine.ending import open_supervisor
from jubako.errors import JubakoError, UsageError
from jubako.linux.inotify import Watcher
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_NUMBERS = {b"stdout": 1, b"stderr": 2}
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "d": 86400.0}


@record
class LogOptions:
    """Which part of a log; times in nanoseconds since the epoch (0: no bound), `tail` in lines (-1: all)."""

    follow: bool = False
    tail: int = -1
    since: int = 0
    until: int = 0
    timestamps: bool = False


@record
class LogRecord:
    """One piece of output: `stream` 1 or 2, and whether the line ends here."""

    stamp: bytes
    stream: int
    ends: bool
    text: bytes


def show_log(container: store.Container, options: LogOptions) -> None:
    """Write the log to this process's standard output and error."""
    if not container.document["log"]:
        raise JubakoError(
            "show the log of container",
            container.name,
            reason="it has none",
            hint="with --rm in the foreground, or --log-driver none, nothing is logged",
        )
    writer = _Writer(options.timestamps)
    log = LogReader(container.directory + "/log")
    watcher = Watcher() if options.follow else None
    try:
        if watcher is not None:
            watcher.watch(container.directory)
        bounds = _within(options)
        writer.write(_last([found for found in log.read() if bounds(found)], options.tail))
        if watcher is not None:
            _follow(
                container, log, watcher, lambda: writer.write(found for found in log.read() if bounds(found)), options
            )
    finally:
        log.close()
        if watcher is not None:
            watcher.close()


def _follow(
    container: store.Container, log: LogReader, watcher: Watcher, show: Callable[[], None], options: LogOptions
) -> None:
    supervisor = open_supervisor(container)
    try:
        while supervisor is not None:
            left = (options.until - time.time_ns()) / 1e9 if options.until else None
            if left is not None and left <= 0:
                return
            ended = watcher.wait((supervisor,), left)
            show()
            if ended:
                return
        show()
    finally:
        if supervisor is not None:
            os.close(supervisor)


class LogReader:
    """Reads the records that have come since the last time, across the older part that a size limit makes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.files: list[int] = []
        self.rest = b""
        for name in (path + ".1", path):
            self._open(name)

    def read(self) -> Iterator[LogRecord]:
        """The new records; one that is half written waits for the next time."""
        while self.files:
            yield from self._records(self.files[0])
            if len(self.files) == 1 and not self._is_replaced():
                return
            os.close(self.files.pop(0))
            if not self.files:
                self._open(self.path)
        self._open(self.path)
        if self.files:
            yield from self._records(self.files[0])

    def close(self) -> None:
        """Let go of the files."""
        for fd in self.files:
            os.close(fd)
        self.files = []

    def _records(self, fd: int) -> Iterator[LogRecord]:
        while data := os.read(fd, 1 << 18):
            *lines, self.rest = (self.rest + data).split(b"\n")
            for line in lines:
                found = parse_record(line)
                if found is not None:
                    yield found

    def _open(self, path: str) -> None:
        try:
            self.files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            return

    def _is_replaced(self) -> bool:
        try:
            return not os.path.samestat(os.fstat(self.files[0]), os.stat(self.path))
        except FileNotFoundError:
            return False


def parse_record(line: bytes) -> LogRecord | None:
    """One line of the log file; None for what is no record (a crash may have cut one)."""
    fields = line.split(b" ", 3)
    if len(fields) != 4 or fields[1] not in _NUMBERS:
        return None
    return LogRecord(fields[0], _NUMBERS[fields[1]], fields[2] == b"F", fields[3])


def parse_moment(text: str) -> int:
    """Nanoseconds since the epoch for a date and time (RFC 3339, local without a zone), seconds since the epoch, or a
    span that lies so far back ("90m", "1h30m", "2d")."""
    seconds = _span(text)
    if seconds is not None:
        return time.time_ns() - int(seconds * 1e9)
    whole, _, fraction = text.partition(".")
    if whole.isascii() and whole.isdigit() and (not fraction or fraction.isdigit()):
        return int(whole) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or "0")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            "read time", text, reason="not a time", hint="such as 2026-01-02T03:04:05Z, 1767323045 or 10m"
        ) from None
    whole_seconds = int(moment.replace(microsecond=0).timestamp())
    return whole_seconds * 1_000_000_000 + _fraction(text)  # datetime knows microseconds only


def _fraction(text: str) -> int:
    """The nanoseconds of a time's fraction of a second."""
    digits = text.partition(".")[2]
    digits = digits[: len(digits) - len(digits.lstrip("0123456789"))]
    return int(digits.ljust(9, "0")[:9] or "0")


def _span(text: str) -> float | None:
    """Go's durations: "1h30m", "500ms"."""
    total, rest = 0.0, text
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip("hmsdun"))]
        rest = rest[len(unit) :]
        if unit not in _UNITS or not number or number.count(".") > 1 or number == ".":
            return None
        total += float(number) * _UNITS[unit]
    return total if text else None


def _within(options: LogOptions) -> Callable[[LogRecord], bool]:
    """Whether a record lies in the span of time asked for; stamps of one form compare as text does."""
    since, until = _stamp(options.since), _stamp(options.until)

    def holds(found: LogRecord) -> bool:
        return (not since or found.stamp >= since) and (not until or found.stamp <= until)

    return holds


def _stamp(moment: int) -> bytes:
    if not moment:
        return b""
    seconds, rest = divmod(moment, 1_000_000_000)
    text = datetime.fromtimestamp(max(seconds, 0), UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text.encode() + b".%09d+00:00" % rest


def _last(records: list[LogRecord], tail: int) -> Iterable[LogRecord]:
    """The records of the last `tail` lines; one that is not finished yet counts."""
    if tail < 0:
        return records
    kept: deque[LogRecord] = deque()
    lines = 0
    seen: set[int] = set()
    for found in reversed(records):
        if found.ends or found.stream not in seen:  # else its line goes on in a record that is kept already
            lines += 1
        if lines > tail:
            break
        seen.add(found.stream)
        kept.appendleft(found)
    return kept


class _Writer:
    """Puts records on standard output and error, with their times if wanted."""

    def __init__(self, timestamps: bool) -> None:
        self.timestamps = timestamps
        self.inside = {1: False, 2: False}

    def write(self, records: Iterable[LogRecord]) -> None:
        for found in records:
            text = found.text + b"\n" if found.ends else found.text
            if self.timestamps and not self.inside[found.stream]:
                text = found.stamp + b" " + text
            self.inside[found.stream] = not found.ends
            while text:
                text = text[os.write(found.stream, text) :]
