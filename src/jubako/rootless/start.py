"""One fake root from its start to its end, as the process that was called: the parent of the program.

It makes the processes by the plan, waits, passes signals on, and returns the program's exit code. Whatever ends first
(program, supervisor, this process), nothing of the others is left.
"""

from __future__ import annotations

import os
import sys

from jubako.errors import StepError
from jubako.ids.base_ids import BaseIds
from jubako.linux import scm
from jubako.linux.pidfd import send_signal
from jubako.plan.step import INIT, SUPERVISOR, Plan, Slots
from jubako.record import record
from jubako.rootless import state
from jubako.rootless.ids import choose_ids
from jubako.rootless.keeper import Keeper
from jubako.rootless.options import HOST, NONE, RootlessOptions, check_options
from jubako.rootless.plan import Place, plan_rootless
from jubako.rootless.program import ignored_signals
from jubako.rootless.relay import Relay, stop_too
from jubako.rootless.state import StateDirectory
from jubako.rootless.steps.processes import STAGE
from jubako.runtime.applier import Applier
from jubako.runtime.messages import Failed, Started, receive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.net.link import Driver
    from jubako.net.outside import Outside

_SIGKILL = 9


@record
class Prepared:
    """What is known before anything is made."""

    options: RootlessOptions
    ids: BaseIds
    place: Place
    driver: Driver | None
    plan: Plan


def prepare(options: RootlessOptions) -> Prepared:
    """Choose ids and driver, and make the plan. Raises `JubakoError` for what cannot be; nothing is touched."""
    check_options(options)
    driver = None
    if options.driver != HOST:
        from jubako.net.choose import find_driver

        driver = find_driver(options.network)
    path = os.path.abspath(options.state_dir) if options.state_dir else state.name_temporary()
    state.check_length(path)
    ids = choose_ids(options.subid_source)
    place = Place(path, not options.state_dir, os.geteuid(), os.getegid(), _listens())
    return Prepared(options, ids, place, driver, plan_rootless(options, ids, place))


def run(options: RootlessOptions) -> int:
    """Run the command in a fake root: its exit code. Raises `JubakoError` when it could not be started."""
    prepared = prepare(options)
    for loss in prepared.ids.lost:
        _warn(f"{loss}\n  hint: {loss.remedy}")
    if options.network.host_loopback:
        _warn("it reaches what listens on 127.0.0.1 of the host\n  hint: add --disable-host-loopback")
    _flush()
    return _Command(prepared).run()


class _Command:
    """The process that was called."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.directory = StateDirectory(prepared.place.state, prepared.place.temporary)
        self.ignored = ignored_signals()
        self.relay = Relay(self.ignored)
        self.stops, writer = os.pipe2(os.O_CLOEXEC)
        self.keeper = Keeper(prepared.options, prepared.driver, self.directory)
        self.outside: Outside | None = None
        given = {
            "prepare_state": self.directory.prepare,
            "begin_keeping": self._begin_keeping,
            "join_keeping": self._join_keeping,
            "hold_signals": self.relay.hold,
            "write_child_pid": self._write_child_pid,
            "ignored_signals": self.ignored,
            "stops": writer,
        }
        self.applier = Applier(prepared.plan, Slots(given), afterlife=self.keeper.run)

    def run(self) -> int:
        try:
            self._begin_outside()
            self.applier.run()
            self.applier.wait_for_exec()
            code = self._wait()
            self._end_supervisor()
            return code
        finally:
            self.applier.end_children()
            self.directory.remove()
            if self.outside is not None:
                self.outside.end()

    def _begin_outside(self) -> None:
        """A set-uid helper has no power where the supervisor is: a process that stays here starts it."""
        request = getattr(self.prepared.driver, "request", None)
        if request is not None:
            from jubako.net import outside

            self.outside = outside.start(request())
            self.keeper.outside = self.outside.fd

    def _begin_keeping(self, descriptors: tuple[int, ...]) -> None:
        scm.send(self._supervisor(), b"begin", (*self.directory.descriptors(), *descriptors))

    def _join_keeping(self) -> None:
        message, _descriptors = receive(self._supervisor())
        if isinstance(message, Failed):
            raise message.error()
        if not isinstance(message, Started):
            raise StepError("wait for", "the supervisor", reason="it ended")

    def _write_child_pid(self, pid: int) -> None:
        self.directory.write(state.CHILD_PID, str(pid), 0o444)

    def _supervisor(self) -> scm.Socket:
        return self.applier.links[SUPERVISOR]

    def _wait(self) -> int:
        slots = self.applier.slots
        pid, pidfd = slots["init_child"], slots["init_pidfd"]
        supervisor = slots["supervisor_child"]
        for name in ("stops", "network", "user"):
            slots.close(name)

        def look_after_others() -> None:
            self._bury_stage()
            if "supervisor_child" in slots and os.waitpid(supervisor, os.WNOHANG)[0]:
                del slots.values["supervisor_child"]
                send_signal(pidfd, _SIGKILL)
                _warn("the supervisor was ended, and the program with it: network and ports were its")

        code = self.relay.run(pid, pidfd, others=look_after_others, stopped=stop_too, words=self.stops)
        self._let_go_of_program()
        return code

    def _end_supervisor(self) -> None:
        """Kill it, and the kernel all helpers with it. That takes as long as closing a tap device does, some twenty
        milliseconds, which nobody has to wait for who has no port to be free again."""
        slots = self.applier.slots
        has_tap = self.prepared.options.driver not in (HOST, NONE)
        if has_tap and self.prepared.options.port_driver == NONE and slots.values.pop("supervisor_child", 0):
            send_signal(slots["supervisor_pidfd"], _SIGKILL)

    def _bury_stage(self) -> None:
        """The process that made the PID namespace has ended long ago."""
        pid = self.applier.slots.values.get(f"{STAGE}_child", 0)
        if pid and os.waitpid(pid, os.WNOHANG)[0]:
            del self.applier.slots.values[f"{STAGE}_child"]

    def _let_go_of_program(self) -> None:
        """It has ended and was waited for: nobody has to be killed in its place."""
        applier = self.applier
        applier.links.pop(INIT).close()
        applier.slots.close("init_pidfd")
        applier.children = [child for child in applier.children if child != INIT]
        del applier.slots.values["init_child"]


def _listens() -> bool:
    """Whether systemd has passed descriptors to this very process (sd_listen_fds(3))."""
    number = os.environ.get("LISTEN_FDS", "")
    some = number.isascii() and number.isdigit() and int(number) > 0
    return some and os.environ.get("LISTEN_PID") == str(os.getpid())


def _warn(text: str) -> None:
    try:
        sys.stderr.write(f"jubako: warning: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return  # nobody is there to read it


def _flush() -> None:
    """What was printed so far is printed once, not by every child."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            continue
