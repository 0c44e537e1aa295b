"""Steps that set the container's first process apart: session, streams, keyring, limits, kernel parameters.

Sources: setsid(2), session-keyring(7), getrlimit(2), prctl(2), OCI runtime-spec 1.2 config, section Process.
"""

from __future__ import annotations

import _signal
import errno
import os

from jubako.linux import prctl
from jubako.linux.keyring import join_new_session_keyring
from jubako.linux.rlimit import set_rlimit
from jubako.plan.step import Slots, Step, quote, step

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

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.slots

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
        return f"write({quote('/proc/sys/' + self.name.replace('.', '/'))}, {quote(self.value)})"

    def operation(self) -> str:
        return "set the kernel parameter"

    def subject(self) -> str:
        return self.name


@step()
class HideProcess(Step):
    """Root of the container must not read this interpreter's memory, descriptors and executable (CVE-2019-5736)."""

    def apply(self, slots: Slots) -> None:
        prctl.set_dumpable(False)

    def call(self) -> str:
        return "prctl(PR_SET_DUMPABLE, 0)"


def reset_signals() -> None:
    """Every signal's default disposition, an empty mask: Python ignores SIGPIPE and SIGXFSZ, and execve keeps that."""
    for number in range(1, _signal.NSIG):
        if number in (9, 19, 32, 33):  # SIGKILL, SIGSTOP and the two that the C library keeps for itself
            continue
        if _signal.getsignal(number) != _signal.SIG_DFL:  # known since the interpreter's start: no system call
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
