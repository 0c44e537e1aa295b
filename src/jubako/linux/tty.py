"""Pseudo terminals: pts(4), ioctl_tty(2), termios(3)."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from _struct import pack, unpack  # `array` would import all of `collections`

from jubako.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2

DEVPTS_SUPER_MAGIC = 0x1CD1
TIOCGPTPEER = 0x5441
TIOCSPTLCK = 0x40045431
TIOCSCTTY = 0x540E
TIOCGWINSZ = 0x5413
TIOCSWINSZ = 0x5414


def open_multiplexer(devpts: int) -> int:
    """The `ptmx` of a devpts instance, whose root directory `devpts` names: opening anything else could do something.

    Nobody can make or rename a file in a devpts, so it is that device unless something is mounted over it.
    """
    try:
        fd = openat2(
            devpts, "ptmx", os.O_RDWR | os.O_NOCTTY, 0, RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS
        )
    except OSError as failure:
        if failure.errno != errno.ENOSYS:
            raise
        fd = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=devpts)
    status = os.fstat(fd)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(5, 2):
        os.close(fd)
        raise OSError(errno.ENODEV, "not a terminal multiplexer", "/dev/pts/ptmx")
    return fd


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
