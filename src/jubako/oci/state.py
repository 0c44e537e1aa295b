"""What the runtime keeps of a container, in one directory below its root directory (OCI runtime-spec 1.3, runtime.md,
"State").

    ROOT/ID/state.json   what is said of it, written whole by rename(2)
            config.json  the document, as it was when the container was made
            lock         held by whoever changes the container's life; in it what `delete --force` needs when
                         state.json is damaged
            waiting      held (flock(2)) by the first process until it has become the program
            start        the socket that the first process waits at

Nothing but the kernel is asked what a container is doing: whether its process lives, and whether that still holds
`waiting`. So a status is right whoever was killed at whatever moment.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from jubako import jsontext
from jubako.errors import JubakoError, NotFoundError, UsageError
from jubako.linux.boot import boot_id
from jubako.linux.pidfd import start_time
from jubako.paths import find_paths, make_directory
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATING, CREATED, RUNNING, PAUSED, STOPPED = "creating", "created", "running", "paused", "stopped"
LONGEST_ID = 255  # a directory has this name
_MOMENT = 0.05
"""Seconds that the last steps of a removal may take."""
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-")
_FURTHER = _FIRST | {"."}


@record
class State:
    """One container as state.json has it.

    `pid` 0: there is no process yet. `cgroup` is a directory or empty, `inside` that of its processes (the same, or one
    below). `made` is true once `create` was done. `hooks` holds what later commands run, {"poststart": [], "poststop":
    []}, each hook as in config.json.
    """

    id: str
    oci_version: str
    bundle: str
    rootfs: str
    owner: str = ""
    created: str = ""
    pid: int = 0
    pid_start: int = 0
    boot: str = ""
    creator: int = 0
    creator_start: int = 0
    made: bool = False
    cgroup: str = ""
    inside: str = ""
    unit: str = ""
    resctrl: str = ""
    """A group of resctrl that was made for it, a directory."""
    device_filter: bool = False
    """Whether a device filter of ours is in force, which other rules replace."""
    annotations: tuple[tuple[str, str], ...] = ()
    hooks: str = ""
    """JSON text, since only those who run hooks read it."""


class Container:
    """A container's directory, and what is known of it."""

    def __init__(self, root: str, identifier: str) -> None:
        self.root = root
        self.id = identifier
        self.directory = f"{root}/{identifier}"
        self._lock = -1

    # --- the document

    def read(self) -> State:
        """Its state. Raises `NotFoundError` where there is no such container, `JubakoError` where it is damaged."""
        path = self.directory + "/state.json"
        try:
            fd = self._open("state.json", os.O_RDONLY | os.O_NONBLOCK)
            with open(fd, "rb", buffering=0) as file:
                text = file.read()
        except OSError as failure:
            if failure.errno in (errno.EISDIR, errno.ELOOP):
                raise _damaged(path, "it is no file") from None
            if failure.errno != errno.ENOENT:
                raise JubakoError.from_os_error("read", path, failure) from failure
            raise _damaged(path, "it is missing") from None
        try:
            fields = jsontext.loads(text)
            if not isinstance(fields, dict) or not isinstance(fields.get("annotations"), dict):
                raise ValueError("it is no state of a container")
            annotations = tuple((str(name), str(value)) for name, value in fields.pop("annotations").items())
            state = State(**fields, annotations=annotations)
            _check_types(state)
            return state
        except (ValueError, TypeError, RecursionError) as failure:
            raise _damaged(path, str(failure)) from None

    def write(self, state: State) -> None:
        """Replace its state as a whole."""
        fields = {**state.__dict__, "annotations": dict(state.annotations)}
        self.write_file("state.json", jsontext.dumps(fields).encode("utf-8", "surrogateescape"))
        if self._lock >= 0:
            brief = f"{state.pid} {state.pid_start} {state.boot} {state.cgroup}\n"
            os.pwrite(self._lock, brief.encode("utf-8", "surrogateescape"), 0)

    def salvage(self) -> State | None:
        """As much of a damaged state as ending the container needs; None where that is lost too."""
        try:
            with open(self._open("lock", os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
                line = file.read(8192).decode("utf-8", "surrogateescape").partition("\n")[0]
            pid, pid_start, boot, cgroup = line.split(" ", 3)
            return State(self.id, "", "", "", pid=int(pid), pid_start=int(pid_start), boot=boot, cgroup=cgroup)
        except (OSError, ValueError):
            return None

    def write_file(self, name: str, data: bytes) -> None:
        """Write one file of the directory, whole or not at all."""
        path, temporary = f"{self.directory}/{name}", f"{self.directory}/{name}.new"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            finally:
                os.close(fd)
            os.rename(temporary, path)
        except OSError as failure:
            raise JubakoError.from_os_error("write", path, failure) from failure

    # --- the directory

    def make(self) -> None:
        """Make the directory, and hold its lock. Raises `UsageError` where the id is in use."""
        make_directory(self.root)
        try:
            os.mkdir(self.directory, 0o711)
            os.chmod(self.directory, 0o711)
        except FileExistsError:
            raise self._in_use() from None
        except OSError as failure:
            raise JubakoError.from_os_error("make directory", self.directory, failure) from failure
        self._hold()
        if os.path.lexists(self.directory + "/state.json"):  # ours was deleted before we held it, and made anew
            self.unlock()
            raise self._in_use()

    def _in_use(self) -> UsageError:
        return UsageError(
            "create container", self.id, reason="container with given ID already exists",
            hint=f"delete it first, or choose another id (its state is in {self.directory})",
        )  # fmt: skip

    def lock(self) -> None:
        """Wait for, and hold, the right to change this container's life. Raises `NotFoundError` if it has gone."""
        self._hold(_MOMENT)

    def _hold(self, moment: float = 0) -> None:
        fd = self.open_lock()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if moment and not os.path.lexists(self.directory + "/state.json"):
                time.sleep(moment)  # it is damaged; or who is just removing it will remove this new lock, too
            self.keep_lock(fd)
        except BaseException:
            os.close(fd)
            raise

    def open_lock(self) -> int:
        """A descriptor of the file that is locked, made if it is missing."""
        try:
            return self._open("lock", os.O_RDWR | os.O_CREAT)
        except OSError as failure:
            raise JubakoError.from_os_error("lock", self.directory + "/lock", failure) from failure

    def keep_lock(self, fd: int) -> None:
        """The lock on `fd` is the container's now. Raises `NotFoundError` if the file was removed while we waited, and
        maybe made anew."""
        if not _is_still(fd, self.directory + "/lock"):
            raise _not_found(self.id)
        self._lock = fd

    def unlock(self) -> None:
        """Let others change it; nothing happens if it was not locked."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove(self) -> None:
        """Remove the directory with all that is in it, and nothing behind a link; the lock is let go last."""
        try:
            if os.path.islink(self.directory) or not os.path.isdir(self.directory):
                os.unlink(self.directory)
                return
            fd = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                while not self._emptied(fd):  # a command that comes now makes a lock in it to wait for
                    pass
            finally:
                os.close(fd)
        except FileNotFoundError:
            pass
        except OSError as failure:
            raise JubakoError.from_os_error("remove", self.directory, failure) from failure
        finally:
            self.unlock()

    def _emptied(self, fd: int) -> bool:
        """Remove what is in the directory `fd`, and it: not what another command may have made at its path since."""
        names = os.listdir(f"/proc/self/fd/{fd}")
        names.sort(key=lambda name: (name == "lock", name == "state.json"))
        for name in names:
            try:
                remove_entry(f"/proc/self/fd/{fd}/{name}")
            except FileNotFoundError:  # another one removes it, too
                continue
        try:
            os.rmdir(self.directory)
        except OSError as failure:
            if failure.errno != errno.ENOTEMPTY:
                raise
            return not _is_still(fd, self.directory)
        return True

    def _open(self, name: str, flags: int) -> int:
        """A file of the directory. Raises `NotFoundError` where there is no directory: a link to one is none, since
        what is read, written and removed here is ours alone."""
        try:
            directory = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as failure:
            if failure.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise _not_found(self.id) from None
            raise JubakoError.from_os_error("open", self.directory, failure) from failure
        try:
            return os.open(name, flags | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC, 0o600, dir_fd=directory)
        finally:
            os.close(directory)

    # --- what it is doing

    def status(self, state: State) -> str:
        """What the container is doing now, as the specification calls it; `paused` is runc's word."""
        if not state.made:
            return CREATING if lives(state) or _creator_lives(state) else STOPPED
        if not lives(state):
            return STOPPED
        if state.cgroup and _is_frozen(state.cgroup):  # as runc: also one that waits, which could not be started
            return PAUSED
        return CREATED if self.is_waiting() else RUNNING

    def is_waiting(self) -> bool:
        """Whether the first process has not become the program yet."""
        try:
            fd = os.open(self.directory + "/waiting", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(fd)


def find_container(root: str, identifier: str) -> Container:
    """The container of that id below `root`. Raises `UsageError` for a malformed id; whether it exists, `read` says."""
    check_id(identifier)
    return Container(root, identifier)


def list_containers(root: str) -> list[Container]:
    """All containers below `root`, by id."""
    try:
        names = sorted(os.listdir(root))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as failure:
        raise JubakoError.from_os_error("list", root, failure) from failure
    return [Container(root, name) for name in names if is_id(name) and os.path.isdir(f"{root}/{name}")]


def check_id(identifier: str) -> None:
    """Raise `UsageError` unless `identifier` may be a container's id."""
    if not is_id(identifier):
        shown = identifier if len(identifier) < 80 else identifier[:80] + "…"
        raise UsageError(
            "use container id", shown,
            reason=f"an id has up to {LONGEST_ID} of the characters A-Z a-z 0-9 _ + - . and begins with none of '.'",
        )  # fmt: skip


def is_id(text: str) -> bool:
    """Whether `text` is `[A-Za-z0-9_+-][A-Za-z0-9_+.-]*` and not too long."""
    return 0 < len(text) <= LONGEST_ID and text[0] in _FIRST and _FURTHER.issuperset(text)


def default_root() -> str:
    """Where containers are kept unless `--root` says otherwise."""
    return find_paths().run + "/oci"


def lives(state: State) -> bool:
    """Whether the container's process is there, and is no zombie."""
    return bool(state.pid) and state.boot == boot_id() and start_time(state.pid) == state.pid_start != 0


def now() -> str:
    """This moment as RFC 3339 has it, to the nanosecond, as runc writes it."""
    nanoseconds = time.time_ns()
    seconds = time.gmtime(nanoseconds // 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", seconds) + f".{nanoseconds % 1_000_000_000:09d}Z"


def report(container: Container, state: State, status: str) -> dict[str, Any]:
    """The `state` document as runc prints it."""
    return {
        "ociVersion": state.oci_version,
        "id": state.id,
        "pid": 0 if status == STOPPED else state.pid,
        "status": status,
        "bundle": state.bundle,
        "rootfs": state.rootfs,
        "created": state.created,
        **({"annotations": dict(state.annotations)} if state.annotations else {}),
        "owner": state.owner,
    }


def remove_entry(path: str) -> None:
    """Remove what is at `path`, with all below it if it is a directory; links are removed, not followed."""
    if not os.path.isdir(path) or os.path.islink(path):
        os.unlink(path)
        return
    try:
        os.rmdir(path)
    except OSError as failure:
        if failure.errno != errno.ENOTEMPTY:
            raise
        for place, directories, files in os.walk(path, topdown=False):
            for name in (*files, *directories):
                remove_entry(f"{place}/{name}")
        os.rmdir(path)


def _not_found(identifier: str) -> NotFoundError:
    return NotFoundError("find container", identifier, reason="container does not exist")


def _is_still(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _creator_lives(state: State) -> bool:
    return state.boot == boot_id() and start_time(state.creator) == state.creator_start != 0


def _is_frozen(group: str) -> bool:
    """As `linux.cgroup.is_frozen`, without what that loads."""
    try:
        with open(f"{group}/cgroup.freeze", "rb", buffering=0) as file:
            return file.read(1) == b"1"
    except OSError:
        return False


def _check_types(state: State) -> None:
    for name, kind in State.__annotations__.items():
        wanted = {"int": int, "str": str, "bool": bool}.get(kind)
        if wanted is not None and type(getattr(state, name)) is not wanted:
            raise ValueError(f"{name} is no {kind}")


def _damaged(path: str, reason: str) -> JubakoError:
    return JubakoError("read", path, reason=f"damaged: {reason}", hint="delete --force removes the container")
