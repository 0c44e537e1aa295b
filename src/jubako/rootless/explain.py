"""`jubako rootless --explain`: every step that would be taken, from the very plan that would be applied."""

from __future__ import annotations

from jubako.engine.explain import Explanation, Section, Taken, split_calls
from jubako.plan.step import SUPERVISOR
from jubako.rootless import state
from jubako.rootless.options import IMPLICIT, NONE, RootlessOptions
from jubako.rootless.start import Prepared, prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def explain(options: RootlessOptions) -> Explanation:
    """What `run` would do. Raises `JubakoError` for what it would refuse."""
    prepared = prepare(options)
    steps = tuple(
        Taken(str(position), step.actor, type(step).__name__, split_calls(step.call()), step.purpose().rstrip("."))
        for position, step in enumerate(prepared.plan.steps, 1)
    )
    sections = (
        Section("plan", "The fake root", f"{len(steps)} steps in one order.", steps),
        Section("keeping", "Meanwhile, and until the command's process ends", "", tuple(_keeping(prepared))),
    )
    warnings = tuple(f"{loss}; {loss.remedy}" for loss in prepared.ids.lost)
    return Explanation(sections, (), warnings)


def _keeping(prepared: Prepared) -> Iterator[Taken]:
    options, place = prepared.options, prepared.place.state
    yield _taken("K1", "Root of the user namespace, and away from the terminal", "setresuid(0, 0, 0)", "setsid()")
    if prepared.driver is not None:
        calls = prepared.driver.explain()
        if calls:
            yield _taken("K2", f"The network {options.driver}, by its helper programs", *calls)
        if options.driver != NONE:
            files = tuple(f'write("{place}/{name}")' for name in (state.RESOLV_CONF, state.HOSTS))
            yield _taken("K3", "Name servers of that network; search domains and options stay the host's", *files)
    if options.port_driver not in (NONE, IMPLICIT):
        calls = tuple(f"forward {port}" for port in options.publish)
        yield _taken("K4", f"The port driver {options.port_driver}", "fork(): its helpers", *calls)
    socket = f'bind("{place}/{state.API_SOCKET}"); listen()'
    yield _taken("K5", "The REST API, by which ports are published later", socket)
    yield _taken(
        "K6", "When the command's process ends in whatever way, so does the program", "poll(…)",
        "pidfd_send_signal(program, SIGKILL)", f'unlink, rmdir: all of "{place}"',
    )  # fmt: skip


def _taken(label: str, why: str, *calls: str) -> Taken:
    return Taken(label, SUPERVISOR, "", calls, why)
