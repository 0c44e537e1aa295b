"""`explain exec`: how a program would enter a container that runs, from the very plan that `exec` applies.

The container's supervisor is asked for the namespaces, as `exec` does, since only they tell which are to be joined; the
descriptors are closed again, and nothing else is touched.
"""

from __future__ import annotations

import os

from jubako.engine import store
from jubako.engine.exec import ExecOptions, open_namespaces, plan_exec
from jubako.engine.explain import Explanation, Section, Taken, explain_base, look_for_base, split_calls
from jubako.errors import UsageError
from jubako.paths import Paths, find_paths
from jubako.plan.step import INIT, RUNTIME, SUPERVISOR, Plan, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_ACTORS = {RUNTIME: RUNTIME, SUPERVISOR: "joiner", INIT: "joined"}


def explain_exec(options: ExecOptions, paths: Paths | None = None) -> Explanation:
    """What `exec` would do with these options. Raises what it would raise."""
    paths = paths or find_paths()
    if not options.command:
        raise UsageError("exec in container", options.container, reason="no command was given")
    container = store.find_container(paths, options.container)
    namespaces, foreign = open_namespaces(paths, container)
    for fd in namespaces.values():
        os.close(fd)
    base, state, pid = look_for_base(paths)
    streams = () if options.tty else ("stdin", "stdout", "stderr")
    plan = plan_exec(paths, base, container, options, foreign, streams, cached=False)
    sections = (explain_base(base, state, pid), _asking(paths, container), _plan(plan))
    return Explanation(sections, tuple(_left_out(options, plan, tuple(namespaces), foreign)), ())


def _asking(paths: Paths, container: store.Container) -> Section:
    control = f"{store.run_directory(paths, container.id)}/control"
    step = Taken(
        "A1",
        RUNTIME,
        "",
        (f"connect({quote(control)})", "sendmsg(GiveNamespaces)", "recvmsg(SCM_RIGHTS)"),
        "The supervisor hands out the namespaces by descriptor: /proc may not give them any more (--init hides PID 1),"
        " and a pid could meanwhile be another process's",
    )
    return Section("namespaces", "The container's namespaces", "", (step,))


def _plan(plan: Plan) -> Section:
    steps = tuple(
        Taken(str(n), _ACTORS[step.actor], type(step).__name__, split_calls(step.call()), step.purpose().rstrip("."))
        for n, step in enumerate(plan.steps, 1)
    )
    text = f"{len(steps)} steps. What runs in the container is hostile and awake, so whoever enters is hidden first."
    return Section("plan", "The program", text, steps)


def _left_out(options: ExecOptions, plan: Plan, all_kinds: tuple[str, ...], joined: tuple[str, ...]) -> Iterator[str]:
    for kind in all_kinds:
        if kind not in joined and kind != "parent":
            yield f"no {kind} namespace is joined: the container shares that of this process"
    taken = {type(step).__name__ for step in plan.steps}
    if "EnterCgroup" not in taken:
        yield "no control group is entered: the container has none"
    if "SetNoNewPrivileges" not in taken:
        yield "no_new_privs is not set: set-uid programs and file capabilities have their force inside"
    if not options.tty:
        yield "no terminal (-t): a terminal of the host is never handed over, since whoever holds it can type into it"
    if not options.interactive:
        yield "no standard input (-i): the program reads /dev/null"
