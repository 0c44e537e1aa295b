"""Steps that arrange the fake root's mounts: propagation, /proc, /sys, the detached network, resolv.conf and hosts."""

from __future__ import annotations

import errno
import os

from jubako.errors import JubakoError
from jubako.linux import clone, mount, scm
from jubako.linux.netlink import set_link_up
from jubako.plan.step import INIT, Slots, Step, quote, step

_SAFE = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC
_GROUPS = "/sys/fs/cgroup"


@step(actor=INIT)
class SetPropagation(Step):
    """Whether mounts of the host appear here, and mounts made here are passed on (mount_namespaces(7))."""

    flags: int

    def apply(self, slots: Slots) -> None:
        mount.mount(None, "/", None, self.flags)

    def call(self) -> str:
        return f'mount(NULL, "/", NULL, {mount.flag_names(self.flags)}, NULL)'


@step(actor=INIT)
class HoldNetwork(Step):
    """The supervisor will connect the network namespace, and needs a descriptor of it. Its loopback device comes up."""

    produces = ("network",)

    def apply(self, slots: Slots) -> None:
        set_link_up("lo")
        slots["network"] = clone.open_namespace("self", "network")

    def call(self) -> str:
        return 'ioctl(socket, SIOCSIFFLAGS, {"lo", IFF_UP}); open("/proc/self/ns/net", O_RDONLY)'


@step(actor=INIT)
class DetachNetwork(Step):
    """A network namespace that nobody is in: a child makes it and ends, and a mount keeps it. The program stays in the
    host's, since nobody may go back to that who has left it."""

    produces = ("network",)

    def apply(self, slots: Slots) -> None:
        here, there = scm.pair()
        pid = os.fork()
        if pid == 0:
            _make_network(there)
        there.close()
        try:
            told, descriptors = scm.receive(here)
        finally:
            here.close()
            os.waitpid(pid, 0)
        if not descriptors:
            number = int(told or b"0")
            raise OSError(number or errno.EIO, os.strerror(number or errno.EIO))
        slots["network"] = descriptors[0]

    def call(self) -> str:
        return 'fork(); the child: unshare(CLONE_NEWNET); ioctl(SIOCSIFFLAGS, {"lo", IFF_UP}); sendmsg(SCM_RIGHTS)'

    def operation(self) -> str:
        return "make the detached network namespace"


def _make_network(there: scm.Socket) -> None:
    try:
        clone.unshare(clone.CLONE_NEWNET)
        set_link_up("lo")
        fd = clone.open_namespace("self", "network")
        scm.send(there, b"0", (fd,))
    except OSError as failure:
        scm.send(there, str(failure.errno or 0).encode())
    finally:
        os._exit(0)


@step(actor=INIT)
class KeepNetwork(Step):
    """The detached network namespace gets a name, at which programs find it."""

    path: str

    needs = ("network",)

    def apply(self, slots: Slots) -> None:
        os.close(os.open(self.path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        mount.mount(f"/proc/self/fd/{slots['network']}", self.path, None, mount.MS_BIND)

    def call(self) -> str:
        return f"creat({quote(self.path)}); mount(network, {quote(self.path)}, NULL, MS_BIND, NULL)"

    def subject(self) -> str:
        return self.path


@step(actor=INIT)
class MountProc(Step):
    """A /proc that shows the new PID namespace."""

    def apply(self, slots: Slots) -> None:
        mount.mount("proc", "/proc", "proc", _SAFE)

    def call(self) -> str:
        return f'mount("proc", "/proc", "proc", {mount.flag_names(_SAFE)}, NULL)'

    def operation(self) -> str:
        return "mount proc on"

    def subject(self) -> str:
        return "/proc"

    def hint(self, errno: int) -> str:
        return "the existing /proc is partly covered, as in a container: leave out --pidns, or see jubako doctor"


@step(actor=INIT)
class MountSys(Step):
    """A /sys that shows the new network namespace's devices; the control groups stay where they were."""

    groups: bool
    """Whether the control groups are kept; they are mounted anew for a namespace of their own."""

    def apply(self, slots: Slots) -> None:
        groups = -1
        if self.groups and os.path.isdir(_GROUPS):
            groups = mount.open_tree(mount.AT_FDCWD, _GROUPS, mount.OPEN_TREE_CLONE | mount.AT_RECURSIVE)
        try:
            if _mount_sys() and groups >= 0:
                mount.move_mount(groups, mount.AT_FDCWD, _GROUPS)
        finally:
            if groups >= 0:
                os.close(groups)

    def call(self) -> str:
        new = f'mount("sysfs", "/sys", "sysfs", {mount.flag_names(_SAFE)}, NULL)'
        if not self.groups:
            return new
        tree = f'open_tree(AT_FDCWD, "{_GROUPS}", OPEN_TREE_CLONE|AT_RECURSIVE)'
        return f'{tree}; {new}; move_mount(groups, "", AT_FDCWD, "{_GROUPS}", MOVE_MOUNT_F_EMPTY_PATH)'

    def operation(self) -> str:
        return "mount sysfs on"

    def subject(self) -> str:
        return "/sys"


def _mount_sys() -> bool:
    """Read-only where the kernel wants it so; the host's stays where it is partly covered, which is told."""
    for flags in (_SAFE, _SAFE | mount.MS_RDONLY):
        try:
            mount.mount("sysfs", "/sys", "sysfs", flags)
            return True
        except PermissionError:
            continue
    text = "jubako: warning: /sys stays the host's, and shows its network devices: a new one is refused here\n"
    os.write(2, text.encode())
    return False


@step(actor=INIT)
class MountGroups(Step):
    """The control group that this process began in is the root of what it sees (cgroup_namespaces(7))."""

    over: bool
    """Whether the host's tree lies there still, and has to be covered first: it would be busy."""

    def apply(self, slots: Slots) -> None:
        if self.over:
            mount.mount("none", _GROUPS, "tmpfs", _SAFE)
        mount.mount("none", _GROUPS, "cgroup2", _SAFE)

    def call(self) -> str:
        flags = mount.flag_names(_SAFE)
        over = f'mount("none", "{_GROUPS}", "tmpfs", {flags}, NULL); ' if self.over else ""
        return f'{over}mount("none", "{_GROUPS}", "cgroup2", {flags}, NULL)'

    def operation(self) -> str:
        return "mount cgroup2 on"

    def subject(self) -> str:
        return _GROUPS


@step(actor=INIT)
class BindFile(Step):
    """A file of the state directory takes the place of the host's, which names servers that cannot be reached here."""

    source: str
    target: str
    fresh: bool
    """Whether the target lies in a directory that was copied up: there a link becomes a file of its own."""

    def apply(self, slots: Slots) -> None:
        if self.fresh:
            try:
                os.unlink(self.target)
            except FileNotFoundError:
                pass
            os.close(os.open(self.target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        elif not os.path.exists(self.target):
            raise JubakoError(
                "bind", f"{self.source} on {self.target}", reason="the file is not there, or a link that leads nowhere",
                hint="add --copy-up=/etc",
            )  # fmt: skip
        mount.mount(self.source, self.target, None, mount.MS_BIND)

    def call(self) -> str:
        fresh = f"unlink({quote(self.target)}); creat({quote(self.target)}); " if self.fresh else ""
        return f"{fresh}mount({quote(self.source)}, {quote(self.target)}, NULL, MS_BIND, NULL)"

    def operation(self) -> str:
        return "bind"

    def subject(self) -> str:
        return f"{self.source} on {self.target}"
