"""criu, the program that writes processes to disk and makes them again (criu(8)): what it is asked for, and the
conversation with it.

It is started as `criu swrk`, a worker for whoever holds the other end of its socket: only so does it hand over the
terminal that it has made, and make the container a child of this process.
"""

from __future__ import annotations

import os

from jubako.errors import JubakoError, UsageError
from jubako.linux import scm
from jubako.linux.clone import CLONE_NEWNET
from jubako.linux.descriptors import close_all_but
from jubako.oci import criu_rpc as rpc
from jubako.oci.cgroups import is_rootless
from jubako.plan.steps.process import reset_signals
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jubako.oci.criu_rpc import Answer, Value
    from jubako.spec.types import Spec

LOG_LEVEL = 4
EXTERNAL = {"network": "extRootNetNS", "pid": "extRootPidNS"}
"""By which names a checkpoint knows namespaces that it does not hold: runc's and crun's."""

_OLDEST = 31500
"""criu 3.15 is the first that leaves PID namespaces of others alone."""
_CONFIGS = ("/etc/criu/jubako.conf", "/etc/criu/runc.conf")
_TOO_OLD = "criu before 4.1 does not know the address space of Linux 6.13 and later: install a newer one"


@record
class CriuOptions:
    """How criu is to work, for `checkpoint` and `restore` alike. `program` names it where it is not on PATH."""

    image_path: str = "checkpoint"
    work_path: str = ""
    program: str = ""
    tcp_established: bool = False
    ext_unix_sk: bool = False
    shell_job: bool = False
    file_locks: bool = False
    lazy_pages: bool = False
    auto_dedup: bool = False
    cgroups_mode: str = "soft"
    empty_ns: tuple[str, ...] = ()
    network_lock: str = ""


def find_criu(operation: str, subject: str, options: CriuOptions) -> str:
    """The path of the program. Raises `JubakoError` where it is not installed, or the caller may not use it."""
    if is_rootless():
        raise JubakoError(
            operation, subject, reason="criu needs the rights of the machine's root (CAP_SYS_ADMIN, CAP_SYS_PTRACE, …)",
            hint="an ordinary user's containers cannot be written or restored; root's can",
        )  # fmt: skip
    wanted = options.program or "criu"
    paths = (wanted,) if "/" in wanted else tuple(f"{place}/{wanted}" for place in (*os.get_exec_path(), "/usr/sbin"))
    for path in paths:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    raise JubakoError(
        operation, subject, reason=f"the program {wanted} is not installed",
        hint="install criu (apt-get install criu, dnf install criu), or name its file by jubako oci --criu FILE",
    )  # fmt: skip


def common_options(options: CriuOptions, annotations: dict[str, str]) -> Iterator[tuple[str, Value]]:
    """What criu is told for checkpoint and restore alike. Raises `UsageError`."""
    yield "log_level", LOG_LEVEL
    yield "notify_scripts", True
    yield "orphan_pts_master", True
    for name in ("tcp_established", "ext_unix_sk", "shell_job", "file_locks", "lazy_pages", "auto_dedup"):
        yield name, getattr(options, name)
    yield "manage_cgroups", True
    yield "manage_cgroups_mode", rpc.CGROUP_MODES[options.cgroups_mode]
    if options.network_lock:
        yield "network_lock", rpc.NETWORK_LOCKS[options.network_lock]
    for kind in options.empty_ns:
        if kind != "network":
            raise UsageError("use --empty-ns", kind, reason="only the network namespace can be left empty")
        yield "empty_ns", CLONE_NEWNET
    # The container's own settings, then this machine's: criu lets what they say win.
    settings = annotations.get("org.criu.config")
    if settings is None:
        settings = next((path for path in _CONFIGS if os.path.exists(path)), "")
    if settings:
        yield "config_file", settings


def refuse_joined(operation: str, subject: str, spec: Spec) -> None:
    """Raise `UsageError` for namespaces of others that criu cannot put a container into again."""
    for namespace in spec.linux.namespaces:
        if namespace.path and namespace.type not in rpc.NAMESPACES:
            raise UsageError(
                operation, subject, reason=f"criu cannot join the {namespace.type} namespace {namespace.path}",
                hint="take the path out of linux.namespaces",
            )  # fmt: skip


class Directories:
    """Where the images and criu's log are, opened; criu inherits the descriptors."""

    def __init__(self, options: CriuOptions, log: str, *, make: bool) -> None:
        self.opened: dict[int, str] = {}
        self.made: set[int] = set()
        self.images = self.work = self._open("--image-path", options.image_path, make)
        if options.work_path:
            self.work = self._open("--work-path", options.work_path, True)
        self.log = log
        self.log_path = f"{self.opened[self.work]}/{log}"

    def admit(self, gid: int) -> None:
        """Let who has the group `gid`, and root, get at the images in a directory that was made here: in a user
        namespace criu reads them as the container's root."""
        if self.images in self.made:
            os.fchown(self.images, -1, gid)
            os.fchmod(self.images, 0o710)

    def open_again(self) -> None:
        """For a process in a mount namespace of its own: criu mounts below its working directory, and the one that was
        opened before lies in another namespace."""
        for fd, path in self.opened.items():
            again = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            os.dup2(again, fd)
            os.close(again)

    def options(self) -> Iterator[tuple[str, Value]]:
        yield "images_dir_fd", self.images
        yield "work_dir_fd", self.work
        yield "log_file", self.log

    def write(self, name: str, text: str) -> None:
        """A file of ours beside criu's images."""
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=self.images)
            try:
                os.write(fd, text.encode("utf-8", "surrogateescape"))
            finally:
                os.close(fd)
        except OSError as failure:
            raise JubakoError.from_os_error("write", name, failure) from failure

    def read(self, name: str) -> str:
        """That file's text, empty where there is none."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.images)
        except OSError:
            return ""
        with open(fd, "rb", buffering=0) as file:
            return file.read().decode("utf-8", "surrogateescape")

    def has(self, name: str) -> bool:
        """Whether there is such an image."""
        return os.access(name, os.R_OK, dir_fd=self.images)

    def failure(self) -> str:
        """What criu's log says of the failure."""
        try:
            fd = os.open(self.log, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.work)
        except OSError:
            return ""
        with open(fd, "rb", buffering=0) as file:
            return read_failure(file.read().decode("utf-8", "replace"))

    def close(self) -> None:
        for fd in self.opened:
            os.close(fd)
        self.opened = {}

    def _open(self, flag: str, path: str, make: bool) -> int:
        made = False
        try:
            if make:
                try:
                    os.mkdir(path, 0o700)
                    made = True
                except FileExistsError:
                    pass
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as failure:
            raise JubakoError.from_os_error(f"open {flag}", path, failure) from failure
        self.opened[fd] = os.path.realpath(path)
        if made:
            self.made.add(fd)
        return fd


class Criu:
    """A worker of criu's. `prepare` is called in its process before it becomes criu; `inherited` stay open in it.

    It makes the socket itself, since criu looks descriptors up in the process that did (SO_PEERCRED): so they are its
    own, and of its own mount namespace.
    """

    def __init__(
        self, program: str, prepare: Callable[[], None] | None = None, inherited: tuple[int, ...] = ()
    ) -> None:
        self.program = program
        ours, theirs = scm.pair()
        self.errors = os.memfd_create("criu", os.MFD_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            self._become(theirs, prepare, inherited)
        theirs.close()
        _data, links = scm.receive(ours)  # nothing where it has failed: then every question fails, too
        self.link = scm.adopt(links[0]) if links else ours

    def ask(self, request: bytes, notified: Callable[[Answer, tuple[int, ...]], None] | None = None) -> Answer:
        """Criu's answer to a request; `notified` is called at each moment on the way there, with the descriptors that
        came along, and what it raises ends the work. Raises `ValueError` or `OSError` where criu has ended."""
        raised: BaseException | None = None
        self.link.send(request)
        while True:
            data, descriptors = scm.receive(self.link)
            if not data:
                raise raised or OSError(5, "criu has ended")
            answer = rpc.read_answer(data)
            if answer.kind != rpc.NOTIFY:
                if raised is not None:
                    raise raised
                return answer
            try:
                if notified is not None:
                    notified(answer, descriptors)
            except BaseException as failure:  # criu undoes its work first
                raised = failure
            finally:
                for fd in descriptors:
                    os.close(fd)
            self.link.send(rpc.consent(raised is None))

    def end(self) -> int:
        """Let it go, and wait for its end: its exit status."""
        if self.pid < 0:
            return 0
        self.link.close()
        _pid, status = os.waitpid(self.pid, 0)
        self.pid = -1
        return os.waitstatus_to_exitcode(status)

    def said(self) -> str:
        """What it has written to standard error: there it goes until it has its log."""
        return os.pread(self.errors, 1 << 16, 0).decode("utf-8", "replace")

    def _become(self, first: scm.Socket, prepare: Callable[[], None] | None, inherited: tuple[int, ...]) -> None:
        try:
            reset_signals()
            os.dup2(self.errors, 2, inheritable=True)
            if prepare is not None:
                prepare()
            link, theirs = scm.pair()
            kept = (link.fileno(), *inherited)
            for fd in kept:
                os.set_inheritable(fd, True)
            scm.send(first, b"link", (theirs.fileno(),))
            close_all_but((0, 1, 2, *kept))
            os.execv(self.program, ("criu", "swrk", str(link.fileno())))
        except BaseException as failure:
            os.write(2, f"Error: {failure}\n".encode())
        finally:
            os._exit(127)


def check_version(operation: str, subject: str, program: str) -> None:
    """Raise `JubakoError` where criu is too old, or does not work here at all."""
    version = _simple_request(operation, subject, program, rpc.request(rpc.VERSION)).version
    if version < _OLDEST:
        shown = f"{version // 10000}.{version // 100 % 100}"
        raise JubakoError(operation, subject, reason=f"criu {shown} is too old", hint="install criu 3.15 or later")


def check_memory_tracking(operation: str, subject: str, program: str) -> None:
    """Raise `JubakoError` unless the kernel tells which memory has changed."""
    answer = _simple_request(operation, subject, program, rpc.feature_request())
    if not answer.mem_track:
        raise JubakoError(
            operation, subject, reason="this kernel does not tell which memory has changed (CONFIG_MEM_SOFT_DIRTY)",
            hint="leave out --pre-dump and --parent-path: one whole checkpoint needs no such thing",
        )  # fmt: skip


def _simple_request(operation: str, subject: str, program: str, request: bytes) -> Answer:
    criu = Criu(program)
    try:
        return criu.ask(request)
    except (OSError, ValueError) as failure:
        criu.end()
        raise not_working(operation, subject, criu.said()) from failure
    finally:
        criu.end()
        os.close(criu.errors)


def failure_of(
    operation: str, subject: str, directories: Directories, criu: Criu, answer: Answer | None
) -> JubakoError:
    """The error for work that criu has not done, from its log, its answer, or what it said before it had a log."""
    reason = directories.failure() or (answer.text if answer is not None else "")
    if not reason and criu.said():
        return not_working(operation, subject, criu.said())
    hints = [*(hint for word, hint in _HINTS if word in reason), f"its log is {directories.log_path}"]
    return JubakoError(
        operation, subject, errno=answer.errno if answer is not None else 0,
        reason=f"criu: {reason or 'it ended without a word'}", hint="\n".join(hints),
    )  # fmt: skip


def not_working(operation: str, subject: str, said: str) -> JubakoError:
    """The error for a criu that ends before it has begun."""
    hint = "criu check tells what it misses on this machine"
    lines = said.strip().splitlines() or ["it ended at once"]
    reason = read_failure(said) or lines[-1]
    return JubakoError(operation, subject, reason=f"criu does not work here: {reason}", hint=hint)


_HINTS = (
    ("vDSO area bounds", _TOO_OLD),
    (
        ".img: Permission denied",
        "in a user namespace criu reads the images as the container's root: chmod o+x their directory",
    ),
    ("tables-restore", "criu stops connections by iptables: install it, or pass --network-lock nftables or skip"),
    ("IP tool failed", "criu writes a network namespace by the program ip: install iproute2"),
    ("Can't get 1:16 opt", "criu before 4.2 cannot write network sockets on Linux 6.16 and later: install a newer one"),
    (
        "cgns prefix",
        "criu up to 4.2 cannot restore user and cgroup namespace both: --manage-cgroups-mode ignore leaves the latter",
    ),
)
"""What its users have found out about a failure."""

_HARMLESS = (
    "FAILED",
    "Dump files (pid",
    "Unable to create tun",
    "Can't setup RLIMIT_NOFILE",
    "ddress already assigned",
    "cgroupd: recv",
)


def read_failure(log: str) -> str:
    """What criu's log says went wrong: its last errors, without those that say only that it failed, or are none."""
    found = []
    for line in log.splitlines():
        _before, marker, rest = line.partition("Error")
        if not marker or not rest.startswith((" (", ":")):
            continue
        text = rest.partition("): ")[2] if rest.startswith(" (") else rest[1:]
        text = text.strip()
        if text and text not in found and not any(harmless in text for harmless in _HARMLESS):
            found.append(text)
    return "; ".join(found[-3:])
