"""The containers on disk: one directory each, names reserved by links, files replaced whole.

`container.json` says what was asked for, `config.json` is the OCI document, `state.json` what is going on. Nothing here is
held in memory between calls, so any number of commands may work at once: a name is reserved by making a link, a file is
replaced by rename(2), and whoever changes a container's life holds its lock.
"""

from __future__ import annotations

import errno
import fcntl
import os

from jubako import jsontext
from jubako.errors import JubakoError, NotFoundError, UsageError
from jubako.linux.pidfd import start_time
from jubako.paths import Paths, make_directory
from jubako.record import record
from jubako.runtime.base import boot_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

CREATING, CREATED, RUNNING, EXITED = "creating", "created", "running", "exited"
KILLED = 137


@record
class State:
    """What is going on with a container. Pids count in the host's /proc and hold for `boot` only; a pid alone proves
    nothing, so each comes with its process's start time. `exit_code` is -1 until there is one; times are in
    nanoseconds since the epoch, 0 for never."""

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
        return self.state.status == RUNNING


def new_id() -> str:
    """64 hexadecimal digits, as docker has them."""
    return os.urandom(32).hex()


def new_container(paths: Paths, identifier: str, name: str) -> str:
    """Make the container's directory and reserve its name (a random one if empty); the name.

    The state says `creating` with this process's pid, so that whoever comes next can tell a container in the making
    from one whose maker was killed.
    """
    mode = 0o711 if os.getuid() == 0 else 0o700
    for directory in (paths.data, paths.containers, paths.names):
        make_directory(directory, mode)
    directory = container_directory(paths, identifier)
    os.mkdir(directory, mode)
    me = os.getpid()
    write_state(directory, State(CREATING, monitor=me, monitor_start=start_time(me), boot=boot_id()))
    try:
        return _reserve_name(paths, identifier, name)
    except BaseException:
        _remove_flat(directory)
        raise


def container_directory(paths: Paths, identifier: str) -> str:
    """Where a container's files are."""
    return f"{paths.containers}/{identifier}"


def run_directory(paths: Paths, identifier: str) -> str:
    """Where a running container's socket and generated files are; short, since users look at it."""
    return f"{paths.run}/containers/{identifier[:16]}"


def find_container(paths: Paths, reference: str) -> Container:
    """The container by its name, its id or an unambiguous prefix of that. Raises `NotFoundError`."""
    try:
        identifier = os.readlink(f"{paths.names}/{reference}") if "/" not in reference and reference else ""
    except OSError:
        identifier = ""
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
    """The container of this full id, with its true state; None if it is gone."""
    directory = container_directory(paths, identifier)
    state = read_state(directory)
    if state is None:
        return None
    document = read_document(directory + "/container.json") or {}
    return Container(identifier, str(document.get("name", "")), directory, document, state)


def read_state(directory: str) -> State | None:
    """The state in `directory` with what has happened since it was written: a supervisor that is gone left `exited`."""
    document = read_document(directory + "/state.json")
    if document is None:
        return None
    state = State(**document)
    if state.status in (RUNNING, CREATING) and not is_alive(state.monitor, state.monitor_start, state.boot):
        status = EXITED if state.status == RUNNING else CREATING
        return State(
            **{**document, "status": status, "exit_code": KILLED if status == EXITED else -1, "pid": 0, "monitor": 0}
        )
    return state


def write_state(directory: str, state: State) -> None:
    """Replace the container's state."""
    write_document(directory + "/state.json", state.__dict__)


def is_alive(pid: int, started: int, boot: str) -> bool:
    """Whether the very process that was recorded is still there."""
    return bool(pid) and boot == boot_id() and start_time(pid) == started


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
    """Whoever changes a container's life (start, rm, rename …) holds its lock: `with Lock(directory):`."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.fd = -1

    def __enter__(self) -> Lock:
        try:
            self.fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            name = os.path.basename(self.directory)[:12]
            raise NotFoundError("lock container", name, reason="it has just been removed") from None
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)


def release_name(paths: Paths, identifier: str, name: str) -> None:
    """Let go of a name if it is this container's."""
    path = f"{paths.names}/{name}"
    try:
        if name and os.readlink(path) == identifier:
            os.unlink(path)
    except FileNotFoundError:
        return


def rename_container(paths: Paths, container: Container, name: str) -> None:
    """Give the container another name, if nobody has it."""
    with Lock(container.directory):
        _link_name(paths, container.id, check_name(name))
        write_document(container.directory + "/container.json", {**container.document, "name": name})
        release_name(paths, container.id, container.name)


def check_name(name: str) -> str:
    """`name`, if it is one as docker has it: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`."""
    plain = name.replace("_", "a").replace(".", "a").replace("-", "a")
    if not plain.isascii() or not plain.isalnum() or not name[0].isalnum() or len(name) > 128:
        raise UsageError(
            "name the container",
            repr(name),
            reason="a name has letters, digits, _ . - and begins with one of the first two",
        )
    return name


def _reserve_name(paths: Paths, identifier: str, name: str) -> str:
    if name:
        _link_name(paths, identifier, check_name(name))
        return name
    from jubako.engine.names import random_name

    for attempt in range(100):
        name = random_name(attempt)
        try:
            _link_name(paths, identifier, name)
            return name
        except UsageError:
            continue
    _link_name(paths, identifier, identifier[:12])
    return identifier[:12]


def _link_name(paths: Paths, identifier: str, name: str) -> None:
    path = f"{paths.names}/{name}"
    for _attempt in range(2):
        try:
            os.symlink(identifier, path)
            return
        except FileExistsError:
            holder = _holder(path)
            if holder and os.path.isdir(container_directory(paths, holder)):
                break
            try:
                os.unlink(path)  # its container's maker was killed between the two
            except FileNotFoundError:
                continue
    raise UsageError(
        "name the container",
        name,
        reason=f"the name belongs to container {holder[:12]}",
        hint="jubako rm it, or rename one",
    )


def _holder(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _remove_flat(directory: str) -> None:
    for name in os.listdir(directory):
        os.unlink(f"{directory}/{name}")
    try:
        os.rmdir(directory)
    except OSError as failure:
        if failure.errno != errno.ENOENT:
            raise
