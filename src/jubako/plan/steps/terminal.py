"""Steps for a terminal of the container's own: pts(4), ioctl_tty(2).

The pty is born in the container's devpts, so that its name means the same inside; the host's terminal is never
handed over, since whoever holds it can type into it (`TIOCSTI`).
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.linux import tty
from jubako.linux.mount import file_system_type
from jubako.linux.openat2 import open_in
from jubako.plan.step import INIT, RUNTIME, SUPERVISOR, Slots, Step, step
from jubako.plan.steps.nodes import bind_node, open_parent


@step(actor=INIT)
class OpenTerminal(Step):
    """A new pty in the container's own devpts; the master goes out to the supervisor."""

    rows: int = 0
    columns: int = 0

    needs = ("root",)
    produces = ("master", "slave")

    def apply(self, slots: Slots) -> None:
        ptmx = _open_multiplexer(slots["root"])
        slots["master"], slots["slave"] = tty.open_pty(ptmx)
        if self.rows and self.columns:
            tty.set_window_size(ptmx, self.rows, self.columns)
        parent, name = open_parent(slots, "/dev/console")
        try:
            bind_node(parent, name, os.dup(slots["slave"]), "/dev/console", 0o620)
        finally:
            os.close(parent)

    def call(self) -> str:
        size = f"ioctl(master, TIOCSWINSZ, {{{self.rows}, {self.columns}}}); " if self.rows and self.columns else ""
        return (
            'openat2(root, "/dev/pts", O_PATH|O_DIRECTORY, RESOLVE_IN_ROOT); fstatfs(pts); '
            'openat2(pts, "ptmx", O_RDWR|O_NOCTTY, RESOLVE_NO_XDEV); ioctl(master, TIOCSPTLCK, 0); '
            f'ioctl(master, TIOCGPTPEER); {size}mount(slave, "/dev/console", NULL, MS_BIND, NULL)'
        )

    def operation(self) -> str:
        return "open a terminal in"

    def subject(self) -> str:
        return "/dev/pts"


@step(actor=SUPERVISOR)
class TakeTerminal(Step):
    """The supervisor holds the master: it relays, logs and resizes."""

    needs = ("master",)

    def apply(self, slots: Slots) -> None:
        os.set_blocking(slots["master"], False)

    def call(self) -> str:
        return "recvmsg(SCM_RIGHTS): the master"


@step(actor=RUNTIME)
class KeepTerminal(Step):
    """The process that was started holds the master: it is in the foreground and relays."""

    needs = ("master",)

    def apply(self, slots: Slots) -> None:
        os.set_blocking(slots["master"], False)

    def call(self) -> str:
        return "recvmsg(SCM_RIGHTS): the master"


@step(actor=INIT)
class UseTerminal(Step):
    """The slave becomes the session's controlling terminal and the standard streams."""

    needs = ("slave",)

    def apply(self, slots: Slots) -> None:
        slots.close("master")
        slave = slots["slave"]
        tty.set_controlling_terminal(slave)
        for number in range(3):
            os.dup2(slave, number, inheritable=True)
        slots.close("slave")

    def call(self) -> str:
        return "ioctl(slave, TIOCSCTTY); dup2(slave, 0); dup2(slave, 1); dup2(slave, 2)"


@step(actor=INIT)
class OpenJoinedTerminal(Step):
    """A new pty in the devpts of a container that is already running."""

    rows: int = 0
    columns: int = 0

    produces = ("master", "slave")

    def apply(self, slots: Slots) -> None:
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            ptmx = _open_multiplexer(root)
        finally:
            os.close(root)
        slots["master"], slots["slave"] = tty.open_pty(ptmx)
        if self.rows and self.columns:
            tty.set_window_size(ptmx, self.rows, self.columns)

    def call(self) -> str:
        opened = 'openat2("/dev/pts", O_PATH|O_DIRECTORY); fstatfs(pts); openat2(pts, "ptmx", O_RDWR|O_NOCTTY)'
        return f"{opened}; ioctl(master, TIOCSPTLCK, 0); ioctl(master, TIOCGPTPEER)"


@step(actor=INIT)
class OwnStreams(Step):
    """Pipes and terminals belong to the program's user, so that it can open /dev/stdout again (as runc does)."""

    needs = ("user",)

    def apply(self, slots: Slots) -> None:
        user = slots["user"]
        if not user.uid:
            return
        for number in range(3):
            try:
                status = os.fstat(number)
                if stat.S_ISFIFO(status.st_mode) or os.isatty(number):
                    os.fchown(number, user.uid, -1)
            except OSError:  # not ours to give away: the program can still use the descriptor it has
                continue

    def call(self) -> str:
        return "fchown(0, uid, -1); fchown(1, uid, -1); fchown(2, uid, -1)"


def _open_multiplexer(root: int) -> int:
    """What makes terminals in the devpts at /dev/pts below `root`."""
    pts = open_in(root, "/dev/pts", os.O_PATH | os.O_DIRECTORY)
    try:
        if file_system_type(pts) != tty.DEVPTS_SUPER_MAGIC:
            raise OSError(errno.ENODEV, "there is no devpts", "/dev/pts")
        return tty.open_multiplexer(pts)
    finally:
        os.close(pts)
