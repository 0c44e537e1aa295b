"""A program in the foreground, of `run` or `exec`: its terminal is relayed, signals are passed on, its end is awaited.

The program is a child of this process, and its streams without a terminal are this process's own: there is nothing to
copy then.
"""

from __future__ import annotations

import _signal
import os
import select

from jubako.linux import tty
from jubako.linux.pidfd import send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIGCHLD, _SIGWINCH = 17, 28
_FORWARDED = (1, 2, 3, 10, 12, 14, 15, 18, 21, 22, 23, 24, 26, 27, 29, 30)
_CHUNK = 1 << 16


class Foreground:
    """Catches signals from its making on, so that none is lost between the start and the wait."""

    def __init__(self, pidfd: int, master: int) -> None:
        self.pidfd = pidfd
        self.master = master
        self.reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        wanted = (*_FORWARDED, _SIGCHLD, _SIGWINCH)
        for number in wanted:
            if _signal.getsignal(number) != _signal.SIG_IGN:  # what nohup(1) had ignored stays so
                _signal.signal(number, _note)
        self.typed = b""
        self._resize()  # before the program can look

    def wait(self, pid: int) -> int:
        """Until the process `pid` has ended: its exit code as shells count it."""
        saved = self._enter_raw_mode() if self.master >= 0 else None
        try:
            self._resize()
            code = self._loop(pid)
        finally:
            if saved is not None:
                import termios

                termios.tcsetattr(0, termios.TCSADRAIN, saved)
        return code

    def _loop(self, pid: int) -> int:
        reads = self.master >= 0
        while True:
            poller = select.poll()
            poller.register(self.reader, select.POLLIN)
            poller.register(self.pidfd, select.POLLIN)
            if self.master >= 0:
                poller.register(self.master, select.POLLIN | (select.POLLOUT if self.typed else 0))
            if reads and not self.typed:
                poller.register(0, select.POLLIN)
            ready = dict(poller.poll())
            if self.reader in ready:
                for number in os.read(self.reader, 512):
                    self._pass_on(number)
            if ready.get(self.master, 0) & ~select.POLLOUT:
                self._copy_output()
            if self.typed and self.master >= 0:
                self._write_typed()
            elif reads and 0 in ready:
                reads = self._copy_input()
            if self.pidfd in ready:
                status = os.waitpid(pid, 0)[1]
                while self.master >= 0 and self._copy_output():
                    continue
                code = os.waitstatus_to_exitcode(status)
                return 128 - code if code < 0 else code

    def _copy_output(self) -> bool:
        """Pass on what the program wrote; False when there is no more."""
        try:
            data = os.read(self.master, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: nobody holds the slave any more
            data = b""
        if not data:
            os.close(self.master)
            self.master = -1
            return False
        try:
            while data:
                data = data[os.write(1, data) :]
        except BrokenPipeError:
            return False
        return True

    def _copy_input(self) -> bool:
        try:
            data = os.read(0, _CHUNK)
        except OSError:
            data = b""
        self.typed = data
        if data:
            self._write_typed()
        return bool(data)

    def _write_typed(self) -> None:
        try:
            self.typed = self.typed[os.write(self.master, self.typed) :]
        except BlockingIOError:
            return
        except OSError:
            self.typed = b""

    def _pass_on(self, number: int) -> None:
        if number == _SIGWINCH:
            self._resize()
        elif number != _SIGCHLD:
            try:
                send_signal(self.pidfd, number)
            except OSError:
                return  # it has just ended

    def _resize(self) -> None:
        if self.master < 0:
            return
        try:
            rows, columns = tty.window_size(0)
            tty.set_window_size(self.master, rows, columns)
        except OSError:
            return  # not a terminal

    def _enter_raw_mode(self) -> Any:
        os.set_blocking(self.master, False)
        if not os.isatty(0):
            return None
        from jubako.runtime.caller import enter_raw_mode

        return enter_raw_mode(0)


def _note(_number: int, _frame: object) -> None:
    """A handler, so that the signal ends no system call unseen: the wake-up descriptor tells which it was."""
