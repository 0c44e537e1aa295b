"""The caller's side of a running container: terminal, standard streams, signals, and the exit code.

The process that the user started stays an ordinary process of the terminal's session, with job control; the
supervisor tells it over the link when the container has ended. tty(4), termios(3), "Detach sequence" of docker.
"""

from __future__ import annotations

import _signal
import os
import select

from jubako.linux import scm, tty
from jubako.record import record
from jubako.runtime.messages import Detach, Exited, Failed, Resize, Signal, Started, receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SIGWINCH = 28
_FORWARDED = (1, 2, 3, 10, 12, 14, 15, 18, 21, 22, 23, 24, 26, 27, 29, 30)
_CHUNK = 1 << 16
DETACHED = -2
LOST = -1


@record
class Relay:
    """Descriptors to copy from and to: `stdin` is read from fd 0 into `input`; `output` and `error` are read and
    written to fd 1 and 2. -1 is none. `terminal` puts fd 0 into raw mode meanwhile."""

    input: int = -1
    output: int = -1
    error: int = -1
    terminal: bool = False
    detach_keys: bytes = b""
    forward_signals: bool = True
    send_input: bool = False
    """A pty's master that comes with `Started` gets what is typed."""


class Caller:
    """Waits for a container in the foreground. Signals that arrive are passed on; `wait` says how it ended."""

    def __init__(self, link: scm.Socket, relay: Relay, on_start: Callable[[], None] | None = None) -> None:
        self.link = link
        self.on_start = on_start
        self.relay = relay
        self.input = relay.input
        self.outputs = {fd: number for fd, number in ((relay.output, 1), (relay.error, 2)) if fd >= 0}
        self.typed = b""
        self.master = -1
        self.code: int | None = None
        self.started: Started | None = None

    def wait(self) -> int:
        """The exit code; `DETACHED` after the detach keys, `LOST` when the supervisor was killed.

        Raises `JubakoError` when the container could not start.
        """
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        previous = _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        handlers = self._catch_signals()
        saved = self._enter_raw_mode()
        try:
            if self.relay.terminal:
                self._resize()
            return self._loop(reader)
        finally:
            self._leave_raw_mode(saved)
            for number, handler in handlers.items():
                _signal.signal(number, handler)
            _signal.set_wakeup_fd(previous)
            os.close(reader)
            os.close(writer)

    def _loop(self, reader: int) -> int:
        while True:
            poller = select.poll()
            poller.register(reader, select.POLLIN)
            if self.code is None:
                poller.register(self.link.fileno(), select.POLLIN)
            if self.on_start is None:  # before that somebody may wait for us, who must not wait for our reader
                for fd in self.outputs:
                    poller.register(fd, select.POLLIN)
            if self.input >= 0:
                poller.register(0, select.POLLIN)
                poller.register(self.input, 0)
            ready = dict(poller.poll())
            for fd in [fd for fd in self.outputs if fd in ready]:
                self._copy_output(fd)
            if self.input >= 0 and ready.get(self.input, 0) & (select.POLLERR | select.POLLHUP):
                self._close_input()
            elif self.input >= 0 and 0 in ready and self._copy_input():
                send(self.link, Detach())
                return DETACHED
            if reader in ready:
                for number in os.read(reader, 512):
                    self._pass_on(number)
            if self.code is None and self.link.fileno() in ready:
                self._hear()
            if self.code is not None and not self.outputs:
                return self.code

    def _hear(self) -> None:
        message, descriptors = receive(self.link)
        if isinstance(message, Started):
            self.started = message
            if self.on_start is not None:
                self.on_start()
                self.on_start = None
            self._take_terminal(descriptors)
            if self.relay.terminal:
                self._resize()
        elif isinstance(message, Exited):
            self.code = message.code
        elif isinstance(message, Failed):
            raise message.error()
        elif message is None:
            self.code = LOST
        if self.code is not None:
            self.on_start = None
        if self.code is not None:
            self._close_input()

    def _take_terminal(self, descriptors: tuple[int, ...]) -> None:
        for master in descriptors:
            self.master = master
            self.outputs[master] = 1
            if self.relay.send_input:
                self.input = os.dup(master)

    def _copy_output(self, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            os.close(fd)
            del self.outputs[fd]
            return
        number = self.outputs[fd]
        while data:
            try:
                data = data[os.write(number, data) :]
            except BlockingIOError:
                select.select([], [number], [])
            except BrokenPipeError:
                os.close(fd)
                del self.outputs[fd]
                return

    def _copy_input(self) -> bool:
        """Pass on what was typed; True when it was the detach sequence."""
        try:
            data = os.read(0, _CHUNK)
        except OSError:
            data = b""
        if not data:
            self._close_input()
            return False
        keys, found = self.relay.detach_keys, False
        if keys:
            data, self.typed, found = _find_keys(self.typed + data, keys)
        while data and self.input >= 0:
            try:
                data = data[os.write(self.input, data) :]
            except BlockingIOError:
                if found:  # whoever leaves does not wait for a program that reads nothing
                    break
                select.select([], [self.input], [], 0.1)
                if self.code is not None:
                    break
            except OSError:
                self._close_input()
        return found

    def _close_input(self) -> None:
        if self.input >= 0:
            os.close(self.input)
            self.input = -1

    def _pass_on(self, number: int) -> None:
        try:
            if number == _SIGWINCH:
                self._resize()
            elif self.relay.forward_signals:
                send(self.link, Signal(number))
        except OSError:
            return  # it has just ended

    def _resize(self) -> None:
        for fd in (0, 1, 2):
            try:
                rows, columns = tty.window_size(fd)
            except OSError:
                continue
            try:
                if self.master >= 0:
                    tty.set_window_size(self.master, rows, columns)
                else:
                    send(self.link, Resize(rows, columns))
            except OSError:
                pass
            return

    def _catch_signals(self) -> dict[int, Any]:
        numbers = [*(_FORWARDED if self.relay.forward_signals else ()), *((_SIGWINCH,) if self.relay.terminal else ())]
        # What nohup(1), or `&` in a script, had ignored from the start stays so.
        wanted = [number for number in numbers if _signal.getsignal(number) != _signal.SIG_IGN]
        return {number: _signal.signal(number, _note) for number in wanted}

    def _enter_raw_mode(self) -> Any:
        return enter_raw_mode(0) if self.relay.terminal and os.isatty(0) else None

    def _leave_raw_mode(self, saved: Any) -> None:
        if saved is not None:
            import termios

            termios.tcsetattr(0, termios.TCSADRAIN, saved)


def enter_raw_mode(fd: int) -> Any:
    """Have the terminal `fd` pass on every key as it is (termios(3)); the settings that it had, to set them again."""
    import termios

    saved = termios.tcgetattr(fd)
    raw = termios.tcgetattr(fd)
    raw[0] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR
        | termios.ICRNL | termios.IXON
    )  # fmt: skip
    raw[1] &= ~termios.OPOST
    raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    termios.tcsetattr(fd, termios.TCSADRAIN, raw)
    return saved


def parse_detach_keys(text: str) -> bytes:
    """The bytes of a detach sequence as docker writes it: `ctrl-p,ctrl-q`, single characters in between."""
    from jubako.errors import UsageError

    keys = bytearray()
    for part in text.split(",") if text else ():
        if len(part) == 1:
            keys += part.encode()
        elif part.startswith("ctrl-") and len(part) == 6 and 64 <= ord(part[5].upper()) <= 95:
            keys.append(ord(part[5].upper()) - 64)
        else:
            raise UsageError("use --detach-keys", text, reason=f"unknown key {part!r}", hint="such as ctrl-p,ctrl-q")
    return bytes(keys)


def _find_keys(data: bytes, keys: bytes) -> tuple[bytes, bytes, bool]:
    """(what to pass on, what may be the beginning of the sequence, whether all of it was there)."""
    if keys in data:
        return data[: data.index(keys)], b"", True
    for length in range(min(len(keys) - 1, len(data)), 0, -1):
        if data.endswith(keys[:length]):
            return data[:-length], data[-length:], False
    return data, b"", False


def _note(_number: int, _frame: object) -> None:
    """A handler, so that the signal ends no system call unseen: the wake-up descriptor tells which it was."""
