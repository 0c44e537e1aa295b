"""A program in a terminal of its own, driven as a person at the keyboard would."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import termios
import time
from collections.abc import Mapping
from pathlib import Path

INTERRUPT = "\x03"
END_OF_FILE = "\x04"
SUSPEND = "\x1a"


class Terminal:
    """`argv` as session leader of a pty. `output` is all that has appeared so far, escape sequences included."""

    def __init__(self, argv: tuple[str, ...], rows: int, columns: int, env: Mapping[str, str], cwd: Path) -> None:
        self.argv = argv
        self.output = ""
        self._seen = 0
        self._exit_code: int | None = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(cwd)
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
                os.execvpe(argv[0], argv, dict(env))
            finally:
                os._exit(99)

    def send(self, text: str) -> None:
        """Type `text`; "\\n" is the Return key."""
        data = text.replace("\n", "\r").encode()
        while data:
            data = data[os.write(self.fd, data) :]

    def read_until(self, pattern: str, timeout: float = 10) -> str:
        """Read until the regular expression `pattern` matches new output; returns the output up to the match's end."""
        until = time.monotonic() + timeout
        while True:
            match = re.compile(pattern, re.MULTILINE).search(self.output, self._seen)
            if match is not None:
                text = self.output[self._seen : match.end()]
                self._seen = match.end()
                return text
            if not self._read(until - time.monotonic()):
                raise AssertionError(self._told(f"no {pattern!r} in {timeout} s or before the end"))

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size, as a terminal emulator does (SIGWINCH goes to the foreground group)."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def modes(self) -> list[object]:
        """The terminal's settings, as `termios.tcgetattr` has them: equal before and after a program that behaves."""
        return termios.tcgetattr(self.fd)

    def wait(self, timeout: float = 10) -> int:
        """Read to the end and return the exit code (128 + N for a signal)."""
        until = time.monotonic() + timeout
        while self._read(until - time.monotonic()):
            pass
        while self._exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._exit_code = code if code >= 0 else 128 - code
            elif time.monotonic() > until:
                raise AssertionError(self._told(f"not finished after {timeout} s"))
            else:
                time.sleep(0.01)
        return self._exit_code

    def close(self) -> None:
        if self.fd < 0:
            return
        if self._exit_code is None:
            os.kill(self.pid, signal.SIGHUP)
            try:
                self.wait(5)
            except AssertionError:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        os.close(self.fd)
        self.fd = -1

    def _told(self, what: str) -> str:
        return f"$ {shlex.join(self.argv)}\n{what}; all so far:\n{self.output}"

    def _read(self, timeout: float) -> bool:
        """Take what has come; False at the end of the output or of the time."""
        ready, _, _ = select.select([self.fd], [], [], max(0, timeout))
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError as error:  # the last holder of the other side is gone
            if error.errno != errno.EIO:
                raise
            return False
        self.output += data.decode(errors="backslashreplace")
        return bool(data)
