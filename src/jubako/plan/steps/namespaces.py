"""Steps that make and join namespaces, and write id maps: namespaces(7), user_namespaces(7), time_namespaces(7)."""

from __future__ import annotations

import os

from jubako.linux import clone, netlink, uts
from jubako.plan.step import INIT, RUNTIME, SUPERVISOR, Slots, Step, quote, step


@step(actor=RUNTIME)
class JoinBase(Step):
    """Enter the user's base user namespace, whose full id map was written once: all capabilities, but only in there."""

    needs = ("base",)

    def apply(self, slots: Slots) -> None:
        join_user_namespace(slots["base"])

    def call(self) -> str:
        return "setns(base, CLONE_NEWUSER); prctl(PR_SET_DUMPABLE, 1)"

    def operation(self) -> str:
        return "join the base user namespace"


@step(actor=SUPERVISOR)
class JoinNamespace(Step):
    """Join an existing namespace from the base, before the container's own user namespace is made."""

    kind: str
    slot: str

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.slot,)

    def apply(self, slots: Slots) -> None:
        clone.setns(slots[self.slot], clone.FLAGS[self.kind])

    def call(self) -> str:
        return f"setns({self.slot}, {clone.flag_names(clone.FLAGS[self.kind])})"

    def purpose(self) -> str:
        return f"Enter an existing {self.kind} namespace, with the rights that this process has in the base"

    def operation(self) -> str:
        return "join the namespace"

    def subject(self) -> str:
        return self.kind

    def hint(self, errno: int) -> str:
        return "only namespaces below the caller's own user namespace can be joined" if errno == 1 else ""


@step(actor=SUPERVISOR)
class UnshareMounts(Step):
    """Give the supervisor a mount namespace of its own, so that what it prepares ends with it."""

    def apply(self, slots: Slots) -> None:
        from jubako.linux.mount import MS_REC, MS_SLAVE, mount

        clone.unshare(clone.CLONE_NEWNS)
        mount(None, "/", None, MS_REC | MS_SLAVE)

    def call(self) -> str:
        return 'unshare(CLONE_NEWNS); mount(NULL, "/", NULL, MS_REC|MS_SLAVE)'


@step(actor=SUPERVISOR)
class NewTimeNamespace(Step):
    """A time namespace with offsets: they must be written before its first process is born."""

    offsets: tuple[tuple[str, int, int], ...]

    def apply(self, slots: Slots) -> None:
        clone.unshare(clone.CLONE_NEWTIME)
        _write("/proc/self/timens_offsets", self._text().encode())

    def call(self) -> str:
        return f'unshare(CLONE_NEWTIME); write("/proc/self/timens_offsets", {quote(self._text())})'

    def _text(self) -> str:
        return "".join(f"{clock} {secs} {nanosecs}\n" for clock, secs, nanosecs in self.offsets)

    def operation(self) -> str:
        return "write the time offsets"


@step(actor=SUPERVISOR)
class WriteIdMaps(Step):
    """Say which ids of outside are the container's; the parent namespace's root may, so no set-uid helper is needed."""

    uid_map: str
    gid_map: str
    deny_setgroups: bool

    of = "init_pid"
    needs = (of,)

    def apply(self, slots: Slots) -> None:
        pid = slots[self.of]
        if self.deny_setgroups:
            _write(f"/proc/{pid}/setgroups", b"deny")
        _write(f"/proc/{pid}/uid_map", self.uid_map.encode())
        _write(f"/proc/{pid}/gid_map", self.gid_map.encode())

    def call(self) -> str:
        deny = 'write("/proc/PID/setgroups", "deny"); ' if self.deny_setgroups else ""
        uids, gids = quote(self.uid_map), quote(self.gid_map)
        return f'{deny}write("/proc/PID/uid_map", {uids}); write("/proc/PID/gid_map", {gids})'

    def operation(self) -> str:
        return "write the id maps"

    def subject(self) -> str:
        return self.uid_map.strip().replace("\n", ", ")

    def hint(self, errno: int) -> str:
        return "the ids outside must be mapped in the base user namespace (jubako info shows them)"


@step(actor=RUNTIME)
class WriteStageMaps(WriteIdMaps):
    """The stage makes the container's user namespace itself, to have the rights there that it lacks outside."""

    of = "supervisor_pid"
    needs = (of,)


@step(actor=INIT)
class TakeRootIds(Step):
    """Become id 0 of the new user namespace; until then this process owns nothing in it."""

    keep_groups: bool

    def apply(self, slots: Slots) -> None:
        if not self.keep_groups:
            try:
                os.setgroups([])
            except PermissionError:
                if not _denies_setgroups():
                    raise
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)

    def call(self) -> str:
        groups = "" if self.keep_groups else "setgroups(0, NULL); "
        return f"{groups}setresgid(0, 0, 0); setresuid(0, 0, 0)"


@step(actor=INIT)
class BringUpLoopback(Step):
    """A new network namespace has one device, lo, and it is down."""

    def apply(self, slots: Slots) -> None:
        netlink.set_link_up("lo")

    def call(self) -> str:
        return 'socket(AF_INET, SOCK_DGRAM, 0); ioctl(socket, SIOCSIFFLAGS, {"lo", IFF_UP})'


@step(actor=INIT)
class SetHostName(Step):
    """Give the UTS namespace its host name (sethostname(2))."""

    name: str

    def apply(self, slots: Slots) -> None:
        uts.set_host_name(self.name)

    def call(self) -> str:
        return f"sethostname({quote(self.name)}, {len(os.fsencode(self.name))})"

    def subject(self) -> str:
        return self.name


@step(actor=INIT)
class SetDomainName(Step):
    """Give the UTS namespace its domain name (setdomainname(2))."""

    name: str

    def apply(self, slots: Slots) -> None:
        uts.set_domain_name(self.name)

    def call(self) -> str:
        return f"setdomainname({quote(self.name)}, {len(os.fsencode(self.name))})"

    def subject(self) -> str:
        return self.name


@step(actor=INIT)
class UnshareCgroup(Step):
    """The cgroup the container was placed in becomes the root of what it sees (cgroup_namespaces(7))."""

    def apply(self, slots: Slots) -> None:
        clone.unshare(clone.CLONE_NEWCGROUP)

    def call(self) -> str:
        return "unshare(CLONE_NEWCGROUP)"


def join_user_namespace(fd: int) -> None:
    """Join the user namespace `fd`, and stay visible in /proc to ourselves.

    Gaining capabilities makes a process non-dumpable, and then its children's id maps could not be written. Nothing
    inside a container can reach a process of the base: its memory belongs to an outer user namespace.
    """
    from jubako.linux.prctl import set_dumpable

    clone.setns(fd, clone.CLONE_NEWUSER)
    set_dumpable(True)


def _denies_setgroups() -> bool:
    """Whether nobody may change groups in this user namespace, which was joined: one with a single id."""
    with open("/proc/self/setgroups", "rb", buffering=0) as file:
        return file.read(16).strip() == b"deny"


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    except OSError as failure:
        failure.filename = path
        raise
    finally:
        os.close(fd)
