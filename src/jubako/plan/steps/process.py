"""Steps that turn the container's first process into the program: session, limits, user, capabilities, exec.

Sources: credentials(7), capabilities(7), prctl(2), seccomp(2), OCI runtime-spec 1.2 config, section Process.
"""

from __future__ import annotations

import errno
import os
import stat

import _signal

from jubako.errors import JubakoError, StepError
from jubako.linux import caps, prctl
from jubako.linux.descriptors import close_all_but
from jubako.linux.keyring import join_new_session_keyring
from jubako.linux.openat2 import RESOLVE_NO_MAGICLINKS, openat2
from jubako.linux.rlimit import set_rlimit
from jubako.linux.seccomp import filter_and_exec
from jubako.plan.program import find_program, program_error
from jubako.plan.step import Slots, Step, quote, step
from jubako.spec.passwd import ResolvedUser, lookup_groups, lookup_user
from jubako.spec.types import Capabilities

_BIG_FILE = 1 << 24
_INFINITY = (1 << 63) - 1  # and RLIM_INFINITY itself, as an unsigned number


@step()
class BeginSession(Step):
    """A session of its own, without the caller's terminal, and the signal dispositions that programs expect."""

    def apply(self, slots: Slots) -> None:
        os.setsid()
        reset_signals()

    def call(self) -> str:
        return "setsid(); for each signal: sigaction(SIG_DFL); sigprocmask(SIG_SETMASK, {})"


@step()
class ConnectStreams(Step):
    """The streams made for the container become its standard input, output and error."""

    slots: tuple[str, str, str]

    def apply(self, slots: Slots) -> None:
        chosen = [slots[name] for name in self.slots]
        for number, fd in enumerate(chosen):
            if fd != number:
                os.dup2(fd, number, inheritable=True)
            else:
                os.set_inheritable(fd, True)

    def call(self) -> str:
        return "; ".join(f"dup2({name}, {number})" for number, name in enumerate(self.slots))


@step()
class NewSessionKeyring(Step):
    """Keys of the caller's session keyring are not the container's to read."""

    def apply(self, slots: Slots) -> None:
        try:
            join_new_session_keyring()
        except OSError as failure:  # a kernel without keys, or a filter around us that forbids the call
            if failure.errno not in (errno.ENOSYS, errno.EPERM):
                raise

    def call(self) -> str:
        return "keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)"

    def hint(self, errno_: int) -> str:
        return "the user's quota of keys is used up: see kernel.keys.maxkeys" if errno_ == errno.EDQUOT else ""


@step()
class SetRlimit(Step):
    """One resource limit of the program (setrlimit(2))."""

    name: str
    soft: int
    hard: int

    def apply(self, slots: Slots) -> None:
        set_rlimit(self.name, self.soft, self.hard)

    def call(self) -> str:
        soft, hard = ("RLIM_INFINITY" if value >= _INFINITY else str(value) for value in (self.soft, self.hard))
        return f"prlimit64(0, {self.name}, {{{soft}, {hard}}}, NULL)"

    def subject(self) -> str:
        return self.name

    def hint(self, errno_: int) -> str:
        return "the hard limit of the caller cannot be raised without CAP_SYS_RESOURCE on the host"


@step()
class SetOomScore(Step):
    """How soon the kernel picks the container when memory runs out (proc(5), oom_score_adj)."""

    value: int

    def apply(self, slots: Slots) -> None:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(self.value).encode())
        finally:
            os.close(fd)

    def call(self) -> str:
        return f'write("/proc/self/oom_score_adj", "{self.value}")'

    def hint(self, errno_: int) -> str:
        return "a value below the caller's own wants CAP_SYS_RESOURCE on the host"


@step()
class WriteSysctl(Step):
    """A kernel parameter of the container's own namespaces, through the host's /proc, which no image can have faked."""

    name: str
    value: str

    def apply(self, slots: Slots) -> None:
        path = "/proc/sys/" + self.name.replace(".", "/")
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, self.value.encode())
        except OSError as failure:
            failure.filename = path
            raise
        finally:
            os.close(fd)

    def call(self) -> str:
        return f'write("/proc/sys/{self.name.replace(".", "/")}", {quote(self.value)})'

    def operation(self) -> str:
        return "set the kernel parameter"

    def subject(self) -> str:
        return self.name


@step()
class ResolveUser(Step):
    """Names are looked up in the container's own passwd and group files, as hostile as the rest of it."""

    user: str
    groups: tuple[str, ...] = ()

    produces = ("user",)

    def apply(self, slots: Slots) -> None:
        passwd, group = _read_inside("/etc/passwd"), _read_inside("/etc/group")
        found = lookup_user(self.user, passwd, group)
        extra = lookup_groups(self.groups, group)
        groups = tuple(dict.fromkeys((*found.additional_gids, *extra)))
        slots["user"] = ResolvedUser(found.uid, found.gid, groups, found.home, found.name)

    def call(self) -> str:
        return 'openat2("/etc/passwd", RESOLVE_NO_MAGICLINKS); openat2("/etc/group", RESOLVE_NO_MAGICLINKS)'

    def purpose(self) -> str:
        also = f" and the groups {' '.join(self.groups)}" if self.groups else ""
        return f"Look up the user {self.user or '0'}{also} in the container's own files, as hostile as the rest of it"

    def operation(self) -> str:
        return "look up user"

    def subject(self) -> str:
        return self.user


@step()
class CloseDescriptors(Step):
    """Whatever else is open is closed before the working directory is entered: none of the host's may be reached."""

    keep: int = 3

    def apply(self, slots: Slots) -> None:
        close_all_but((*range(self.keep), slots["channel"]))

    def call(self) -> str:
        return f"close_range({self.keep}, ~0U, 0)"

    def purpose(self) -> str:
        return (
            "Whatever else is open is closed, but for the link to the supervisor, which closes on exec: no descriptor"
            " of the host may lead out of the container (CVE-2024-21626)"
        )


@step()
class EnterDirectory(Step):
    """The working directory, made if it is missing; it must be reachable from the container's root (CVE-2024-21626)."""

    path: str
    create: bool = True

    def apply(self, slots: Slots) -> None:
        try:
            self._enter()
        except FileNotFoundError:
            if not self.create:
                raise
            os.makedirs(self.path, 0o755, exist_ok=True)
            user = slots["user"]
            if user.uid:
                os.chown(self.path, user.uid, user.gid)
            self._enter()
        check_directory(self.path)

    def _enter(self) -> None:
        fd = openat2(-100, self.path, os.O_PATH | os.O_DIRECTORY, 0, RESOLVE_NO_MAGICLINKS)
        try:
            os.fchdir(fd)
        finally:
            os.close(fd)

    def call(self) -> str:
        return f"openat2({quote(self.path)}, O_PATH|O_DIRECTORY, RESOLVE_NO_MAGICLINKS); fchdir(fd); getcwd()"

    def operation(self) -> str:
        return "enter the working directory"

    def subject(self) -> str:
        return self.path

    def hint(self, errno_: int) -> str:
        return "it does not exist in the container, and its file system is read-only" if errno_ == errno.EROFS else ""


@step()
class SetUser(Step):
    """The program's ids and groups; capabilities that it shall have survive the change."""

    keep_capabilities: bool
    umask: int = 0o022
    change_groups: bool = True

    needs = ("user",)

    def apply(self, slots: Slots) -> None:
        user: ResolvedUser = slots["user"]
        if self.change_groups:
            os.setgroups(user.additional_gids)
        if self.keep_capabilities:
            prctl.prctl(prctl.PR_SET_KEEPCAPS, 1)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        os.umask(self.umask)

    def call(self) -> str:
        groups = "setgroups(groups); " if self.change_groups else ""
        keep = "prctl(PR_SET_KEEPCAPS, 1); " if self.keep_capabilities else ""
        return f"{groups}{keep}setresgid(gid, gid, gid); setresuid(uid, uid, uid); umask({self.umask:04o})"

    def operation(self) -> str:
        return "become the container's user"

    def hint(self, errno_: int) -> str:
        if errno_ == errno.EINVAL:
            return (
                "an id of this user or of its groups is not mapped in the container:"
                " give more subordinate ids, or another --user or --userns"
            )
        return "supplementary groups cannot be set in a single-id map" if errno_ == errno.EPERM else ""


@step()
class LimitCapabilities(Step):
    """No capability beyond these can be had again, not even by a set-uid program: the bounding set comes first."""

    bounding: tuple[str, ...]

    def apply(self, slots: Slots) -> None:
        caps.limit_bounding(caps.mask(self.bounding))

    def call(self) -> str:
        return "for each capability not in the list: prctl(PR_CAPBSET_DROP, capability)"

    def purpose(self) -> str:
        kept = _capabilities(self.bounding)
        return f"Beyond these no capability can be had again, not even by a set-uid program: {kept}"


@step()
class SetCapabilities(Step):
    """The effective, permitted, inheritable and ambient sets of the program (capabilities(7))."""

    sets: Capabilities
    with_admin: bool = False
    """Keep CAP_SYS_ADMIN until execve(2), which takes it away: loading a filter without no_new_privs wants it."""

    def apply(self, slots: Slots) -> None:
        extra = caps.mask(("CAP_SYS_ADMIN",)) if self.with_admin else 0
        sets = self.sets
        caps.capset(caps.mask(sets.effective) | extra, caps.mask(sets.permitted) | extra, caps.mask(sets.inheritable))
        caps.set_ambient(caps.mask(sets.ambient))

    def call(self) -> str:
        sets, masks = self.sets, {}
        for name in ("effective", "permitted", "inheritable"):
            masks[name] = caps.mask(getattr(sets, name))
            if self.with_admin and name != "inheritable":
                masks[name] |= caps.mask(("CAP_SYS_ADMIN",))
        ambient = "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)"
        if sets.ambient:
            ambient += "; for each: prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)"
        return f"capset({{{', '.join(f'{name}={mask:#x}' for name, mask in masks.items())}}}); {ambient}"

    def purpose(self) -> str:
        sets = self.sets
        if sets.effective == sets.permitted == sets.inheritable == sets.ambient:
            return f"The program's capabilities, in all four sets: {_capabilities(sets.effective)}"
        ambient = f", ambient {_capabilities(sets.ambient)}" if sets.ambient else ", none ambient"
        return (
            f"The program's capabilities: effective {_capabilities(sets.effective)}; permitted"
            f" {'the same' if sets.permitted == sets.effective else _capabilities(sets.permitted)}; inheritable"
            f" {'the same' if sets.inheritable == sets.effective else _capabilities(sets.inheritable)}{ambient}"
        )


@step()
class SetNoNewPrivileges(Step):
    """From here on no execve gains privileges: set-uid bits and file capabilities are without force."""

    def apply(self, slots: Slots) -> None:
        prctl.set_no_new_privs()

    def call(self) -> str:
        return "prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)"


@step()
class HideProcess(Step):
    """Root of the container must not read this interpreter's memory, descriptors and executable (CVE-2019-5736)."""

    def apply(self, slots: Slots) -> None:
        prctl.set_dumpable(False)

    def call(self) -> str:
        return "prctl(PR_SET_DUMPABLE, 0)"


@step()
class FilterAndExec(Step):
    """The system call filter and the program, back to back: between the two nothing else runs."""

    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    filter: bytes = b""
    filter_flags: int = 0
    guard_interpreter: bool = False

    needs = ("user",)

    def apply(self, slots: Slots) -> None:
        user: ResolvedUser = slots["user"]
        environment = self.environment
        if not any(entry.startswith("HOME=") for entry in environment):
            environment = (*environment, f"HOME={user.home}")
        program = find_program(self.arguments[0], environment)
        target = program.interpreter_path or program.path
        arguments = self.arguments
        if self.guard_interpreter:
            # Ours could be written from inside: exec what was verified, by descriptor, so that no path is looked up again.
            target, arguments = program.open_verified(arguments)
        path = target if self.guard_interpreter else program.path
        number = filter_and_exec(self.filter, path, arguments, environment, self.filter_flags)
        raise program_error(self.arguments[0], number)

    def call(self) -> str:
        arguments = ", ".join(map(quote, self.arguments))
        name = self.arguments[0]
        path = quote(name if "/" in name else "…/" + name)
        flags = f"{self.filter_flags:#x}" if self.filter_flags else "0"
        loading = f"seccomp(SECCOMP_SET_MODE_FILTER, {flags}, {{{len(self.filter) // 8} instructions}}); "
        return f"{loading if self.filter else ''}execve({path}, [{arguments}], {{{len(self.environment)} variables}})"

    def purpose(self) -> str:
        filtered = "The system call filter and the program, back to back: between the two nothing else runs"
        if not self.filter:
            filtered = "The program takes this process's place; there is no system call filter"
        names = " ".join(entry.partition("=")[0] for entry in self.environment)
        found = "" if "/" in self.arguments[0] else "; it is searched along PATH, in the container"
        return f"{filtered}{found}. Its variables: {names or 'none'}"

    def operation(self) -> str:
        return "execute"

    def subject(self) -> str:
        return self.arguments[0]


def reset_signals() -> None:
    """Every signal's default disposition and an empty mask: Python ignores SIGPIPE and SIGXFSZ, and execve would keep it."""
    for number in range(1, _signal.NSIG):
        if number in (9, 19, 32, 33):  # SIGKILL, SIGSTOP and the two that the C library keeps for itself
            continue
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _capabilities(names: tuple[str, ...]) -> str:
    return " ".join(sorted(name.removeprefix("CAP_").lower() for name in names)) or "none"


def check_directory(path: str) -> None:
    """Refuse a working directory that is not below the container's root: a leaked descriptor led to the host."""
    try:
        here = os.getcwd()
    except FileNotFoundError:
        here = "(unreachable)"
    if not here.startswith("/"):
        raise StepError("enter the working directory", path, reason="it lies outside of the container's root")


def _read_inside(path: str) -> bytes:
    """The text of a regular file of the container; nothing if it is missing or no such file. A FIFO cannot make us wait."""
    try:
        fd = openat2(-100, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, 0, RESOLVE_NO_MAGICLINKS)
    except OSError as failure:
        if failure.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENXIO):
            return b""
        if failure.errno not in (errno.ENOSYS, errno.EPERM):
            raise JubakoError.from_os_error("read", path, failure) from failure
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        return b"".join(iter(lambda: file.read(1 << 16), b""))[:_BIG_FILE]
