"""The base user namespace: made once a user, with the full id map, and kept by one pause process.

newuidmap and newgidmap are two set-uid programs and the slow part of every rootless container, so they run here only.
Whoever is in the base may write the maps of namespaces nested in it, and may join them: it is the common ancestor of
all containers of this user. The pause process may be killed at any time (a logout does it) and is made anew; running
containers do not depend on it.
"""

from __future__ import annotations

import errno
import fcntl
import os

from jubako.errors import JubakoError
from jubako.ids.base_ids import BaseIds, read_base
from jubako.linux import clone, mount
from jubako.linux.boot import boot_id
from jubako.linux.descriptors import close_all_but
from jubako.linux.pidfd import open_process, send_signal, start_time
from jubako.linux.prctl import set_dumpable
from jubako.paths import Paths, make_run_directories
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SLEEPERS = ("/usr/bin/sleep", "/bin/sleep", "/run/current-system/sw/bin/sleep")


@record
class Base:
    """The base as its user sees it: a descriptor of the user namespace (close it), its ids, the pause process."""

    fd: int
    ids: BaseIds
    pid: int
    made: bool = False
    """Whether it was made just now, and `ids.lost` says all that it cannot have."""


def open_base(paths: Paths) -> Base:
    """The base of this user, made if it is missing. Raises `JubakoError` where user namespaces are refused."""
    found = find_running(paths)
    if found is not None:
        return found
    make_run_directories(paths)
    lock = os.open(paths.run + "/base.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return find_running(paths) or _make(paths)
    finally:
        os.close(lock)


def find_running(paths: Paths) -> Base | None:
    """The base if its pause process lives; nothing is made."""
    entry = _read_record(paths)
    if entry is None:
        return None
    pid, started = entry
    pidfd = open_process(pid, started)
    if pidfd is None:
        return None
    try:
        ids = read_base(pid, os.geteuid(), os.getegid())
        fd = clone.open_namespace(pid, "user")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    finally:
        os.close(pidfd)
    if not _is_ours(fd):
        os.close(fd)
        return None
    return Base(fd, ids, pid)


def _is_ours(fd: int) -> bool:
    """Whether the user namespace `fd` was made from the one that this process is in, or is that one. A command within
    `unshare -r` that shares our run directory has made a base too, with fewer ids."""
    own = os.stat("/proc/self/ns/user")
    if os.path.samestat(os.fstat(fd), own):
        return True
    try:
        parent = clone.parent_namespace(fd)
    except PermissionError:
        return False
    try:
        return os.path.samestat(os.fstat(parent), own)
    finally:
        os.close(parent)


def enter_base(paths: Paths) -> BaseIds:
    """Move this single-threaded process into the base user namespace, as root of it.

    For work on files that belong to subordinate ids (layers, writable layers). Mount namespaces stay as they are.
    """
    base = open_base(paths)
    try:
        clone.setns(base.fd, clone.CLONE_NEWUSER)
    except OSError as failure:
        raise JubakoError.from_os_error("join the base user namespace", f"of process {base.pid}", failure) from failure
    finally:
        os.close(base.fd)
    set_dumpable(True)
    become_root(base.ids)
    return base.ids


def become_root(ids: BaseIds) -> None:
    """Take id 0 of the user namespace just joined; groups of outside are left behind where the kernel allows it."""
    if not ids.setgroups_deny:
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def end_base(paths: Paths) -> bool:
    """End the pause process; containers that run go on. False if there was none."""
    entry = _read_record(paths)
    pidfd = open_process(*entry) if entry is not None else None
    if pidfd is None:
        return False
    send_signal(pidfd, 9)
    os.close(pidfd)
    os.unlink(paths.run + "/base")
    return True


def _read_record(paths: Paths) -> tuple[int, int] | None:
    try:
        with open(paths.run + "/base", "rb", buffering=0) as file:
            pid, started, boot = file.read(256).decode().split()
        entry = int(pid), int(started)
    except (FileNotFoundError, ValueError):
        return None
    return entry if boot == boot_id() else None


def _make(paths: Paths) -> Base:
    from jubako.ids.base import find_base, write_base_maps

    ids = find_base()
    ready_reader, ready_writer = os.pipe()
    go_reader, go_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _pause(ready_writer, go_reader)
    os.close(ready_writer)
    os.close(go_reader)
    try:
        _expect(ready_reader)
        write_base_maps(pid, ids)
        fd = clone.open_namespace(pid, "user")
        os.write(go_writer, b"1")
        _expect(ready_reader)
    except BaseException:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(go_writer)
        os.close(ready_reader)
    _write_record(paths, pid)
    return Base(fd, ids, pid, made=True)


def _expect(reader: int) -> None:
    """Read the child's word: empty is its end, "1" means go on, all else is an errno and the operation that failed."""
    word = os.read(reader, 256).decode()
    if word == "1":
        return
    number, _, operation = word.partition(" ")
    hint = ""
    if number in (str(errno.EPERM), str(errno.ENOSPC), str(errno.EINVAL), str(errno.EACCES)):
        hint = "user namespaces seem to be switched off for ordinary users here: jubako doctor says how to allow them"
    raise JubakoError(operation or "make", "the base user namespace", errno=int(number or 0) or errno.EIO, hint=hint)


def _pause(ready: int, go: int) -> None:
    """The child: a new user and mount namespace, and then as small a process as can be."""
    operation = "make"
    try:
        os.setsid()
        clone.unshare(clone.CLONE_NEWUSER)
        os.write(ready, b"1")
        if os.read(go, 1) != b"1":
            os._exit(1)
        operation = "enter"
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        clone.unshare(clone.CLONE_NEWNS)
        mount.mount(None, "/", None, mount.MS_REC | mount.MS_SLAVE)
        os.chdir("/")
        null = os.open("/dev/null", os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        close_all_but((0, 1, 2, ready))
        os.set_inheritable(ready, False)
        os.write(ready, b"1")
        program = next((path for path in _SLEEPERS if os.access(path, os.X_OK)), _SLEEPERS[0])
        _default_signals()
        os.execve(program, ["sleep", "2147483647"], {})
    except OSError as failure:
        os.write(ready, f"{failure.errno} {operation}".encode())
    finally:
        os._exit(1)


def _default_signals() -> None:
    from jubako.plan.steps.process import reset_signals

    reset_signals()


def _write_record(paths: Paths, pid: int) -> None:
    temporary = f"{paths.run}/base.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(fd, f"{pid} {start_time(pid)} {boot_id()}\n".encode())
    os.close(fd)
    os.rename(temporary, paths.run + "/base")


def in_base(paths: Paths, work: Callable[[], None]) -> None:
    """Run `work` in a forked child inside the base; what it raises as `JubakoError` or `OSError` is raised here."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            enter_base(paths)
            work()
            code = 0
        except JubakoError as failure:
            text = "\0".join((failure.operation, failure.subject, str(failure.errno), failure.reason, failure.hint))
            os.write(writer, text.encode("utf-8", "surrogateescape")[:4096])
        except OSError as failure:
            os.write(writer, f"work on\0{failure.filename or ''}\0{failure.errno or 0}\0\0".encode()[:4096])
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read().decode("utf-8", "surrogateescape")
    _pid, status = os.waitpid(pid, 0)
    if status:
        if text.count("\0") != 4:
            raise JubakoError("work in", "the base user namespace", reason="the process was ended")
        operation, subject, number, reason, hint = text.split("\0")
        raise JubakoError(operation, subject, errno=int(number), reason=reason, hint=hint)
