"""The containers on disk: one directory each, names reserved by links, files replaced whole.

`container.json` says what was asked for, `config.json` is the OCI document, `state.json` what is going on. Nothing here
is held in memory between calls, so any number of commands may work at once: a name is reserved by making a link, a file
is replaced by rename(2), and whoever changes a container's life holds its lock.
"""

from __future__ import annotations

import errno
import fcntl
import os

from jubako import jsontext
from jubako.engine.reserve import check_name, holder_of, link_name, release_name, reserve_name
from jubako.errors import JubakoError, NotFoundError, UsageError
from jubako.linux.boot import boot_id
from jubako.linux.cgroup import is_frozen
from jubako.linux.pidfd import start_time
from jubako.paths import Paths, make_directory
from jubako.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

CREATING, CREATED, RUNNING, PAUSED, EXITED = "creating", "created", "running", "paused", "exited"
DAMAGED = "damaged"
"""What a container is whose files cannot be read, after a loss of power say: it can be listed and removed."""
KILLED = 137
UNBORN = ".new"
"""What the name of a directory ends with that is not a container yet: `ID.PID.START.new`, after its maker."""


@record
class State:
    """What is going on with a container. Pids count in the host's /proc and hold for `boot` only; a pid alone proves
    nothing, so each comes with its process's start time. `exit_code` is -1 until there is one; times are in
    nanoseconds since the epoch, 0 for never. `cgroup` is the container's group, recorded before it is made; `paused` is
    never written down, since the kernel knows it better."""

    status: str = CREATING
    pid: int = 0
    pid_start: int = 0
    monitor: int = 0
    monitor_start: int = 0
    boot: str = ""
    exit_code: int = -1
    created: int = 0
    started: int = 0
    finished: int = 0
    error: str = ""
    cgroup: str = ""


_UNKNOWN: dict[str, Any] = {
    "name": "", "image": "", "image_id": "", "command": [], "labels": {},
    "rm": False, "interactive": False, "log": False,
}  # fmt: skip


@record
class Container:
    """One container: its id, name, directory, what was asked for (`document`), and its state as it really is."""

    id: str
    name: str
    directory: str
    document: dict[str, Any]
    state: State

    @property
    def running(self) -> bool:
        """Whether its program runs (or is paused) now."""
        return self.state.status in (RUNNING, PAUSED)


def new_id() -> str:
    """64 hexadecimal digits, as docker has them."""
    return os.urandom(32).hex()


def new_container(paths: Paths, identifier: str, name: str) -> tuple[str, Lock]:
    """Make the container's directory and reserve its name (a random one if empty); the name, and the lock, held.

    The state says `creating` with this process's pid, so that whoever comes next can tell a container in the making
    from one whose maker was killed. Nobody finds the directory before it is locked and has a state.
    """
    mode = 0o711 if os.getuid() == 0 else 0o700
    make_directory(paths.data, mode)
    make_directory(paths.containers)
    if os.stat(paths.containers).st_mode & 0o007:  # set-uid files in the layers would be everybody's to run
        os.chmod(paths.containers, 0o700)
    make_directory(paths.names)
    directory = container_directory(paths, identifier)
    me = os.getpid()
    begun = start_time(me)
    unborn = f"{directory}.{me}.{begun}{UNBORN}"
    os.mkdir(unborn, mode)
    try:
        write_state(unborn, State(CREATING, monitor=me, monitor_start=begun, boot=boot_id()))
    except JubakoError:
        os.rmdir(unborn)
        raise
    lock = Lock(unborn)
    lock.__enter__()
    try:
        os.rename(unborn, directory)
        return reserve_name(paths, identifier, name), lock
    except BaseException:
        _remove_flat(directory if os.path.isdir(directory) else unborn)
        lock.release()
        raise


def container_directory(paths: Paths, identifier: str) -> str:
    """Where a container's files are."""
    return f"{paths.containers}/{identifier}"


def run_directory(paths: Paths, identifier: str) -> str:
    """Where a running container's socket and generated files are; short, since users look at it."""
    return f"{paths.run}/containers/{identifier[:16]}"


def find_container(paths: Paths, reference: str) -> Container:
    """The container by its name, its id or an unambiguous prefix of that. Raises `NotFoundError`."""
    identifier = holder_of(paths, reference) if "/" not in reference and reference not in ("", ".", "..") else ""
    if not identifier:
        matches = [known for known in list_ids(paths) if reference and known.startswith(reference)]
        if len(matches) > 1 and reference not in matches:
            raise UsageError("find container", reference, reason=f"{len(matches)} ids begin so")
        identifier = reference if reference in matches else next(iter(matches), "")
    found = read_container(paths, identifier) if identifier else None
    if found is None:
        raise NotFoundError("find container", reference, reason="no such container", hint="jubako ps -a lists them")
    return found


def list_ids(paths: Paths) -> list[str]:
    """The ids of all containers, in no order."""
    try:
        return [name for name in os.listdir(paths.containers) if len(name) == 64]
    except FileNotFoundError:
        return []


def list_containers(paths: Paths) -> list[Container]:
    """All containers, the youngest first; those that are being made are left out."""
    found = [read_container(paths, identifier) for identifier in list_ids(paths)]
    known = [container for container in found if container is not None and container.state.status != CREATING]
    return sorted(known, key=lambda container: container.state.created, reverse=True)


def read_container(paths: Paths, identifier: str) -> Container | None:
    """The container of this full id, with its true state; None if it is gone or going."""
    directory = container_directory(paths, identifier)
    state = read_state(directory)
    if state is None:
        return None
    document = read_described(directory)
    if document is None:  # it is being made, or removed
        return None
    if document == {}:
        document = _UNKNOWN
        state = state if state.status in (CREATING, RUNNING) else replace(state, status=DAMAGED)
    if state.status == RUNNING and state.cgroup and is_frozen(state.cgroup):
        state = replace(state, status=PAUSED)
    return Container(identifier, str(document.get("name", "")), directory, document, state)


def read_state(directory: str) -> State | None:
    """The state in `directory` with what has happened since it was written: a supervisor that is gone left `exited`."""
    state = recorded_state(directory)
    if state is not None and state.status == RUNNING and not is_alive(state.monitor, state.monitor_start, state.boot):
        latest = recorded_state(directory)  # it may have written its last word between our two looks
        if latest is None or latest.status != RUNNING or latest.monitor != state.monitor:
            return latest
        return replace(state, status=EXITED, exit_code=KILLED, pid=0, monitor=0)
    return state


def recorded_state(directory: str) -> State | None:
    """The state as it was last written; what a later version has put there besides is left out."""
    try:
        document = read_document(directory + "/state.json")
    except JubakoError as failure:
        return State(DAMAGED, error=failure.reason)
    if document is None:
        return None
    return State(**{name: value for name, value in document.items() if name in State.__annotations__})


def read_described(directory: str) -> dict[str, Any] | None:
    """What `container.json` says: nothing where it is damaged, None where it is missing."""
    try:
        return read_document(directory + "/container.json")
    except JubakoError:
        return {}


def write_state(directory: str, state: State) -> None:
    """Replace the container's state."""
    write_document(directory + "/state.json", state.__dict__)


def is_alive(pid: int, started: int, boot: str) -> bool:
    """Whether the very process that was recorded is still there."""
    return pid > 0 and started > 0 and boot == boot_id() and start_time(pid) == started


def read_document(path: str) -> dict[str, Any] | None:
    """The JSON object in a file of ours; None if there is no such file."""
    try:
        with open(path, "rb", buffering=0) as file:
            text = b"".join(iter(lambda: file.read(1 << 20), b""))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        document = jsontext.loads(text)
    except ValueError as failure:
        raise JubakoError(
            "read", path, reason=f"it is not JSON: {failure}", hint="jubako rm -f removes it"
        ) from failure
    return document if isinstance(document, dict) else None


def write_document(path: str, document: dict[str, Any]) -> None:
    """Replace a file of ours, whole."""
    temporary = f"{path}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            data = jsontext.dumps(document).encode("utf-8", "surrogateescape")
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as failure:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise JubakoError.from_os_error("write", path, failure) from failure


class Lock:
    """Whoever changes a container's life (start, rm, rename, its end) holds its lock: `with Lock(directory):`.

    It is the directory's own, so it goes with it and needs no file. With `wait` off, a lock that somebody holds is
    `BlockingIOError`.
    """

    def __init__(self, directory: str, *, wait: bool = True) -> None:
        self.directory = directory
        self.wait = wait
        self.fd = -1

    def __enter__(self) -> Lock:
        try:
            self.fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self._gone() from None
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | (0 if self.wait else fcntl.LOCK_NB))
            if not os.path.samestat(os.fstat(self.fd), os.stat(self.directory)):
                raise self._gone()
        except FileNotFoundError:  # it was removed while we waited
            self.release()
            raise self._gone() from None
        except BaseException:
            self.release()
            raise
        return self

    def release(self) -> None:
        """Let go, also for processes that inherited the descriptor."""
        if self.fd >= 0:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
            os.close(self.fd)
            self.fd = -1

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _gone(self) -> NotFoundError:
        name = os.path.basename(self.directory)[:12]
        return NotFoundError("lock container", name, reason="it has just been removed")


def rename_container(paths: Paths, container: Container, name: str) -> None:
    """Give the container another name, if nobody has it. A command that is killed half way leaves two names, of which
    the next one takes away the one that the document does not say."""
    check_name(name)
    with Lock(container.directory):
        document = read_document(container.directory + "/container.json")
        if document is None:
            raise NotFoundError("rename container", container.name, reason="it has just been removed")
        before = str(document.get("name", ""))
        if before == name:
            return
        link_name(paths, container.id, name)
        write_document(container.directory + "/container.json", {**document, "name": name})
        release_name(paths, container.id, before)


def _remove_flat(directory: str) -> None:
    for name in os.listdir(directory):
        os.unlink(f"{directory}/{name}")
    try:
        os.rmdir(directory)
    except OSError as failure:
        if failure.errno != errno.ENOENT:
            raise
