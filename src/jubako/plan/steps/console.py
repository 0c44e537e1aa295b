"""The terminal of a bundle's container: as `terminal.OpenTerminal`, in a root that may be in hostile hands.

The multiplexer must be one, and neither it nor the console may be reached through a link (CVE-2025-52565).
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.linux.openat2 import open_plain_in
from jubako.plan.step import INIT, Slots, step
from jubako.plan.steps.devices import bind_node, open_parent
from jubako.plan.steps.terminal import OpenTerminal

_MULTIPLEXER = os.makedev(5, 2)


@step(actor=INIT)
class OpenPlainTerminal(OpenTerminal):
    """A new pty in the container's own devpts; it is the console too, where no link is in the console's place."""

    def _open_multiplexer(self, slots: Slots) -> int:
        # Not opened for use before it is known to be the device: to open another may do something.
        fd = open_plain_in(slots["root"], "/dev/pts/ptmx", os.O_PATH)
        try:
            status = os.fstat(fd)
            if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _MULTIPLEXER:
                raise OSError(errno.ENODEV, "not a terminal multiplexer", "/dev/pts/ptmx")
            return os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        finally:
            os.close(fd)

    def _show_as_console(self, slots: Slots) -> None:
        parent, name = open_parent(slots, "/dev/console")
        try:
            bind_node(parent, name, os.dup(slots["slave"]), "/dev/console")
        finally:
            os.close(parent)

    def hint(self, errno_: int) -> str:
        if errno_ == errno.ELOOP:
            return "a symbolic link is in the place of /dev/pts/ptmx or /dev/console"
        return "the bundle mounts no devpts at /dev/pts" if errno_ in (errno.ENOENT, errno.ENODEV) else ""
