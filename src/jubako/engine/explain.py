"""`explain`: everything that `run` would do, step by step, as data. It changes nothing, and it cannot lie.

The plan shown is the very plan that `run` applies, from the same functions. Around it stand what the plan takes for
granted: the base user namespace, the container's files, and what happens when the program has ended. Ids, layers and
filter are those of this machine now; what only a start can know (pids, descriptors, the container's id) has a name.
"""

from __future__ import annotations

import os

from jubako.engine.build import build_request
from jubako.engine.extras import HOST_OVERLAY, IMAGE, OVERLAY, Request, read_context
from jubako.engine.left_out import notes_on
from jubako.engine.options import RunOptions
from jubako.engine.prepare import Prepared, layer_directories, prepare
from jubako.engine.run import find_image, refuse_limits
from jubako.errors import JubakoError
from jubako.ids.base import find_base
from jubako.ids.base_ids import DIRECTLY, SINGLE, WITH_HELPERS, BaseIds
from jubako.paths import Paths, find_paths
from jubako.plan.step import INIT, RUNTIME, SUPERVISOR, quote
from jubako.plan.steps.mounts import AttachMount, BindMount
from jubako.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.ids.mapping import ContainerIds
    from jubako.image.model import Image

PLACE = "CONTAINER-ID"
"""Stands for the id of the container that would be made; the host name is its first twelve characters."""

RUNNING, MISSING, NONE = "running", "missing", "none"

ACTORS = {
    RUNTIME: "jubako, the process that was started",
    SUPERVISOR: "the supervisor, which waits for the container",
    INIT: "the container's first process",
    "joiner": "the process that joins the container",
    "joined": "its child, which is in the container and becomes the program",
    "pause": "the pause process",
    "newuidmap": "newuidmap, set-uid root",
    "newgidmap": "newgidmap, set-uid root",
}


@record
class Taken:
    """One step as it is explained: who takes it, its system calls in order, and the reason.

    `label` is what people call it by: the plan's steps have their number, as errors do ("step 14 of 37"); those around
    the plan have a letter before it. `name` is the step's class, empty for what is no step of the plan.
    """

    label: str
    actor: str
    name: str
    calls: tuple[str, ...]
    why: str


@record
class Section:
    """Steps that belong together. `state` is "done" for what need not be done again, else "would"."""

    key: str
    title: str
    text: str
    steps: tuple[Taken, ...]
    state: str = "would"


@record
class Explanation:
    """The whole answer. `left_out` says what is not done and why, `warnings` what a start would warn of."""

    sections: tuple[Section, ...]
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def plan(self) -> Section:
        """The section with the plan's own steps."""
        return next(section for section in self.sections if section.key == "plan")

    def as_data(self) -> dict[str, Any]:
        """The answer as JSON objects."""
        return {
            "sections": [
                {**section.__dict__, "steps": [{**step.__dict__, "calls": list(step.calls)} for step in section.steps]}
                for section in self.sections
            ],
            "left_out": list(self.left_out),
            "warnings": list(self.warnings),
        }


def explain_run(options: RunOptions, paths: Paths | None = None, *, start: bool = True) -> Explanation:
    """What `run` (or with `start` off `create`) would do with these options. Raises what they would raise."""
    paths = paths or find_paths()
    base, state, pid = look_for_base(paths)
    image = find_image(paths, options)
    context = read_context(PLACE, tty_group=base.gids.size > 5)
    request = build_request(options, image.config if image is not None else None, context)
    refuse_limits(request)
    prepared, group = _prepare(paths, base, request, image)
    sections = [explain_base(base, state, pid), _files(paths, options, request, prepared, group)]
    plan = _plan(prepared, paths.run_of(PLACE))
    if not start:
        plan = replace(plan, title=plan.title + ", when it is started")
    sections += [plan, _end(options, paths)]
    notes = notes_on(options, request, prepared, group)
    return Explanation(tuple(sections), notes, prepared.warnings)


def look_for_base(paths: Paths) -> tuple[BaseIds, str, int]:
    """The ids of the base user namespace, whether it is there, and its pause process; it is not made."""
    if os.geteuid() == 0:
        ids = find_base()
        from jubako.runtime.facts import is_whole

        if ids.writer == DIRECTLY and is_whole():
            return ids, NONE, 0
    from jubako.runtime.base import find_running

    running = find_running(paths)
    if running is None:
        return find_base(), MISSING, 0
    os.close(running.fd)
    ids = running.ids
    if ids.writer == SINGLE:  # the maps do not show why; the files that decide it do
        return replace(ids, lost=find_base().lost or ids.lost), RUNNING, running.pid
    writer = DIRECTLY if os.geteuid() == 0 else WITH_HELPERS
    return replace(ids, writer=writer), RUNNING, running.pid


def explain_base(base: BaseIds, state: str, pid: int = 0) -> Section:
    """The steps that make the base, and whether they are still to be taken."""
    if state == NONE:
        return Section(
            "base",
            "The base user namespace",
            "There is none, since the host's root may write any id map itself: the container's ids are taken from the"
            f" range {base.uids}, so that root of the container is nobody on the host.",
            (),
            "done",
        )
    steps = _numbered("B", (*_new_namespace(), *_maps(base), *_pause()))
    if state == RUNNING:
        text = f"It is already there: process {pid} keeps it. These steps were taken once, and are not taken again."
    else:
        text = "It would be made now, and kept by a small process for the containers to come."
    if base.writer == SINGLE:
        text += "".join(f" It has one id only: {loss}. To have more: {loss.remedy}" for loss in base.lost)
    return Section("base", "The base user namespace", text, steps, "done" if state == RUNNING else "would")


def _new_namespace() -> tuple[Taken, ...]:
    return (
        _taken(RUNTIME, "A child to live in the new namespace: a process can be given ids only from outside", "fork()"),
        _taken(
            "pause",
            "An ordinary user may make a user namespace, and in it has all capabilities; before its maps are written"
            " nobody has an id in there (the id reads as 65534, nobody)",
            "setsid()",
            "unshare(CLONE_NEWUSER)",
        ),
    )


def _maps(base: BaseIds) -> tuple[Taken, ...]:
    uids, gids = base.uids, base.gids
    if base.writer == WITH_HELPERS:
        why = "Root inside is the caller; from id 1 on come the ids that /etc/sub{} gives to the caller"
        return (
            _taken("newuidmap", why.format("uid"), _helper("newuidmap", uids.text())),
            _taken("newgidmap", "The same for groups, from /etc/subgid", _helper("newgidmap", gids.text())),
        )
    calls = [f'write("/proc/PID/uid_map", {quote(uids.text())})', f'write("/proc/PID/gid_map", {quote(gids.text())})']
    why = "A privileged process writes the maps itself"
    if base.setgroups_deny:
        calls.insert(0, 'write("/proc/PID/setgroups", "deny")')
        why = (
            "Without newuidmap everybody may map the one id that they are, and only after giving up setgroups: who"
            " could leave a group might gain what is forbidden to its members (CVE-2014-8989)"
        )
    return (_taken(RUNTIME, why, *calls),)


def _helper(program: str, text: str) -> str:
    return f"{program} PID {' '.join(text.split())}"


def _pause() -> tuple[Taken, ...]:
    return (
        _taken("pause", "Become root of the namespace", "setresgid(0, 0, 0)", "setresuid(0, 0, 0)"),
        _taken(
            "pause",
            "A mount namespace that belongs to the new user namespace; mounts of the host still arrive, none go back",
            "unshare(CLONE_NEWNS)",
            'mount(NULL, "/", NULL, MS_REC|MS_SLAVE, NULL)',
        ),
        _taken(
            "pause",
            "Stay as the smallest process there is: a namespace lives as long as somebody is in it",
            'execve("/usr/bin/sleep", ["sleep", "2147483647"], {})',
        ),
    )


def _prepare(paths: Paths, base: BaseIds, request: Request, image: Image | None) -> tuple[Prepared, str]:
    """`engine.launch`'s preparations, of which only the names are taken."""
    from jubako.engine.cgroups import plan_group
    from jubako.engine.files import plan_files
    from jubako.engine.launch import network_peer

    spec = request.spec
    for join in request.extras.joins:
        namespaces = tuple(
            replace(entry, path=f"container:{join.container}") if entry.type == join.type else entry
            for entry in spec.linux.namespaces
        )
        if all(entry.type != join.type for entry in namespaces):
            raise JubakoError("join namespace", join.type, reason="the request leaves it out")
        spec = replace(spec, linux=replace(spec.linux, namespaces=namespaces))
    _check_namespaces(paths, request)
    network = None
    if request.extras.network is not None:
        from jubako.engine.network import find_network

        network = find_network(request.extras)
    link = network.link if network is not None else None
    peer = network_peer(paths, request.extras.joins)
    files = plan_files(f"{paths.run_of(PLACE)}", spec, request.extras.hosts, link, peer)
    group = plan_group(PLACE, request.extras.cgroup_parent) if request.extras.cgroups else ""
    prepared = prepare(
        paths,
        base,
        Request(spec, request.extras),
        image=image,
        directory=f"{paths.containers}/{PLACE}",
        files=tuple(mount for mount, _text in files),
        streams=() if spec.process.terminal else ("stdin", "stdout", "stderr"),
        cgroup=group,
        ids=_auto_ids(paths, base, request),
        probe=False,
        network=network,
        run_directory=paths.run_of(PLACE),
    )
    return prepared, group


def _check_namespaces(paths: Paths, request: Request) -> None:
    """What is to be joined must be there, as for `run`."""
    from jubako.engine import store
    from jubako.engine.launch import not_running

    for join in request.extras.joins:
        if not store.find_container(paths, join.container).running:
            raise not_running(join.container)
    for entry in request.spec.linux.namespaces:
        if entry.path:
            try:
                os.stat(entry.path)
            except OSError as failure:
                raise JubakoError.from_os_error(f"open the {entry.type} namespace", entry.path, failure) from failure


def _auto_ids(paths: Paths, base: BaseIds, request: Request) -> ContainerIds | None:
    if request.extras.userns.mode != "auto":
        return None
    from jubako.engine.allocation import allocate_ids

    return allocate_ids(paths, base, request.extras)


def _files(paths: Paths, options: RunOptions, request: Request, prepared: Prepared, group: str) -> Section:
    directory, run_directory = f"{paths.containers}/{PLACE}", paths.run_of(PLACE)
    name = options.name or "NAME"
    mode = "0711" if prepared.host.privileged else "0700"
    steps = [
        _taken(
            RUNTIME,
            "The container's directory; the link reserves the name, since only one of many can make it",
            f"mkdir({quote(directory)}, {mode})",
            f"symlink({quote(PLACE)}, {quote(f'{paths.names}/{name}')})",
        ),
        _taken(
            RUNTIME,
            "The OCI document, what else was asked for, and the state: each replaced whole, nobody reads half a file",
            *(f"rename({quote(f'{directory}/{file}.PID')}, {quote(f'{directory}/{file}')})" for file in _DOCUMENTS),
        ),
        _taken(
            RUNTIME,
            "The control socket's directory, and the files that the container gets from its runtime",
            f"mkdir({quote(run_directory)}, {mode})",
            *(
                f"open({quote(mount.source)}, O_WRONLY|O_CREAT|O_TRUNC, 0644)"
                for mount in prepared.spec.mounts
                if mount.source.startswith(run_directory + "/")
            ),
        ),
    ]
    if group:
        steps.append(_taken(RUNTIME, "A control group below the caller's own", f"mkdir({quote(group)}, 0755)"))
    made = list(layer_directories(prepared.spec, directory))
    if request.extras.root.kind in (OVERLAY, IMAGE, HOST_OVERLAY):
        made += [path for path in (prepared.root.upper, prepared.root.work, prepared.root.path) if path]
    if made:
        calls = [f"mkdir({quote(path)}, 0755)" for path in made]
        if prepared.root.kind == "copy":
            calls += [f"copy all of {path} into it" for path in reversed(prepared.root.lower)]
        steps.append(_taken(RUNTIME, "The container's own layer, where its changes go", *calls))
    if not request.spec.process.terminal:
        steps.append(
            _taken(
                RUNTIME,
                "Streams that are terminals or are logged become pipes: a terminal is never handed over without -t",
                "pipe2(fds, O_CLOEXEC)",
            )
        )
    text = "Written before anything starts, so that whoever comes next can clean up if this process is killed."
    return Section("files", "The container's files", text, _numbered("F", tuple(steps)))


_DOCUMENTS = ("config.json", "container.json", "state.json")


def _plan(prepared: Prepared, run_directory: str) -> Section:
    steps = []
    for position, step in enumerate(prepared.plan.steps, 1):
        why = step.purpose().rstrip(".")
        if isinstance(step, BindMount | AttachMount) and step.source.startswith(run_directory + "/"):
            why = "The file that jubako wrote for this container, in place of the root's own"
        steps.append(Taken(str(position), step.actor, type(step).__name__, split_calls(step.call()), why))
    text = (
        f"{len(steps)} steps in one order, taken by {len(prepared.plan.actors())} processes; where the turn changes, a"
        " message passes between them."
    )
    return Section("plan", "The container", text, tuple(steps))


def _end(options: RunOptions, paths: Paths) -> Section:
    state = f"{paths.containers}/{PLACE}/state.json"
    if options.rm:
        directory = f"{paths.containers}/{PLACE}"
        after = _taken(SUPERVISOR, "--rm: nothing of the container stays", f"unlink, rmdir: all of {quote(directory)}")
    else:
        kept = "The exit code is kept for ps, logs and start"
        after = _taken(SUPERVISOR, kept, f"rename({quote(state + '.PID')}, {quote(state)})")
    steps = (
        _taken(
            SUPERVISOR,
            "Move output, answer clients, wait. If this process dies in whatever way, the kernel ends the container",
            "poll([pidfd, control socket, streams])",
            "wait4(PID)",
        ),
        after,
    )
    return Section("end", "While it runs, and when it ends", "", _numbered("E", steps))


def split_calls(text: str) -> tuple[str, ...]:
    """The calls of a step's text, parted at "; " outside of strings and parentheses."""
    calls, start, depth, quoted, position = [], 0, 0, False, 0
    while position < len(text):
        character = text[position]
        if quoted:
            if character == "\\":
                position += 1
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = True
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == ";" and not depth and text[position + 1 : position + 2] == " ":
            calls.append(text[start:position])
            start = position + 2
        position += 1
    return (*calls, text[start:]) if text[start:] else tuple(calls)


def _taken(actor: str, why: str, *calls: str) -> Taken:
    return Taken("", actor, "", calls, why)


def _numbered(letter: str, steps: tuple[Taken, ...]) -> tuple[Taken, ...]:
    return tuple(replace(step, label=f"{letter}{number}") for number, step in enumerate(steps, 1))
