"""The steps that make one plan serve many calls: where the request comes in, and where the program starts.

What comes before `TakeRequest` depends on no path and no call: namespaces, ids, loopback. So the launcher has a child
that has done so much already wait for the next call. What follows (every mount source is looked up, every file opened)
happens when the call is there, and sees the host as it is then.
"""

from __future__ import annotations

import os
from select import POLLIN, poll

from jubako.errors import JubakoError
from jubako.linux import scm
from jubako.linux.descriptors import close_all_but
from jubako.linux.memory import Ranges, make_own, own_pages
from jubako.plan.program import find_program
from jubako.plan.step import Slots, Step, step
from jubako.plan.steps.program import FilterAndExec
from jubako.record import replace
from jubako.runtime.requests import Request, receive_request
from jubako.runtime.server import PAGES, STREAMS

_pages: Ranges | None = None
"""What a child will write to; None until one has told."""


def remember_pages(text: bytes) -> None:
    """In the launcher: what the first child told (`TellPages`)."""
    global _pages
    _pages = tuple((int(address), int(size)) for address, _, size in (word.partition(b":") for word in text.split()))


PLACEHOLDER = "\x1a"
"""Stands for the call's arguments in a template's command: no program has this name."""


@step()
class TakeRequest(Step):
    """Wait for one call: its arguments, its environment and its standard streams."""

    learn: bool = False
    """Whether the first child may tell the launcher about its memory: its link must lead there (see `TellPages`)."""

    produces = ("request", *STREAMS)

    def apply(self, slots: Slots) -> None:
        # Nothing of the launcher's is held while waiting: its socket must close when it ends, and no stream may leak.
        kept = (value for value in slots.values.values() if isinstance(value, int) and value > 2)
        close_all_but((0, 1, 2, *kept))
        if _pages is None and self.learn:
            slots["pagemap"] = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        elif _pages:
            waiting = poll()
            waiting.register(slots["channel"], POLLIN)
            if not waiting.poll(0):  # nobody waits: do now what would cost time later
                make_own(_pages)
        link = scm.Socket(fileno=os.dup(slots["channel"]))
        try:
            request, descriptors = receive_request(link, len(STREAMS))
        finally:
            link.close()
        if request is None:  # the launcher has no use for this child any more
            os._exit(0)
        slots["request"] = request
        for name, fd in zip(STREAMS, descriptors, strict=True):
            slots[name] = fd

    def call(self) -> str:
        return "recvmsg(SCM_RIGHTS): argv, envp, stdin, stdout, stderr"

    def operation(self) -> str:
        return "wait for a request"


@step()
class TellPages(Step):
    """The launcher's first child tells which pages its work wrote to; nothing in all others."""

    last: FilterAndExec
    at: int

    def apply(self, slots: Slots) -> None:
        if "pagemap" in slots:
            self._rehearse(slots)
            text = " ".join(f"{address}:{size}" for address, size in own_pages(slots["pagemap"]))
            slots.close("pagemap")
            os.write(slots["channel"], PAGES + text.encode())

    def _rehearse(self, slots: Slots) -> None:
        """Do what the last step will do too, up to the system call filter, so that those pages are among them."""
        final = complete(self.last, self.at, slots["request"])
        try:
            find_program(final.arguments[0], final.environment)
        except JubakoError:  # the last step will tell
            pass

    def call(self) -> str:
        return 'in the launcher\'s first child: pread("/proc/self/pagemap"), send'


@step()
class ExecRequest(Step):
    """The program's own last step, with the arguments and the environment of this call."""

    last: FilterAndExec
    at: int
    """Where the call's arguments stand among the template's; -1 where the template has them all."""

    needs = ("user", "request")

    def apply(self, slots: Slots) -> None:
        complete(self.last, self.at, slots["request"]).apply(slots)

    def call(self) -> str:
        return self.last.call()

    def operation(self) -> str:
        return self.last.operation()


def complete(last: FilterAndExec, at: int, request: Request) -> FilterAndExec:
    """The template's last step with the arguments (from `at` on) and the environment of one call."""
    arguments = last.arguments
    if at >= 0:
        arguments = (*arguments[:at], *(os.fsdecode(argument) for argument in request.arguments))
    environment = last.environment
    if request.environment:
        entries = (*environment, *(os.fsdecode(entry) for entry in request.environment))
        merged = dict(entry.partition("=")[::2] for entry in entries)
        environment = tuple(f"{name}={value}" for name, value in merged.items())
    return replace(last, arguments=arguments, environment=environment)
