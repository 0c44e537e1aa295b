"""The container's log: one line a record, as CRI and podman's k8s-file have it.

`2026-01-02T03:04:05.123456789+00:00 stdout F text`, with P instead of F for a line that goes on in the next record. It
can be followed while it grows, and read after a crash, since every record is one write to a file opened for appending.
"""

from __future__ import annotations

import os
import time

_NAMES = {1: b"stdout", 2: b"stderr"}


class LogFile:
    """The writing end. `limit` in bytes (0: none) starts the file anew, keeping one older part as `NAME.1`."""

    def __init__(self, path: str, limit: int = 0) -> None:
        self.path = path
        self.limit = limit
        self._open()

    def _open(self) -> None:
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self.fd).st_size
        self.torn = False

    def write(self, kind: int, data: bytes) -> None:
        """Append `data` of the stream `kind` (1 or 2). A full disk loses log records, never the container."""
        stamp = _stamp() + b" " + _NAMES[kind]
        lines = data.split(b"\n")
        records = [stamp + b" F " + line for line in lines[:-1]]
        if lines[-1]:
            records.append(stamp + b" P " + lines[-1])
        if not records:
            return
        text = b"\n".join(records) + b"\n"
        if self.torn:  # the disk was full in the middle of a record: the next one begins on a line of its own
            text = b"\n" + text
        try:
            written = os.write(self.fd, text)
        except OSError:
            return
        self.torn = written < len(text)
        self.size += written
        if self.limit and self.size > self.limit:
            self._start_anew()

    def _start_anew(self) -> None:
        full = self.fd
        try:
            try:
                os.rename(self.path, self.path + ".1")
            except FileNotFoundError:  # somebody took it away, or the last attempt came only so far
                pass
            self._open()
        except OSError:  # a full disk: on with the one that is open
            return
        os.close(full)


def _stamp() -> bytes:
    now = time.time_ns()
    seconds, rest = divmod(now, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%09d+00:00" % rest
