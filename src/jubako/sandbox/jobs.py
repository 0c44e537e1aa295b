"""From a request's template to a plan, inside of the launcher: computed once, applied any number of times.

A template is JSON text: the options that differ from `RunOptions`' defaults, and where the request came from. The
arguments and the environment of a call are put into the last step. What a container needs beside its plan is kept where
the kernel takes it away: generated files in a file system in memory of the launcher's mount namespace, a throw-away
layer in one of the container's own.
"""

from __future__ import annotations

import os

from jubako import jsontext
from jubako.engine.build import build_request
from jubako.engine.extras import Context
from jubako.engine.files import write_files
from jubako.engine.options import RunOptions
from jubako.engine.prepare import prepare
from jubako.errors import JubakoError, UsageError
from jubako.ids.base import BaseIds
from jubako.image.resolve import resolve
from jubako.linux import mount as mnt
from jubako.linux.caps import last_cap
from jubako.paths import Paths
from jubako.plan.step import Plan, Step
from jubako.plan.steps.process import FilterAndExec
from jubako.plan.steps.rootfs import MountOverlay
from jubako.record import record, replace
from jubako.runtime.requests import Request
from jubako.runtime.server import STREAMS, Job, needs_supervisor
from jubako.sandbox.scratch import MountScratch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.image.model import Image

PLACEHOLDER = "\x1a"
"""Stands for the call's arguments in a template's command: no program has this name."""
_MOST_TEMPLATES = 128


@record
class Template:
    """A plan to apply again and again; `changed` tells when what it was made from is no longer so."""

    plan: Plan
    last: FilterAndExec
    environment: dict[str, str]
    placeholder: int
    supervised: bool
    joins: tuple[tuple[str, str], ...]
    image: str
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

    def make_room(self) -> None:
        """Make this mount namespace the launcher's own, with a file system in memory for what it generates."""
        mnt.mount(None, "/", None, mnt.MS_REC | mnt.MS_SLAVE)
        mnt.mount("tmpfs", self._inner.run, "tmpfs", mnt.MS_NOSUID | mnt.MS_NODEV | mnt.MS_NOEXEC, "mode=711")
        for path in (self._inner.stage, self._inner.foreign_proc, self._scratch, self._files):
            os.mkdir(path, 0o755)

    @property
    def _scratch(self) -> str:
        return self._inner.run + "/scratch"

    @property
    def _files(self) -> str:
        return self._inner.run + "/files"

    def job(self, request: Request) -> Job:
        """The job of one request. Raises `JubakoError` for what cannot be."""
        template = self._templates.get(request.template)
        if template is None or (template.image and template.stamp != _stamp(self._paths)):
            template = self._prepare(request.template)
            while len(self._templates) >= _MOST_TEMPLATES:
                self._templates.pop(next(iter(self._templates)))
            self._templates[request.template] = template
        steps = template.plan.steps
        plan = Plan((*steps[:-1], self._last_step(template, request)), template.plan.given)
        return Job(plan, _open_all(template.joins), template.supervised)

    def _last_step(self, template: Template, request: Request) -> Step:
        last = template.last
        arguments = last.arguments
        at = template.placeholder
        if at >= 0:
            arguments = (*arguments[:at], *(os.fsdecode(argument) for argument in request.arguments))
        environment = last.environment
        if request.environment:
            merged = dict(template.environment)
            for entry in request.environment:
                name, _, value = os.fsdecode(entry).partition("=")
                merged[name] = value
            environment = tuple(f"{name}={value}" for name, value in merged.items())
        return replace(last, arguments=arguments, environment=environment)

    def _prepare(self, text: bytes) -> Template:
        asked = jsontext.loads(text)
        options = RunOptions(**{name: _tuples(value) for name, value in asked["options"].items()})
        image = None if options.rootfs or options.image in ("host", "host:rw") else resolve(self._paths, options.image)
        context = Context(
            os.urandom(32).hex(),
            asked["directory"],
            tuple((name, value) for name, value in asked.get("environment", {}).items()),
            os.uname().nodename,
            self._ids.gids.to_outside(5) is not None,
            last_cap(),
        )
        stamp = _stamp(self._paths)
        request = build_request(options, image.config if image else None, context)
        if request.extras.joins:
            raise UsageError(
                "share namespaces with a container", request.extras.joins[0].container,
                reason="the library's containers share with nobody yet", hint="ns:PATH joins the namespace of a process",
            )  # fmt: skip
        self._count += 1
        directory = f"{self._files}/{self._count}"
        os.mkdir(directory, 0o755)
        files = write_files(directory, request.spec, request.extras.hosts)
        prepared = prepare(
            self._inner, self._ids, request, image=image, directory=self._scratch, files=files,
            streams=STREAMS, supervised=False,
        )  # fmt: skip
        return self._template(prepared.plan, prepared.spec.linux.namespaces, image, stamp)

    def _template(self, plan: Plan, namespaces: Any, image: Image | None, stamp: tuple[int, ...]) -> Template:
        steps: list[Step] = []
        for item in plan.steps:
            if isinstance(item, MountOverlay):
                steps.append(MountScratch(self._scratch, (item.upper, item.work)))
            steps.append(item)
        last = steps[-1]
        if not isinstance(last, FilterAndExec):
            raise JubakoError("plan the container", reason="its last step is not the program")
        last = steps[-1] = replace(last, guard_interpreter=self._interpreter_writable)
        joins = tuple((namespace.type, namespace.path) for namespace in namespaces if namespace.path)
        plan = Plan(tuple(steps), plan.given)
        plan.check_slots()
        return Template(
            plan, last, dict(entry.partition("=")[::2] for entry in last.environment),
            last.arguments.index(PLACEHOLDER) if PLACEHOLDER in last.arguments else -1,
            needs_supervisor(plan), joins, image.id if image else "", stamp,
        )  # fmt: skip


def _open_all(joins: tuple[tuple[str, str], ...]) -> dict[str, int]:
    """A descriptor of each namespace that is joined by its path."""
    return {f"ns:{kind}": _open_namespace(path, kind) for kind, path in joins}


def _open_namespace(path: str, kind: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as failure:
        raise JubakoError.from_os_error(f"join {kind} namespace", path, failure) from failure


def _stamp(paths: Paths) -> tuple[int, ...]:
    """Changes whenever an image of this user is added, renamed or removed."""
    try:
        status = os.stat(f"{paths.data}/images/names.json")
    except OSError:
        return ()
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
