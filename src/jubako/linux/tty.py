"""Pseudo terminals: pts(4), ioctl_tty(2), termios(3)."""

from __future__ import annotations

import fcntl
import os
from _struct import pack, unpack  # `array` would import all of `collections`

TIOCGPTPEER = 0x5441
TIOCSPTLCK = 0x40045431
TIOCSCTTY = 0x540E
TIOCGWINSZ = 0x5413
TIOCSWINSZ = 0x5414


def open_pty(ptmx: int) -> tuple[int, int]:
    """(master, slave) of a new pty; `ptmx` is an open descriptor of a devpts instance's ptmx and becomes the master.

    The slave is opened through the master (`TIOCGPTPEER`), never by a name that the container could have changed.
    """
    fcntl.ioctl(ptmx, TIOCSPTLCK, pack("i", 0))
    slave = fcntl.ioctl(ptmx, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    return ptmx, slave


def set_controlling_terminal(fd: int) -> None:
    """Make `fd` the controlling terminal of the caller's session (which the caller leads)."""
    fcntl.ioctl(fd, TIOCSCTTY, 0)


def window_size(fd: int) -> tuple[int, int]:
    """(rows, columns) of the terminal `fd`."""
    rows, columns, _x, _y = unpack("4H", fcntl.ioctl(fd, TIOCGWINSZ, bytes(8)))
    return rows, columns


def set_window_size(fd: int, rows: int, columns: int) -> None:
    """Resize the terminal `fd`; its foreground process group gets SIGWINCH."""
    fcntl.ioctl(fd, TIOCSWINSZ, pack("4H", rows, columns, 0, 0))
