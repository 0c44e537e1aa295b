"""`--pidfile`: where the pid of the container's first process is written, for whoever supervises by it."""

from __future__ import annotations

import os

from jubako.errors import JubakoError


def prepare_pid_file(path: str) -> None:
    """Make the file, empty, before anything starts: a place that cannot be written is refused in time."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644))
    except OSError as failure:
        raise JubakoError.from_os_error("write --pidfile", path, failure) from failure


def write_pid_file(path: str, pid: int) -> None:
    """Write the pid as the host sees it, whole: whoever waits for the file never reads half a number."""
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, f"{pid}\n".encode())
    finally:
        os.close(fd)
    os.rename(temporary, path)
