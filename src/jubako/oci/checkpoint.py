"""`checkpoint`: criu writes a running container's processes to disk, and ends them (runc's and crun's `checkpoint`).

The specification knows no such thing. The images are criu's; beside them lie `descriptors.json`, what the first
process's standard streams are (in runc's form), and `mounts.json`, where the host's files are mounted.
"""

from __future__ import annotations

import os

from jubako import jsontext
from jubako.errors import JubakoError, UsageError
from jubako.linux.clone import namespace_path
from jubako.oci import criu_mounts as mounts
from jubako.oci import criu_rpc as rpc
from jubako.oci.bundle import read_config, read_text
from jubako.oci.criu import (
    EXTERNAL,
    Criu,
    CriuOptions,
    Directories,
    check_memory_tracking,
    check_version,
    common_options,
    failure_of,
    find_criu,
    refuse_joined,
)
from jubako.oci.state import PAUSED, RUNNING, Container, State
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jubako.oci.criu_rpc import Answer, Value
    from jubako.spec.types import Spec

DESCRIPTORS, MOUNTS = "descriptors.json", "mounts.json"
_OPERATION = "checkpoint container"


@record
class CheckpointOptions:
    """What `checkpoint` is asked, besides what `restore` is asked too (`criu`)."""

    criu: CriuOptions
    parent_path: str = ""
    leave_running: bool = False
    tcp_skip_in_flight: bool = False
    link_remap: bool = False
    pre_dump: bool = False
    page_server: str = ""
    status_fd: int = -1


def checkpoint(container: Container, options: CheckpointOptions, warn: Callable[[str], None]) -> None:
    """Write the container to `image_path`, and delete it unless it is to go on. Raises `JubakoError`; then it goes on
    as it was."""
    container.lock()
    try:
        state = container.read()
        status = container.status(state)
        if status not in (RUNNING, PAUSED):
            raise UsageError(
                _OPERATION, container.id, reason=f"only what runs or is paused can be written, not what is {status}"
            )
        program = find_criu(_OPERATION, container.id, options.criu)
        spec = read_config(read_text(container.directory + "/config.json"))
        mounts.refuse_mounts(_OPERATION, container.id, spec)
        refuse_joined(_OPERATION, container.id, spec)
        directories = Directories(options.criu, "dump.log", make=True)
        try:
            for mapping in spec.linux.gid_mappings:
                if mapping.container_id == 0:
                    directories.admit(mapping.host_id)
            _Dump(container, state, spec, options, program, directories).run()
        finally:
            directories.close()
    finally:
        container.unlock()
    if not (options.leave_running or options.pre_dump):
        from jubako.oci.ending import delete

        delete(container, warn, force=True)


class _Dump:
    """One checkpoint of one container."""

    def __init__(
        self,
        container: Container,
        state: State,
        spec: Spec,
        options: CheckpointOptions,
        program: str,
        directories: Directories,
    ) -> None:
        self.places = (os.path.realpath(container.directory), state.rootfs)
        self.state = state
        self.spec = spec
        self.options = options
        self.program = program
        self.directories = directories
        self.streams = streams_of(state.pid)

    def run(self) -> None:
        options, directories = self.options, self.directories
        _check_parent(options.parent_path, directories)
        request = rpc.request(rpc.PRE_DUMP if options.pre_dump else rpc.DUMP, tuple(self._options()))
        check_version(_OPERATION, self.state.id, self.program)
        if options.pre_dump or options.parent_path:
            check_memory_tracking(_OPERATION, self.state.id, self.program)
        if not options.pre_dump:
            directories.write(DESCRIPTORS, jsontext.dumps(self.streams))
        criu = Criu(self.program, inherited=tuple(directories.opened))
        try:
            answer = criu.ask(request, self._notified)
        except (OSError, ValueError) as failure:
            criu.end()
            raise self._failed(criu) from failure
        finally:
            criu.end()
        if not answer.success:
            raise self._failed(criu, answer)

    def _options(self) -> Iterator[tuple[str, Value]]:
        state, options = self.state, self.options
        yield from self.directories.options()
        yield from common_options(options.criu, dict(state.annotations))
        yield "pid", state.pid
        yield "root", state.rootfs
        yield "leave_running", options.leave_running
        yield "tcp_skip_in_flight", options.tcp_skip_in_flight
        yield "link_remap", options.link_remap
        if options.page_server:
            yield "ps", _page_server(options.page_server)
        if options.parent_path:
            yield "parent_img", options.parent_path
        yield "track_mem", options.pre_dump or bool(options.parent_path)
        if state.cgroup:
            yield "freeze_cgroup", state.cgroup
        for kind, inode in _joined(self.spec, state.pid):
            yield "external", f"{rpc.NAMESPACES[kind]}[{inode}]:{EXTERNAL[kind]}"
        if options.pre_dump:
            return
        yield from self._mounts()
        for stream in self.streams:
            if stream.startswith(("file[", "tty[")):
                yield "external", stream

    def _mounts(self) -> Iterator[tuple[str, Value]]:
        try:
            resolved = mounts.resolve_in(f"/proc/{self.state.pid}/root", self.spec)
            inside, outside = mounts.mounts_of(self.state.pid), mounts.mounts_of("self")
        except OSError as failure:
            raise JubakoError.from_os_error("read the mounts of", self.state.id, failure) from failure
        skipped = mounts.own_mounts(self.spec, self.state.bundle, inside, resolved, self.places)
        names = [name for name in mounts.external_mounts(self.spec, inside, outside, resolved) if name not in skipped]
        self.directories.write(MOUNTS, jsontext.dumps(names))
        for name in skipped:
            yield "skip_mnt", name
        for name in names:
            yield "ext_mnt", rpc.pair(name, name)

    def _notified(self, answer: Answer, _descriptors: tuple[int, ...]) -> None:
        if answer.script == "status-ready" and self.options.status_fd >= 0:
            try:
                os.write(self.options.status_fd, b"\0")
            finally:
                os.close(self.options.status_fd)

    def _failed(self, criu: Criu, answer: Answer | None = None) -> JubakoError:
        return failure_of(_OPERATION, self.state.id, self.directories, criu, answer)


def streams_of(pid: int) -> tuple[str, ...]:
    """What the standard streams of a process are, by the names under which criu lets others take their places: a pipe,
    or a file or terminal of a mount that the process's namespace has not. For all else the link in /proc.
    """
    found = []
    points = mount_ids(pid)
    for number in range(3):
        path = f"/proc/{pid}/fd/{number}"
        try:
            target, status = os.readlink(path), os.stat(path)
            foreign = _mount_id(pid, number) not in points
        except OSError:
            found.append("")
            continue
        if foreign and target.startswith("/"):
            target = _external_file(pid, number, status)
        found.append(target)
    return tuple(found)


def mount_ids(pid: int) -> frozenset[int]:
    """The numbers of the mounts in a process's mount namespace."""
    with open(f"/proc/{pid}/mountinfo", "rb", buffering=0) as file:
        text = b"".join(iter(lambda: file.read(1 << 16), b""))
    return frozenset(int(line.split(None, 1)[0]) for line in text.splitlines())


def _external_file(pid: int, number: int, status: os.stat_result) -> str:
    import stat

    if stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) in _TERMINALS:
        return f"tty[{status.st_rdev:x}:{status.st_dev:x}]"
    return f"file[{_mount_id(pid, number):x}:{status.st_ino:x}]"


_TERMINALS = frozenset((4, 5, *range(136, 144)))
"""The major numbers of consoles and ptys (Documentation/admin-guide/devices.txt)."""


def _mount_id(pid: int, number: int) -> int:
    with open(f"/proc/{pid}/fdinfo/{number}", "rb", buffering=0) as file:
        for line in file.read(4096).splitlines():
            if line.startswith(b"mnt_id:"):
                return int(line.split()[1])
    return -1


def _joined(spec: Spec, pid: int) -> Iterator[tuple[str, int]]:
    """The namespaces that were there before the container and which criu leaves alone: (type, inode)."""
    for namespace in spec.linux.namespaces:
        if namespace.path and namespace.type in EXTERNAL:
            yield namespace.type, os.stat(namespace_path(pid, namespace.type)).st_ino


def _page_server(text: str) -> rpc.Message:
    address, colon, port = text.rpartition(":")
    if not colon or not address or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UsageError("use --page-server", text, reason="it must be ADDRESS:PORT")
    return rpc.pair(address.removeprefix("[").removesuffix("]"), int(port))


def _check_parent(path: str, directories: Directories) -> None:
    if not path:
        return
    if path.startswith("/"):
        raise UsageError("use --parent-path", path, reason="it must be relative to --image-path")
    try:
        os.close(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directories.images))
    except OSError as failure:
        raise JubakoError.from_os_error("open --parent-path", path, failure) from failure
