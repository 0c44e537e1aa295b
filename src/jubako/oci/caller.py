"""What the caller hands over, and what it is handed: the console's socket, the pid file, activated sockets."""

from __future__ import annotations

import _socket
import os
from _struct import pack
from errno import EAGAIN

from jubako.errors import JubakoError
from jubako.linux import scm
from jubako.record import replace
from jubako.spec.environment import last_wins
from jubako.spec.types import Process

CONSOLE_PATIENCE = 5
"""Seconds that who listens at --console-socket gets to accept."""


def connect_console(path: str) -> scm.Socket:
    """A connection to the socket at which the caller waits for the terminal."""
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        # Where nobody accepts, the queue may be full, and connect(2) would wait for ever.
        socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, pack("ll", CONSOLE_PATIENCE, 0))
        socket.connect(path)
    except OSError as failure:
        socket.close()
        hint = f"nobody has accepted a connection there for {CONSOLE_PATIENCE} s" if failure.errno == EAGAIN else ""
        raise JubakoError.from_os_error("connect to --console-socket", path, failure, hint) from failure
    return socket


def listen_fds() -> int:
    """How many sockets of systemd's socket activation come with the caller (sd_listen_fds(3))."""
    text = os.environ.get("LISTEN_FDS", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0


def with_sockets(program: Process) -> Process:
    """`program` told of the sockets that are passed to it. As `create` has it, it is process 1."""
    count = listen_fds()
    if not count:
        return program
    return replace(program, env=last_wins((*program.env, f"LISTEN_FDS={count}", "LISTEN_PID=1")))


def write_pid_file(path: str, pid: int) -> None:
    """The pid as text, whole: who waits for the file reads all of it."""
    temporary = f"{os.path.dirname(os.path.abspath(path))}/.{os.path.basename(path)}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, str(pid).encode())
        finally:
            os.close(fd)
        try:
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError as failure:
        raise JubakoError.from_os_error("write --pid-file", path, failure) from failure
