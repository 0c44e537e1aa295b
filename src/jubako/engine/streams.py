"""Which streams a program inside gets: the caller's own where that is safe and nobody logs, else pipes or a pty.

A terminal of the host is never handed over: whoever holds it could type into it (`TIOCSTI`) and read what is typed. A
directory as a standard stream is refused: through /proc/self/fd it opens the host's tree.
"""

from __future__ import annotations

import os
import stat

from jubako.errors import UsageError
from jubako.plan.step import Slots
from jubako.record import record
from jubako.runtime.caller import Relay, parse_detach_keys
from jubako.runtime.monitor import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMES = ("stdin", "stdout", "stderr")


@record
class StreamRequest:
    """What the caller wants: `open_input` keeps standard input open, `send_input` feeds it from here, `show_output`
    sends output here; `log` and `log_limit` are the log's path (empty: none) and size."""

    terminal: bool = False
    detach: bool = False
    open_input: bool = False
    send_input: bool = False
    show_output: bool = True
    log: str = ""
    log_limit: int = 0
    detach_keys: str = ""
    sig_proxy: bool = True
    own_terminal: bool = False
    """The caller itself gets the pty's master: nobody relays, nobody logs."""


class Streams:
    """The descriptors of one start. `ours` stay in the caller's process, `theirs` go to supervisor and program."""

    def __init__(self, request: StreamRequest, slots: Slots) -> None:
        self.request = request
        self.slots = slots
        self.ours: list[int] = []
        self.theirs: list[int] = []
        self.watch: dict[str, Any] = {"log": request.log, "log_limit": request.log_limit, "detached": request.detach}
        self.relay: dict[str, Any] = {"forward_signals": request.sig_proxy}
        self.names: tuple[str, str, str] | tuple[()] = ()
        check_streams()
        if request.terminal:
            self._terminal()
            return
        self.names = ("stdin", "stdout", "stderr")
        slots["stdin"] = self._input()
        slots["stdout"] = self._output(1)
        slots["stderr"] = self._output(2)

    def watched(self, directory: str, timeout: int = 0) -> Watch:
        """What the supervisor is told."""
        return Watch(directory=directory, timeout=timeout, **self.watch)

    def relayed(self) -> Relay:
        """What the caller's process copies."""
        return Relay(**self.relay)

    def close_theirs(self) -> None:
        """In the caller's process: these belong to the others now."""
        for fd in self.theirs:
            os.close(fd)
        self.theirs = []

    def close_ours(self) -> None:
        """In the others' processes, or when the start has failed."""
        for fd in self.ours:
            os.close(fd)
        self.ours = []

    def _input(self) -> int:
        request = self.request
        if not request.open_input or (not request.send_input and not request.detach):
            fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            self.theirs.append(fd)
            return fd
        if request.detach and request.log:
            reader, writer = self._pipe()
            self.theirs += [reader, writer]
            self.watch["stdin"] = writer
            return reader
        if os.isatty(0):
            reader, writer = self._pipe()
            self.theirs.append(reader)
            self._feed(writer)
            return reader
        return 0

    def _output(self, number: int) -> int:
        request = self.request
        if not request.log and not request.detach and not os.isatty(number):
            return number
        reader, writer = self._pipe()
        self.theirs.append(writer)
        if not request.log and not request.detach:
            self.ours.append(reader)
            self.relay["output" if number == 1 else "error"] = reader
            return writer
        self.theirs.append(reader)
        self.watch[NAMES[number]] = reader
        if not request.detach and request.show_output:
            copy = os.dup(number)
            self.theirs.append(copy)
            self.watch["out" if number == 1 else "err"] = copy
        return writer

    def _terminal(self) -> None:
        request = self.request
        if request.detach:
            return
        self.relay["terminal"] = True
        self.relay["detach_keys"] = parse_detach_keys(request.detach_keys)
        if request.own_terminal:
            self.relay["send_input"] = request.send_input
            return
        reader, writer = self._pipe()
        self.ours.append(reader)
        self.theirs.append(writer)
        self.relay["output"] = reader
        self.watch["out"] = writer
        if request.send_input:
            reader, writer = self._pipe()
            self.theirs.append(reader)
            self._feed(writer)
            self.watch["feed"] = reader

    def _feed(self, writer: int) -> None:
        os.set_blocking(writer, False)
        self.ours.append(writer)
        self.relay["input"] = writer

    def _pipe(self) -> tuple[int, int]:
        return os.pipe2(os.O_CLOEXEC)


def check_streams() -> None:
    """Refuse directories as standard streams; a closed one becomes /dev/null, so that its number is not reused."""
    for number, name in enumerate(("input", "output", "error")):
        try:
            mode = os.fstat(number).st_mode
        except OSError:
            os.open("/dev/null", os.O_RDWR)
            continue
        if stat.S_ISDIR(mode):
            raise UsageError(
                f"use standard {name}", f"(descriptor {number})", reason="it is a directory",
                hint="a program inside could list the host through it: give a file, a pipe or /dev/null",
            )  # fmt: skip
