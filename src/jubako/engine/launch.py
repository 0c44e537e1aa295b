"""Starting a prepared container from this process: streams, supervisor, and what is left when it ends.

The caller's process stays in the terminal's session; the supervisor is its child and the container's monitor. Which
streams are handed over as they are and which are relayed is decided here, in one place.
"""

from __future__ import annotations

import os
import time

from jubako.engine import store
from jubako.engine.cgroups import make_group, plan_group, remove_group
from jubako.engine.extras import HOST_OVERLAY, IMAGE, OVERLAY, HostsFiles, Join, Request
from jubako.engine.files import write_files
from jubako.engine.prepare import Prepared, layer_directories, prepare
from jubako.engine.remove import remove_directories, remove_run_directory
from jubako.engine.streams import StreamRequest, Streams
from jubako.errors import JubakoError, NotFoundError
from jubako.ids.base_ids import BaseIds
from jubako.ids.mapping import ContainerIds
from jubako.linux import scm
from jubako.linux.boot import boot_id
from jubako.linux.pidfd import start_time
from jubako.paths import Paths, make_directory
from jubako.plan.step import Slots
from jubako.record import record, replace
from jubako.runtime.applier import Applier
from jubako.runtime.caller import DETACHED, LOST, Caller, Relay
from jubako.runtime.clients import CONTROL
from jubako.runtime.facts import is_whole
from jubako.runtime.messages import Failed, GiveNamespaces, Namespaces, receive, send
from jubako.runtime.monitor import Monitor, Watch
from jubako.spec.types import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.engine.network import Network
    from jubako.image.model import Image
    from jubako.net.bridge.client import Reservation
    from jubako.net.link import Link


@record
class Start:
    """How a start is watched: in the foreground or not, with which streams."""

    detach: bool = False
    interactive: bool = False
    output: bool = True
    detach_keys: str = "ctrl-p,ctrl-q"
    sig_proxy: bool = True
    meanwhile: Callable[[], None] | None = None
    """Called while the supervisor makes the container: what need not be done before the lock is let go."""
    started: Callable[[], None] | None = None
    """Called once the program runs: until then whoever starts it holds the container's lock."""


@record
class Basis:
    """The base user namespace as the engine uses it: its ids, and its descriptor (-1 for the host's root)."""

    ids: BaseIds
    fd: int = -1
    made: bool = False


def open_basis(paths: Paths) -> Basis:
    """The base of this user. The host's root has none: its containers' namespaces are made from the host's own."""
    if os.geteuid() == 0:
        from jubako.ids.base import find_base
        from jubako.ids.base_ids import DIRECTLY

        ids = find_base()
        if ids.writer == DIRECTLY and is_whole():
            return Basis(ids)
    from jubako.runtime.base import open_base

    base = open_base(paths)
    return Basis(base.ids, base.fd, base.made)


def start_container(
    paths: Paths, basis: Basis, container: store.Container, request: Request | None, image: Image | None, start: Start
) -> int:
    """Start a container that exists. In the foreground: its exit code, or `DETACHED`; detached: 0 once it runs.

    `request` and `image` are given where they are known already, else they are read from the container's files.
    """
    if request is None:
        request = read_request(container)
    if image is None and request.extras.root.kind == IMAGE:
        from jubako.image.resolve import resolve

        image = resolve(paths, container.document["image_id"])
    return _Launch(paths, basis, container, request, image, start).run()


def read_request(container: store.Container) -> Request:
    """What was asked for when the container was made."""
    from jubako.engine.document import load_extras
    from jubako.spec import load as load_spec

    document = store.read_document(container.directory + "/config.json")
    if document is None or "extras" not in container.document:
        missing = "config.json" if document is None else "container.json"
        raise JubakoError(
            "read",
            f"{container.directory}/{missing}",
            reason="it is missing or damaged",
            hint="jubako rm -f removes it",
        )
    return Request(load_spec.load(document), load_extras(container.document["extras"]))


class _Launch:
    """One start, step by step; what it makes is undone if it fails."""

    def __init__(
        self,
        paths: Paths,
        basis: Basis,
        container: store.Container,
        request: Request,
        image: Image | None,
        start: Start,
    ) -> None:
        self.paths = paths
        self.basis = basis
        self.container = container
        self.request = request
        self.image = image
        self.start = start
        self.directory = container.directory
        self.run_directory = store.run_directory(paths, container.id)
        self.slots = Slots({"base": basis.fd} if basis.fd >= 0 else {})
        self.streams: Streams | None = None
        self.joined: list[int] = []
        self.reservation: Reservation | None = None
        self.group = ""
        self.remove = bool(container.document["rm"])
        self.pid_file = str(container.document.get("pidfile", ""))

    def run(self) -> int:
        try:
            return self._run()
        except BaseException as failure:
            self._undo(failure)
            raise

    def _run(self) -> int:
        os.umask(0o022)  # the caller's may close /etc/hosts to the program's user, or open the control socket to all
        spec = self.request.spec
        mode = 0o711 if os.geteuid() == 0 else 0o700
        make_directory(self.run_directory, mode)
        if self.pid_file:
            from jubako.engine.pidfile import prepare_pid_file

            prepare_pid_file(self.pid_file)
        network = self._find_network()
        link = network.link if network is not None else None
        peer = network_peer(self.paths, self.request.extras.joins)
        hosts = self.request.extras.hosts
        files = write_files(self.run_directory, spec, hosts, link, peer)
        if network is not None:  # the same files again, once a server has said the addresses
            network = replace(network, learned=lambda real: self._write_again(spec, hosts, real))
        joined = self._join_containers(spec)
        spec = self._open_paths(joined)
        self.request = Request(spec, self.request.extras)
        if self.request.extras.cgroups:
            self._make_group(self.request.extras.cgroup_parent)
        streams = self._open_streams()
        prepared = prepare(
            self.paths, self.basis.ids, self.request, image=self.image, directory=self.directory, files=files,
            streams=streams.names, cgroup=self.group, ids=self._allocated(), network=network,
            run_directory=self.run_directory,
        )  # fmt: skip
        self._warn(prepared)
        self._make_layer(prepared)
        watch = streams.watched(self.run_directory, self.request.extras.timeout)
        outside = network.outside() if network is not None else None
        if outside is not None:
            self.slots["outside"] = outside.fd
            self.joined.append(outside.fd)
        applier = Applier(prepared.plan, self.slots, afterlife=lambda applier: self._supervise(applier, watch))
        applier.run()
        self._close_theirs()
        if self.start.meanwhile is not None:
            try:
                self.start.meanwhile()
            except BaseException:
                applier.end_children()
                raise
        return self._watch(applier, streams.relayed())

    def _find_network(self) -> Network | None:
        if self.request.extras.network is None:
            return None
        from jubako.engine.network import find_network

        network = find_network(self.request.extras)
        return self._reserve(network) if network is not None and network.driver.name == "bridge" else network

    def _write_again(self, spec: Spec, hosts: HostsFiles, link: Link) -> None:
        write_files(self.run_directory, spec, hosts, link)

    def _reserve(self, network: Network) -> Network:
        """The same with places on bridge networks, whose keeper holds them as long as somebody has the connection."""
        from jubako.engine.networks import asked_of, reserve_places, write_places
        from jubako.runtime.base import Base

        base = Base(self.basis.fd, self.basis.ids, 0) if self.basis.fd >= 0 else None
        places = asked_of(self.container)
        self.reservation = reserve_places(self.paths, base, self.container.id, self.container.name, places)
        write_places(self.run_directory, self.reservation.places)
        for warning in self.reservation.warnings:
            os.write(2, f"jubako: warning: {warning}\n".encode("utf-8", "surrogateescape"))
        network.driver.take(self.reservation)  # type: ignore[attr-defined]
        return replace(network, link=network.driver.plan())

    def _make_group(self, parent: str) -> None:
        """The group's name is on disk before the group is there: whoever comes next can remove it."""
        self.group = plan_group(self.container.id, parent)
        if self.group:
            self.container = replace(self.container, state=replace(self.container.state, cgroup=self.group))
            store.write_state(self.directory, self.container.state)
            self.group = make_group(self.group, required=bool(parent))

    def _open_streams(self) -> Streams:
        document, start = self.container.document, self.start
        self.streams = Streams(
            StreamRequest(
                terminal=self.request.spec.process.terminal,
                detach=start.detach,
                open_input=bool(document["interactive"]),
                send_input=start.interactive,
                show_output=start.output,
                log=self.directory + "/log" if document["log"] else "",
                log_limit=int(document.get("log_limit", 0)),
                detach_keys=start.detach_keys,
                sig_proxy=start.sig_proxy,
            ),
            self.slots,
        )
        return self.streams

    def _close_theirs(self) -> None:
        if self.streams is not None:
            self.streams.close_theirs()
        for fd in self.joined:
            os.close(fd)
        self.joined = []
        if self.reservation is not None:
            self.reservation.close()
            self.reservation = None

    def _watch(self, applier: Applier, relay: Relay) -> int:
        link = applier.links["supervisor"]
        begun: list[bool] = []

        def started() -> None:
            begun.append(True)
            if self.start.started is not None:
                self.start.started()

        code = self._await_start(link, started) if self.start.detach else Caller(link, relay, started).wait()
        if code == DETACHED or (self.start.detach and code == 0):
            return code
        pid = applier.slots["supervisor_child"]
        os.waitpid(pid, 0)
        applier.slots.close("supervisor_pidfd")
        if code == LOST:
            if self.start.detach and not begun:
                raise JubakoError("start container", self.container.name, reason="its supervisor was killed")
            from jubako.engine.reaping import reap_container

            reap_container(self.paths, self.container.id)
            return store.KILLED
        return code

    def _await_start(self, link: scm.Socket, started: Callable[[], None]) -> int:
        message, _descriptors = receive(link)
        if message is None:
            return LOST
        if isinstance(message, Failed):
            raise message.error()
        started()
        return 0

    def _supervise(self, applier: Applier, watch: Watch) -> int:
        """The supervisor's part; runs in its process."""
        if self.streams is not None:
            self.streams.close_ours()
        return Monitor(applier, watch, self._started, self._ended).run()

    def _started(self, pid: int, _me: int) -> None:
        monitor = int(os.readlink("/proc/self"))
        now = time.time_ns()
        self.state = replace(
            self.container.state, status=store.RUNNING, pid=pid, pid_start=start_time(pid), monitor=monitor,
            monitor_start=start_time(monitor), boot=boot_id(), started=now, finished=0, exit_code=-1, error="",
        )  # fmt: skip
        store.write_state(self.directory, self.state)
        if self.pid_file:
            from jubako.engine.pidfile import write_pid_file

            write_pid_file(self.pid_file, pid)

    def _ended(self, code: int) -> None:
        remove_group(self.group)
        try:
            with store.Lock(self.directory):
                self._write_end(code)
        except NotFoundError:
            return

    def _write_end(self, code: int) -> None:
        if self.remove:
            remove_directories(self.paths, self.container, inside=True)
            return
        ended = replace(
            self.state, status=store.EXITED, pid=0, monitor=0, exit_code=code, finished=time.time_ns(), cgroup=""
        )
        store.write_state(self.directory, ended)
        remove_run_directory(self.run_directory)

    # --- namespaces of others

    def _join_containers(self, spec: Spec) -> Spec:
        for join in self.request.extras.joins:
            self.slots[f"ns:{join.type}"] = container_namespace(self.paths, join.container, join.type)
            self.joined.append(self.slots[f"ns:{join.type}"])
            spec = _with_namespace(spec, join.type, f"container:{join.container}")
        return spec

    def _open_paths(self, spec: Spec) -> Spec:
        for namespace in spec.linux.namespaces:
            slot = f"ns:{namespace.type}"
            if namespace.path and slot not in self.slots:
                try:
                    self.slots[slot] = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
                except OSError as failure:
                    raise JubakoError.from_os_error(
                        f"open the {namespace.type} namespace", namespace.path, failure
                    ) from failure
                self.joined.append(self.slots[slot])
        return spec

    # --- the writable layer, ids, warnings

    def _allocated(self) -> ContainerIds | None:
        if not self.container.document.get("ids"):
            return None
        from jubako.engine.allocation import load_ids

        return load_ids(self.container.document)

    def _make_layer(self, prepared: Prepared) -> None:
        layered = self.request.extras.root.kind in (OVERLAY, IMAGE, HOST_OVERLAY)
        if not layered and not layer_directories(prepared.spec, self.directory):
            return
        from jubako.engine.layer import make_layer

        make_layer(self.paths, self.directory, prepared)

    def _warn(self, prepared: Prepared) -> None:
        if prepared.spec.linux.resources is not None:  # only --best-effort comes this far with limits
            os.write(2, b"jubako: warning: limits by control group are not supported yet: it runs without them\n")
        if not self.basis.made:  # said once, when the base is made: a plain run prints nothing of its own
            return
        for warning in prepared.warnings:
            os.write(2, f"jubako: warning: {warning}\n".encode())

    def _undo(self, failure: BaseException) -> None:
        try:
            self._close_theirs()
            if self.streams is not None:
                self.streams.close_ours()
        except OSError:
            pass
        remove_group(self.group)
        remove_run_directory(self.run_directory)
        if self.pid_file and os.path.exists(self.pid_file):
            os.unlink(self.pid_file)


def container_namespace(paths: Paths, name: str, kind: str) -> int:
    """A descriptor of one namespace of a running container, from its supervisor."""
    container = store.find_container(paths, name)
    namespaces = container_namespaces(paths, container)
    wanted = namespaces.pop(kind, -1)
    for fd in namespaces.values():
        os.close(fd)
    if wanted < 0:
        raise JubakoError("join the namespace of container", name, reason=f"it has no {kind} namespace of its own")
    return wanted


def network_peer(paths: Paths, joins: tuple[Join, ...]) -> str:
    """The run directory of the container whose network is shared, empty if there is none: its names hold there too."""
    for join in joins:
        if join.type == "network":
            return store.run_directory(paths, store.find_container(paths, join.container).id)
    return ""


def container_namespaces(paths: Paths, container: store.Container) -> dict[str, int]:
    """Descriptors of a running container's namespaces by type, and "pidfd" of its PID 1; the caller closes them."""
    link = connect(paths, container)
    try:
        send(link, GiveNamespaces())
        message, descriptors = receive(link)
    finally:
        link.close()
    if not isinstance(message, Namespaces):
        raise not_running(container.name)
    kinds = message.kinds.split(",") if message.kinds else []
    return dict(zip((*kinds, "pidfd"), descriptors, strict=True))


def connect(paths: Paths, container: store.Container) -> scm.Socket:
    """A connection to the container's supervisor. Raises `JubakoError` when the container does not run."""
    if not container.running:
        raise not_running(container.name)
    try:
        return scm.connect(store.run_directory(paths, container.id), CONTROL)
    except OSError as failure:
        if failure.errno in (2, 111):
            raise not_running(container.name) from failure
        raise JubakoError.from_os_error("reach the supervisor of container", container.name, failure) from failure


def not_running(name: str) -> JubakoError:
    """The error for what only a running container can do."""
    return JubakoError("use container", name, reason="it is not running", hint=f"start it: jubako start {name}")


def _with_namespace(spec: Spec, kind: str, path: str) -> Spec:
    namespaces = tuple(
        replace(namespace, path=path) if namespace.type == kind else namespace for namespace in spec.linux.namespaces
    )
    return replace(spec, linux=replace(spec.linux, namespaces=namespaces))
