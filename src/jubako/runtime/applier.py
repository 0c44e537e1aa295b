"""The one way into a container: a plan's steps done in order, each by the process whose turn it is.

Every process that takes part holds the whole plan (it was forked with it) and walks it from the first step to the last,
doing the steps of its own roles. Where the next step belongs to another actor it passes the baton there and waits
until it comes back. A step that fails is told upwards as data; the process at the top raises it.
"""

from __future__ import annotations

import os
import sys

from jubako.errors import JubakoError, StepError
from jubako.linux import scm
from jubako.linux.pidfd import send_signal
from jubako.plan.step import INIT, RUNTIME, Plan, Slots, Step
from jubako.plan.steps.processes import AwaitCaller, Clone, stop_imports
from jubako.runtime.messages import Baton, Failed, Message, receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Afterlife = Callable[["Applier"], int]

SIGKILL = 9
_DEBUG = bool(os.environ.get("JUBAKO_DEBUG"))


class Applier:
    """One process's walk through a plan.

    `roles` are the actors this process plays. `afterlife` says what the supervisor does when its last step is done; its
    result is that process's exit status.
    """

    def __init__(
        self, plan: Plan, slots: Slots, roles: tuple[str, ...] = (RUNTIME,), afterlife: Afterlife | None = None
    ) -> None:
        self.plan = plan
        self.slots = slots
        self.roles = roles
        self.afterlife = afterlife
        self.links: dict[str, scm.Socket] = {}
        self.parent: scm.Socket | None = None
        self.children: list[str] = []
        self.upward: scm.Socket | None = None
        """What a sibling that this process is to clone will be linked to its parent with."""

    def run(self, start: int = 0) -> None:
        """Do this process's steps from position `start` on. Raises `JubakoError`; then the children are gone."""
        try:
            self._walk(start)
        except BaseException:
            self.end_children()
            raise

    def _walk(self, start: int) -> None:
        steps = self.plan.steps
        holds = start == 0 or steps[start - 1].actor in self.roles or self._begins_child(start)
        for position in range(start, len(steps)):
            item = steps[position]
            if item.actor in self.roles:
                if not holds:
                    self._await_baton(position)
                    holds = True
                self._do(position, item)
            elif holds:
                if not self._begins_child(position):
                    self._pass_baton(position, item.actor)
                holds = False

    def _pass_baton(self, position: int, actor: str) -> None:
        descriptors = tuple(self.slots[name] for name in self._passed(position))
        try:
            send(self.links[actor], Baton(position), descriptors)
        except (BrokenPipeError, ConnectionResetError) as failure:  # it has ended: its last word is still there
            raise self._lost(actor, position, receive(self.links[actor])[0]) from failure

    def _begins_child(self, position: int) -> bool:
        """Whether the step at `position` is the first of a child just cloned: it has a copy of everything, and begins
        without a baton, which would cost it a millisecond of waiting for its parent to run."""
        before = self.plan.steps[position - 1]
        return isinstance(before, Clone) and before.child == self.plan.steps[position].actor

    def _passed(self, position: int) -> tuple[str, ...]:
        """The slots whose descriptors go with the baton at `position`: what the giver produced in its turn, or got with
        the baton that began it, and another actor will need who was not born with it."""
        steps = self.plan.steps
        born = {item.child: at for at, item in enumerate(steps) if isinstance(item, Clone)}
        made: dict[str, int] = {}
        carried: tuple[str, ...] = ()
        begin = 0
        for end in range(1, position + 1):
            giver = steps[begin].actor
            if steps[end].actor == giver:
                continue
            for at in range(begin, end):
                made.update(dict.fromkeys(steps[at].produces, at))
            produced = dict.fromkeys((*carried, *(name for item in steps[begin:end] for name in item.produces)))
            needed = {
                name
                for item in steps[end:]
                if item.actor != giver
                for name in item.needs
                if made.get(name, -1) > born.get(item.actor, -1)
            }
            carried = tuple(name for name in produced if name in needed and not name.endswith("_pid"))
            begin = end
        return carried

    def _do(self, position: int, item: Step) -> None:
        try:
            if isinstance(item, Clone):
                self._clone(position, item)
            else:
                item.apply(self.slots)
                if isinstance(item, AwaitCaller):
                    self._answer_to(self.slots.values.pop("connection"))
        except OSError as failure:
            raise self._step_error(position, item, failure) from failure
        except StepError:
            raise
        except JubakoError as failure:
            if failure.step is None and failure.exit_code == StepError.exit_code:
                failure.step = (position + 1, len(self.plan.steps), type(item).__name__)
            raise

    def _clone(self, position: int, item: Clone) -> None:
        ours, theirs = scm.pair()
        adopted = self._adopted(position, item)
        if adopted:
            self.links[adopted], self.upward = scm.pair()
        item.apply(self.slots)
        if self.slots["child"]:
            ours.close()
            self._become(position + 1, item, theirs)
        theirs.close()
        self.links[item.child] = ours
        self.children.append(item.child)
        if self.upward is not None:
            self.upward.close()
            self.upward = None

    def _adopted(self, position: int, item: Clone) -> str:
        """The actor that the child of `item` will clone as its sibling: a child of this process then."""
        for later in self.plan.steps[position + 1 :]:
            if isinstance(later, Clone) and later.sibling and later.actor == item.child:
                return later.child
        return ""

    def _become(self, position: int, item: Clone, cloner: scm.Socket) -> None:
        """Go on as the child that `item` made; never returns."""
        code = StepError.exit_code
        for link in self.links.values():
            link.close()
        self.links = dict.fromkeys(self.roles, cloner)
        self.parent = cloner
        if item.sibling and self.upward is not None:
            self.parent = self.links[RUNTIME] = self.upward
            self.upward = None
        try:
            self.children = []
            self.roles = (item.child,)
            self.slots["channel"] = self.parent.fileno()
            if item.child == INIT:
                stop_imports()
            try:
                self.run(position)
                code = 0
                if self.afterlife is not None and item.child != INIT:
                    code = self.afterlife(self)
            except JubakoError as failure:
                code = failure.exit_code
                send(self.parent, Failed.of(failure))
        except BrokenPipeError:
            pass
        except BaseException:  # a fault of ours: never let a half-made child run on into its parent's code
            _report_fault(self.parent)
        finally:
            os._exit(code)

    def _answer_to(self, connection: scm.Socket) -> None:
        """From here on it is the process behind `connection` that hears of a failure, and of its absence."""
        for link in set(self.links.values()):
            if link is self.parent:
                link.close()
            else:
                link.detach()  # a sibling's link to its cloner: `CloseDescriptors` has left the channel alone
        self.links = {RUNTIME: connection}
        self.parent = connection
        self.slots["channel"] = connection.fileno()

    def _await_baton(self, position: int) -> None:
        actor = self.plan.steps[position - 1].actor
        message, descriptors = receive(self.links[actor])
        for name, fd in zip(self._passed(position), descriptors, strict=False):
            self.slots[name] = fd
        if not isinstance(message, Baton) or message.position != position:
            raise self._lost(actor, position, message)

    def _lost(self, actor: str, position: int, message: Message | None) -> JubakoError:
        """What is wrong with an actor who said `message` instead of passing or taking the baton."""
        if isinstance(message, Failed):
            return message.error(self._names())
        return StepError(
            "wait for", f"the {actor}", reason=f"it ended before step {position + 1} ({self._names()[position]})"
        )

    def wait_for_exec(self) -> None:
        """Wait until PID 1 has become the program (its end of the link closes on exec) or has failed."""
        message, _descriptors = receive(self.links[INIT])
        if isinstance(message, Failed):
            error = message.error(self._names())
            self.end_children()
            raise error

    def end_children(self) -> None:
        """Kill and reap what this process has cloned."""
        siblings = {item.child for item in self.plan.steps if isinstance(item, Clone) and item.sibling}
        adopted = siblings.intersection(self.links).difference(self.children)
        for child in (*self.children, *adopted):
            pidfd = self.slots.values.get(f"{child}_pidfd", -1)
            pid = self.slots.values.pop(f"{child}_child", 0)
            if pidfd >= 0:
                try:
                    send_signal(pidfd, SIGKILL)
                except ProcessLookupError:
                    pass
                if child in adopted:
                    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            if pid and child not in siblings:
                os.waitpid(pid, 0)
            self.slots.close(f"{child}_pidfd")
            # An adopted child that this process has not been told of yet ends by itself when its link is closed.
            self.links.pop(child).close()
        self.children = []

    def _names(self) -> tuple[str, ...]:
        return tuple(type(item).__name__ for item in self.plan.steps)

    def _step_error(self, position: int, item: Step, failure: OSError) -> StepError:
        number = failure.errno or 0
        reason = "" if failure.strerror in (None, os.strerror(number)) else str(failure.strerror)
        return StepError(
            item.operation(),
            item.subject() or (str(failure.filename) if failure.filename is not None else ""),
            errno=number,
            reason=reason,
            hint=item.hint(number),
            step=(position + 1, len(self.plan.steps), type(item).__name__),
        )


def _report_fault(parent: scm.Socket) -> None:
    kind, value, trace = sys.exc_info()
    if _DEBUG:
        sys.excepthook(kind, value, trace)  # type: ignore[arg-type]
    last = f"{kind.__name__ if kind is not None else ''}: {value}"
    send(parent, Failed(0, "run a step", "", 0, f"a fault in jubako: {last}", "JUBAKO_DEBUG=1 shows where", 125))
