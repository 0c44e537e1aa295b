"""`start`: the waiting process becomes the program (OCI runtime-spec 1.3, runtime.md, "Start").

Nothing of the plan is needed here: the container's own process has it.
"""

from __future__ import annotations

import time

from jubako.errors import JubakoError, UsageError
from jubako.linux import scm
from jubako.oci.state import CREATED, Container, State
from jubako.runtime.messages import Failed, receive
from jubako.waiting import SOCKET, START

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MOMENT = 2.0
"""Seconds; it is microseconds, unless the machine is overwhelmed."""


def start(container: Container) -> State:
    """Let a created container's program run. Raises `JubakoError` when it is in another state, or a step fails; where a
    poststart hook fails, the container is stopped."""
    container.lock()
    try:
        state = container.read()
        status = container.status(state)
        if status != CREATED:
            raise UsageError("start container", container.id, reason=f"cannot start a container that is {status}")
        _let_go_on(container)
        _await_program(container, state)
        if '"poststart"' in state.hooks:
            _run_poststart_hooks(container, state)
        return state
    finally:
        container.unlock()


def _let_go_on(container: Container) -> None:
    try:
        link = scm.connect(container.directory, SOCKET)
        try:
            scm.send(link, START)
            message, _descriptors = receive(link)
        finally:
            link.close()
    except OSError as failure:
        raise JubakoError.from_os_error(
            "start container", container.id, failure, "its first process has ended meanwhile"
        ) from failure
    if isinstance(message, Failed):
        raise message.error()


def _await_program(container: Container, state: State) -> None:
    """Wait until everybody sees that it has started: execve(2) closes the connection a moment before the lock
    `waiting`, and who looked in between would take it for created."""
    deadline = time.monotonic() + _MOMENT
    while container.status(state) == CREATED and time.monotonic() < deadline:
        time.sleep(0.0002)


def _run_poststart_hooks(container: Container, state: State) -> None:
    from jubako.oci.ending import end_process

    try:
        run_hooks(container, state, "poststart", "running", None)
    except JubakoError:
        end_process(state)
        raise


def run_hooks(container: Container, state: State, point: str, status: str, warn: Callable[[str], None] | None) -> None:
    """Run the hooks of a point. With `warn` a failure changes nothing: it is told, and the next one runs."""
    if f'"{point}"' not in state.hooks:
        return
    from jubako import jsontext
    from jubako.plan.steps.hooks import HookState, run_hook
    from jubako.spec.types import Hook

    told = HookState(state.oci_version, state.id, state.bundle, state.annotations)
    text = told.text(status, 0 if status == "stopped" else state.pid)
    try:
        hooks = [
            Hook(str(fields["path"]), _texts(fields["args"]), _texts(fields["env"]), fields["timeout"])
            for fields in jsontext.loads(state.hooks)[point]
        ]
    except (ValueError, TypeError, KeyError) as failure:
        reason = f"state.json is damaged: {type(failure).__name__} {failure}"
        if warn is None:
            raise JubakoError(f"run {point} hooks of", state.id, reason=reason) from failure
        warn(f"run {point} hooks: {reason}")
        return
    for hook in hooks:
        try:
            run_hook(point, hook, text, state.bundle)
        except JubakoError as failure:
            if warn is None:
                raise
            warn(str(failure))


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(map(str, values))
