"""From a request's template to a plan, inside of the launcher: computed once, applied any number of times.

A template is JSON text: the options that differ from `RunOptions`' defaults, and where the request came from. The
arguments and the environment of a call come in later (see `sandbox.request`). What a container needs beside its plan
is kept where the kernel takes it away: generated files in a file system in memory of the launcher's mount namespace, a
throw-away layer in one of the container's own.
"""

from __future__ import annotations

import os

from jubako import jsontext
from jubako.engine.build import build_request
from jubako.engine.extras import Context
from jubako.engine.files import write_files
from jubako.engine.options import RunOptions
from jubako.engine.prepare import Prepared, prepare
from jubako.errors import JubakoError, UsageError
from jubako.ids.base_ids import BaseIds
from jubako.ids.modes import AUTO
from jubako.image.resolve import resolve
from jubako.linux import mount as mnt
from jubako.linux.caps import last_cap
from jubako.paths import Paths
from jubako.plan.step import Plan, Step
from jubako.plan.steps.identity import LimitCapabilities
from jubako.plan.steps.process import NewSessionKeyring
from jubako.plan.steps.program import CloseDescriptors, FilterAndExec
from jubako.plan.steps.rootfs import OpenPaths, PrepareMasks
from jubako.record import record, replace
from jubako.runtime.requests import Request
from jubako.runtime.server import STREAMS, Job, needs_supervisor
from jubako.sandbox.request import PLACEHOLDER, ExecRequest, TakeRequest, TellPages
from jubako.sandbox.scratch import OpenMasks, add_scratch, probe_storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST_TEMPLATES = 128
_EARLY = (NewSessionKeyring, LimitCapabilities)


@record
class Template:
    """A plan to apply again and again. `stamp` tells when the image that it was made from may no longer be so."""

    job: Job
    joins: tuple[tuple[str, str], ...]
    stamp: tuple[int, ...]


class Jobs:
    """All templates of one launcher."""

    def __init__(self, paths: Paths, ids: BaseIds, *, interpreter_writable: bool) -> None:
        self._paths = paths
        self._inner = replace(paths, run=paths.stage)
        self._ids = ids
        self._interpreter_writable = interpreter_writable
        self._templates: dict[bytes, Template] = {}
        self._count = 0
        self._probed = False

    def make_room(self) -> None:
        """Make this mount namespace the launcher's own, with a file system in memory for what it generates."""
        mnt.mount(None, "/", None, mnt.MS_REC | mnt.MS_SLAVE)
        mnt.mount("tmpfs", self._inner.run, "tmpfs", mnt.MS_NOSUID | mnt.MS_NODEV | mnt.MS_NOEXEC, "mode=711")
        for path in (self._inner.stage, self._inner.foreign_proc, self._scratch, self._files, self._empty):
            os.mkdir(path, 0o755)
        read_only = mnt.MS_RDONLY | mnt.MS_NOSUID | mnt.MS_NODEV | mnt.MS_NOEXEC
        mnt.mount("tmpfs", self._empty, "tmpfs", read_only, "size=0,mode=555")

    @property
    def _scratch(self) -> str:
        return self._inner.run + "/scratch"

    @property
    def _files(self) -> str:
        return self._inner.run + "/files"

    @property
    def _empty(self) -> str:
        return self._inner.run + "/empty"

    def job(self, request: Request) -> Job:
        """The job of one request. Raises `JubakoError` for what cannot be."""
        template = self._templates.get(request.template)
        if template is None or (template.stamp and template.stamp != _stamp(self._paths)):
            template = self._prepare(request.template)
            while len(self._templates) >= _MOST_TEMPLATES:
                self._templates.pop(next(iter(self._templates)))
            self._templates[request.template] = template
        return replace(template.job, given=_open_all(template.joins)) if template.joins else template.job

    def _prepare(self, text: bytes) -> Template:
        asked = jsontext.loads(text)
        options = RunOptions(**{name: _tuples(value) for name, value in asked["options"].items()})
        image = None if options.rootfs or options.image in ("host", "host:rw") else resolve(self._paths, options.image)
        stamp = _stamp(self._paths) if image is not None else ()
        context = Context(
            os.urandom(32).hex(),
            asked["directory"],
            tuple((name, value) for name, value in asked.get("environment", {}).items()),
            os.uname().nodename,
            self._ids.gids.to_outside(5) is not None,
            last_cap(),
        )
        request = build_request(options, image.config if image else None, context)
        _refuse(request.extras.joins, request.extras.userns.mode)
        if request.extras.root.kind in ("overlay", "image") and not self._probed:
            self._probed = True
            probe_storage(self._inner, self._scratch)
        self._count += 1
        directory = f"{self._files}/{self._count}"
        os.mkdir(directory, 0o755)
        network = None
        if request.extras.network is not None:
            from jubako.engine.network import find_network

            if request.extras.places:
                raise UsageError(
                    "use network", request.extras.places[0].network, reason="the library's containers are on no bridge",
                    hint="network='pasta', 'slirp4netns', 'proxy', 'none' or 'host'",
                )  # fmt: skip
            network = find_network(request.extras)
        link = network.link if network is not None else None
        files = write_files(directory, request.spec, request.extras.hosts, link)
        prepared = prepare(
            self._inner, self._ids, request, image=image, directory=self._scratch, files=files,
            streams=STREAMS, supervised=False, network=network, run_directory=directory,
        )  # fmt: skip
        return self._template(prepared, stamp)

    def _template(self, prepared: Prepared, stamp: tuple[int, ...]) -> Template:
        root = prepared.root
        if root.kind == "copy":
            raise JubakoError(
                "stack the layers of the root file system", reason="the kernel's overlayfs does not work here",
                hint="install fuse-overlayfs (and as root: chmod 666 /dev/fuse), or use a directory or the image host",
            )  # fmt: skip
        steps = add_scratch(list(prepared.plan.steps), root, self._scratch, _owner(prepared))
        *steps, last = (OpenMasks(self._empty) if isinstance(item, PrepareMasks) else item for item in steps)
        if not isinstance(last, FilterAndExec):
            raise JubakoError("plan the container", reason="its last step is not the program")
        # Asked before the base was entered: in it the host's root is nobody, and its files look like anybody's.
        last = replace(last, guard_interpreter=self._interpreter_writable)
        at = last.arguments.index(PLACEHOLDER) if PLACEHOLDER in last.arguments else -1
        given = tuple(name for name in prepared.plan.given if name not in STREAMS)
        supervised = needs_supervisor(prepared.plan)
        before, rest = divide_steps(tuple(steps))
        close = next(place for place, item in enumerate(rest) if isinstance(item, CloseDescriptors))
        between, after = rest[:close], rest[close:]
        plan = Plan(
            (*before, TakeRequest(learn=not supervised), *between, TellPages(last, at), *after, ExecRequest(last, at)),
            given,
        )
        plan.check_slots()
        namespaces = prepared.spec.linux.namespaces
        return Template(
            Job(plan, {}, supervised),
            tuple((namespace.type, namespace.path) for namespace in namespaces if namespace.path),
            stamp,
        )


def divide_steps(steps: tuple[Step, ...]) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """What can be done before a request is there, and what only then: whatever looks at the host's files or depends on
    the program. Limits that hold for the program alone may be taken early, since no step in between minds them."""
    for place, item in enumerate(steps):
        if isinstance(item, OpenPaths):
            return steps[:place], steps[place:]
        if isinstance(item, OpenMasks):
            early = tuple(item for item in steps[place + 1 :] if isinstance(item, _EARLY))
            late = tuple(item for item in steps[place + 1 :] if not isinstance(item, _EARLY))
            return (*steps[: place + 1], *early), late
    raise JubakoError("plan the container", reason="it has no root file system")


def _refuse(joins: tuple[Any, ...], userns: str) -> None:
    """What would need the engine's records: the library's containers have neither name nor entry there."""
    if joins:
        raise UsageError(
            "share namespaces with container", joins[0].container, reason="the library knows none by name",
            hint="ns:PATH joins the namespace of any process of yours",
        )  # fmt: skip
    if userns == AUTO:
        raise UsageError(
            "use userns", AUTO, reason="ranges of ids are kept with a container's record, and the library has none",
            hint="jubako run --userns auto has it; uidmap and gidmap say a range by hand",
        )  # fmt: skip


def _owner(prepared: Prepared) -> tuple[int, int]:
    """The container's root, where the host's root is somebody else."""
    if not (prepared.host.privileged and prepared.ids.nested):
        return -1, -1
    linux = prepared.spec.linux
    return linux.uid_mappings[0].host_id, linux.gid_mappings[0].host_id


def _open_all(joins: tuple[tuple[str, str], ...]) -> dict[str, int]:
    """A descriptor of each namespace that is joined by its path."""
    opened: dict[str, int] = {}
    try:
        for kind, path in joins:
            try:
                opened[f"ns:{kind}"] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as failure:
                raise JubakoError.from_os_error(f"open the {kind} namespace", path, failure) from failure
    except JubakoError:
        for fd in opened.values():
            os.close(fd)
        raise
    return opened


def _stamp(paths: Paths) -> tuple[int, ...]:
    """Changes whenever an image of this user is added, renamed or removed."""
    try:
        status = os.stat(f"{paths.data}/images/names.json")
    except OSError:
        return (0,)
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
