"""A child that one process clones for another: who is linked to whom, who waits, and what is left when it fails."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.errors import StepError
from jubako.linux import scm
from jubako.linux.clone import CLONE_PARENT
from jubako.linux.pidfd import host_pid
from jubako.plan.step import INIT, RUNTIME, SUPERVISOR, Plan, Slots, Step, step
from jubako.plan.steps.processes import AwaitCaller, CloneInit, CloneSupervisor
from jubako.runtime.applier import Applier
from jubako.runtime.messages import Failed, receive
from jubako.waiting import START


class _Write(Step):
    fd: int
    text: str

    def apply(self, slots: Slots) -> None:
        os.write(self.fd, f"{self.text}:{os.getpid()} ".encode())


@step(actor=SUPERVISOR)
class StageWrites(_Write):
    """The stage writes."""


@step(actor=INIT)
class InitWrites(_Write):
    """The first process writes, and who its parent is."""

    def apply(self, slots: Slots) -> None:
        os.write(self.fd, f"{self.text}:{os.getppid()} ".encode())


@step(actor=RUNTIME)
class RuntimeHears(Step):
    """The runtime hears which process the stage has cloned."""

    needs = ("init_pidfd",)

    def apply(self, slots: Slots) -> None:
        slots["heard"] = host_pid(slots["init_pidfd"])


@step(actor=SUPERVISOR)
class StageMakesPipe(Step):
    """A descriptor of the stage's that the first process needs, past the runtime."""

    produces = ("gift",)

    def apply(self, slots: Slots) -> None:
        slots["gift"], writer = os.pipe()
        os.write(writer, b"past the runtime")
        os.close(writer)


@step(actor=INIT)
class InitReadsPipe(Step):
    """It arrives."""

    fd: int

    needs = ("gift",)

    def apply(self, slots: Slots) -> None:
        os.write(self.fd, os.read(slots["gift"], 100))


@step(actor=SUPERVISOR)
class StageFails(Step):
    """The stage fails."""

    def apply(self, slots: Slots) -> None:
        raise OSError(13, os.strerror(13), "/x")


@step(actor=INIT)
class InitFails(Step):
    """The first process fails."""

    def apply(self, slots: Slots) -> None:
        raise OSError(13, os.strerror(13), "/y")


@step(actor=RUNTIME)
class RuntimeWaits(Step):
    """Has the runtime wait for what comes before."""

    def apply(self, slots: Slots) -> None:
        return


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def text(reader: int) -> str:
    ready, _, _ = select.select([reader], [], [], 5)
    return os.read(reader, 1000).decode() if ready else ""


def staged(*steps: Step) -> Applier:
    plan = Plan((CloneSupervisor(0), *steps))
    plan.check_slots()
    return Applier(plan, Slots())


def children() -> set[int]:
    """The children of this process, but for those that have ended."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    alive = {int(pid) for pid in path.read_text().split()}
    return {pid for pid in alive if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"}


def reaped() -> bool:
    """Whether an ended child was there to be waited for: a runtime that fails leaves that to its own end."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


@pytest.fixture(autouse=True)
def _leaves_no_process() -> Iterator[None]:
    before = children()
    yield
    for _attempt in range(100):
        if children() <= before:
            while reaped():
                continue
            return
        select.select([], [], [], 0.05)
    pytest.fail(f"still running: {children() - before}")


def test_the_stages_clone_is_the_runtimes_child(pipe: tuple[int, int]) -> None:
    applier = staged(CloneInit(CLONE_PARENT), RuntimeHears(), InitWrites(pipe[1], "parent"), RuntimeWaits())
    applier.run()
    assert text(pipe[0]) == f"parent:{os.getpid()} "
    os.waitpid(applier.slots["supervisor_child"], 0)
    assert os.waitpid(applier.slots["heard"], 0)[0] == applier.slots["heard"]


def test_a_descriptor_of_the_stages_reaches_the_first_process_through_the_runtime(pipe: tuple[int, int]) -> None:
    applier = staged(
        StageMakesPipe(), CloneInit(CLONE_PARENT), RuntimeHears(), InitReadsPipe(pipe[1]), RuntimeWaits()
    )  # fmt: skip
    applier.run()
    assert text(pipe[0]) == "past the runtime"
    os.waitpid(applier.slots["supervisor_child"], 0)
    os.waitpid(applier.slots["heard"], 0)


@pytest.mark.parametrize("when", ["before the clone", "after the clone"])
def test_a_stage_that_fails_leaves_no_process(when: str) -> None:
    clone = CloneInit(CLONE_PARENT)
    steps = (StageFails(), clone) if when.startswith("before") else (clone, StageFails())
    with pytest.raises(StepError, match="/x: Permission denied"):
        staged(*steps, RuntimeHears()).run()


def test_a_first_process_that_fails_is_heard_by_the_runtime_itself() -> None:
    with pytest.raises(StepError, match="/y: Permission denied") as caught:
        staged(CloneInit(CLONE_PARENT), RuntimeHears(), InitFails(), RuntimeWaits()).run()
    assert caught.value.step == (4, 5, "InitFails")


def test_who_connects_hears_of_a_failure_after_the_start(tmp_path: Path) -> None:
    steps = (CloneInit(0), RuntimeHears(), AwaitCaller(), InitFails())
    plan = Plan(steps, ("listener",))
    plan.check_slots()
    listener = scm.listen(str(tmp_path), "start")
    applier = Applier(plan, Slots({"listener": listener}), (RUNTIME, SUPERVISOR))
    applier.run()
    listener.close()
    link = scm.connect(str(tmp_path), "start")
    scm.send(link, START)
    message, _descriptors = receive(link)
    link.close()
    assert isinstance(message, Failed)
    assert "/y: Permission denied" in str(message.error())
    assert os.waitpid(applier.slots["init_child"], 0)[1] >> 8 == 125


def test_the_end_of_the_runtime_before_the_start_ends_the_first_process(tmp_path: Path) -> None:
    listener = scm.listen(str(tmp_path), "start")
    steps = (CloneInit(0), RuntimeHears(), AwaitCaller())
    runtime = os.fork()
    if runtime == 0:
        plan = Plan((*steps[:2], AwaitCaller()), ("listener",))
        applier = Applier(plan, Slots({"listener": listener}), (RUNTIME, SUPERVISOR))
        applier.slots["recorder"] = None
        original = RuntimeHears.apply
        RuntimeHears.apply = lambda self, slots: os.kill(os.getpid(), 9)  # type: ignore[method-assign]
        try:
            applier.run()
        finally:
            RuntimeHears.apply = original  # type: ignore[method-assign]
            os._exit(1)
    os.waitpid(runtime, 0)
    listener.close()
    assert any(refuses(tmp_path / "start") for _attempt in range(100)), "somebody still waits at the socket"


def refuses(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        try:
            link.connect(str(path))
        except ConnectionRefusedError:
            return True
    select.select([], [], [], 0.05)
    return False
