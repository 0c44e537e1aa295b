"""`restore`: criu makes a container's processes again from what `checkpoint` wrote (runc's and crun's `restore`).

What `create` does with steps criu does here: namespaces, mounts, processes. Ours are the control group, the hooks that
run while the namespaces are new, the terminal's hand-over, and the state. The root is bound in a mount namespace of
criu's own, so that nothing is left on the host however this ends.
"""

from __future__ import annotations

import os

from jubako import jsontext
from jubako.errors import JubakoError, UsageError
from jubako.linux import cgroup, prctl, scm
from jubako.linux import mount as mnt
from jubako.linux.clone import CLONE_NEWNS, unshare
from jubako.linux.pidfd import open_process, start_time
from jubako.oci import criu_mounts as mounts
from jubako.oci import criu_rpc as rpc
from jubako.oci.bundle import Bundle, read_bundle
from jubako.oci.caller import connect_console, write_pid_file
from jubako.oci.checkpoint import DESCRIPTORS, MOUNTS
from jubako.oci.create import CreateOptions, Creation, open_namespace_file, refuse_terminal
from jubako.oci.criu import (
    EXTERNAL,
    Criu,
    CriuOptions,
    Directories,
    check_version,
    common_options,
    failure_of,
    find_criu,
    refuse_joined,
)
from jubako.oci.ids import Ids, settle_ids
from jubako.oci.state import Container, find_container
from jubako.plan.steps.hooks import HookState, run_hook
from jubako.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jubako.oci.criu_rpc import Answer, Value

_OPERATION = "restore container"
_ROOT = "root"


@record
class RestoreOptions:
    """What `restore` is asked: the new container as `create` is asked for one, and how criu is to make it."""

    creation: CreateOptions
    criu: CriuOptions
    lsm_profile: str = ""
    lsm_mount_context: str = ""
    tcp_close: bool = False
    subreaper: bool = True


def restore(options: RestoreOptions, warn: Callable[[str], None]) -> int:
    """The program's exit code (128 + N for signal N); 0 at once when detached. Raises `JubakoError`; then nothing of
    the new container is left."""
    from jubako.oci.foreground import Foreground

    creation = options.creation
    if options.subreaper and not creation.detached:
        prctl.prctl(prctl.PR_SET_CHILD_SUBREAPER, 1)
    restored = make_again(options)
    if creation.detached:
        return 0
    code = Foreground(restored.pidfd, restored.master).wait(restored.state.pid)
    from jubako.oci.ending import delete

    delete(restored.container, warn, force=True)
    return code


def make_again(options: RestoreOptions) -> Restoration:
    """The container of a checkpoint, running. Raises `JubakoError`; then it is gone again."""
    os.umask(0o022)
    creation = options.creation
    container = find_container(creation.root, creation.id)
    program = find_criu(_OPERATION, creation.id, options.criu)
    bundle = read_bundle(creation.bundle)
    refuse_terminal(bundle.spec, creation)
    mounts.refuse_mounts(_OPERATION, creation.id, bundle.spec)
    refuse_joined(_OPERATION, creation.id, bundle.spec)
    directories = Directories(options.criu, "restore.log", make=False)
    try:
        if not directories.has("inventory.img"):
            raise UsageError(_OPERATION, creation.id, reason=f"{options.criu.image_path} holds no checkpoint")
        ids = settle_ids(bundle.spec)
        container.make()
        restoration = Restoration(container, bundle, ids, options, program, directories)
        try:
            restoration.make()
        except BaseException:
            restoration.undo()
            raise
        finally:
            container.unlock()
        return restoration
    finally:
        directories.close()


class Restoration(Creation):
    """One restored container. `master` is its terminal or -1, `pidfd` its first process."""

    def __init__(
        self,
        container: Container,
        bundle: Bundle,
        ids: Ids,
        options: RestoreOptions,
        program: str,
        directories: Directories,
    ) -> None:
        super().__init__(container, bundle, ids, options.creation)
        self.wanted = options
        self.program = program
        self.directories = directories
        self.streams = _read_list(directories, DESCRIPTORS)
        self.inherited: list[tuple[str, int]] = []
        """What criu finds open under the names that the checkpoint gives to what it does not hold."""
        self.root = f"{container.directory}/{_ROOT}"
        self.master = self.pidfd = -1
        self.console: scm.Socket | None = None

    def make(self) -> None:
        """Have criu make it, and write down that it runs."""
        options = self.options
        self.container.write(self.state)
        self.container.write_file("config.json", self.bundle.text)
        check_version(_OPERATION, self.container.id, self.program)
        if options.console_socket:
            self.console = connect_console(options.console_socket)
        os.mkdir(self.root, 0o711)
        mounts.make_mount_points(self.spec, self.bundle.path, self.bundle.spec.root.path)
        self.make_group()
        criu = self._start_criu()
        try:
            if self.state.unit:
                self._start_scope(criu.pid)  # what criu makes is born where it is itself
            elif self.state.inside:
                cgroup.add_process(self.state.inside, criu.pid)
            answer = criu.ask(rpc.request(rpc.RESTORE, tuple(self._criu_options(criu.pid))), self._notified)
        except (OSError, ValueError) as failure:
            criu.end()
            raise self._failed(criu) from failure
        finally:
            criu.end()
        if not answer.success:
            raise self._failed(criu, answer)
        self._take_over(answer.pid)
        if options.pid_file:
            write_pid_file(options.pid_file, self.state.pid)

    # --- criu

    def _start_criu(self) -> Criu:
        for namespace in self.spec.linux.namespaces:
            if namespace.path and namespace.type in EXTERNAL:
                self._keep(EXTERNAL[namespace.type], open_namespace_file(namespace.type, namespace.path))
        for number, stream in enumerate(self.streams[:3]):
            if stream.startswith(("pipe:", "file[", "tty[")):
                # A copy, since criu's own standard error goes elsewhere. A file goes by its path, which for one that
                # has none is its name; criu takes paths without their first character. Only so does it take the
                # descriptor as it is; by the name itself it would insist on the size that the file once had.
                self._keep(stream.removeprefix("f") if stream.startswith("file[") else stream, os.dup(number))
        return Criu(self.program, self._enter, (*self.opened, *self.directories.opened))

    def _keep(self, key: str, fd: int) -> None:
        self.opened.append(fd)
        self.inherited.append((key, fd))

    def _enter(self) -> None:
        """In criu's process: the root becomes a mount of its own, as criu wants it, where only criu sees it."""
        unshare(CLONE_NEWNS)
        mnt.mount(None, "/", None, mnt.MS_REC | mnt.MS_SLAVE)
        mnt.mount(self.spec.root.path, self.root, None, mnt.MS_BIND | mnt.MS_REC)
        self.directories.open_again()

    def _criu_options(self, worker: int) -> Iterator[tuple[str, Value]]:
        spec, wanted = self.spec, self.wanted
        yield from self.directories.options()
        yield from common_options(wanted.criu, dict(spec.annotations))
        yield "root", self.root
        yield "rst_sibling", True
        yield "evasive_devices", True
        yield "tcp_close", wanted.tcp_close
        if wanted.lsm_profile:
            yield "lsm_profile", wanted.lsm_profile
        if wanted.lsm_mount_context:
            yield "lsm_mount_context", wanted.lsm_mount_context
        resolved = mounts.resolve_in(spec.root.path, spec)
        for name, source in mounts.sources(spec, self.bundle.path, _read_list(self.directories, MOUNTS), resolved):
            yield "ext_mnt", rpc.pair(name, source)
        yield from self._namespaces()
        for key, fd in self.inherited:
            yield "inherit_fd", rpc.pair(key, fd)
        if self.state.inside:
            yield from _group_roots(worker)

    def _namespaces(self) -> Iterator[tuple[str, Value]]:
        for namespace in self.spec.linux.namespaces:
            if namespace.path and namespace.type not in EXTERNAL:
                yield "join_ns", rpc.pair(rpc.NAMESPACES[namespace.type], namespace.path)

    def _notified(self, answer: Answer, descriptors: tuple[int, ...]) -> None:
        if answer.script == "setup-namespaces":
            # From here on whoever deletes the container finds its process, whatever becomes of this one.
            self.state = replace(self.state, pid=answer.pid, pid_start=start_time(answer.pid))
            self.container.write(self.state)
            self._run_hooks(answer.pid)
        elif answer.script == "orphan-pts-master" and descriptors:
            if self.console is not None:
                scm.send(self.console, b"/dev/ptmx", descriptors[:1])
            else:
                self.master = os.dup(descriptors[0])

    def _run_hooks(self, pid: int) -> None:
        hooks, spec = self.spec.hooks, self.spec
        told = HookState(spec.oci_version, self.container.id, self.bundle.path, spec.annotations)
        for point, each in (("prestart", hooks.prestart), ("createRuntime", hooks.create_runtime)):
            for hook in each:
                run_hook(point, hook, told.text("creating", pid), self.bundle.path)

    def _take_over(self, pid: int) -> None:
        """The process is this one's child now, and whoever reaps this one's children inherits it."""
        self.state = replace(self.state, pid=pid, pid_start=start_time(pid), made=True)
        self.container.write(self.state)
        for fd in self.opened:
            os.close(fd)
        self.opened = []
        if self.console is not None:
            self.console.close()
        found = open_process(pid, self.state.pid_start)
        if found is None:
            raise JubakoError(_OPERATION, self.container.id, reason="its first process has ended at once")
        self.pidfd = found

    def _failed(self, criu: Criu, answer: Answer | None = None) -> JubakoError:
        return failure_of(_OPERATION, self.container.id, self.directories, criu, answer)


def _group_roots(worker: int) -> Iterator[tuple[str, Value]]:
    """In which groups the container's own are to be made: those that criu itself was put into."""
    with open(f"/proc/{worker}/cgroup", "rb", buffering=0) as file:
        text = os.fsdecode(file.read(1 << 16))
    for line in text.splitlines():
        _number, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield "cg_root", rpc.pair(controller, path)


def _read_list(directories: Directories, name: str) -> tuple[str, ...]:
    """A list of texts beside criu's images; empty where there is none."""
    text = directories.read(name)
    try:
        found = jsontext.loads(text) if text else ()
    except ValueError as failure:
        raise JubakoError("read", name, reason=f"damaged: {failure}") from None
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise JubakoError("read", name, reason="damaged: it is no list of texts")
    return tuple(found)
