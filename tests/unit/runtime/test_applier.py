"""One plan, several processes: who does what when, how a failure is told, and that nothing is left behind.

The steps here are made up and the clones make no namespaces, so no privileges are needed; the processes are real.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator

import pytest

from jubako.errors import JubakoError, ProgramNotFoundError, StepError, UsageError
from jubako.plan.step import INIT, RUNTIME, SUPERVISOR, Plan, Slots, Step, step
from jubako.plan.steps.processes import CloneInit, CloneSupervisor
from jubako.runtime.applier import Applier
from jubako.runtime.messages import Failed, receive


class _Write(Step):
    fd: int
    text: str

    def apply(self, slots: Slots) -> None:
        os.write(self.fd, f"{self.text} ".encode())


@step(actor=RUNTIME)
class RuntimeWrites(_Write):
    """The runtime writes."""


@step(actor=SUPERVISOR)
class SupervisorWrites(_Write):
    """The supervisor writes."""


@step(actor=INIT)
class InitWrites(_Write):
    """The first process writes."""


class _Fail(Step):
    kind: str = "os"

    def apply(self, slots: Slots) -> None:
        if self.kind == "os":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), "/x")
        if self.kind == "words":
            raise OSError(errno.ENODEV, "not a device", "/x")
        if self.kind == "usage":
            raise UsageError("do", "it", reason="because")
        if self.kind == "missing":
            raise ProgramNotFoundError("execute", "sh", errno=errno.ENOENT)
        if self.kind == "killed":
            os.kill(os.getpid(), 9)
        raise ZeroDivisionError("by us")

    def hint(self, errno_: int) -> str:
        return f"hint {errno_}"


@step(actor=RUNTIME)
class RuntimeFails(_Fail):
    """The runtime fails."""


@step(actor=SUPERVISOR)
class SupervisorFails(_Fail):
    """The supervisor fails."""


@step(actor=INIT)
class InitFails(_Fail):
    """The first process fails."""


@step(actor=RUNTIME)
class RuntimeGoesOn(Step):
    """Makes the runtime wait for the others."""

    def apply(self, slots: Slots) -> None:
        return


@step(actor=SUPERVISOR)
class SupervisorGoesOn(Step):
    """Makes the supervisor wait for the first process."""

    def apply(self, slots: Slots) -> None:
        return


@step(actor=INIT)
class OpensPipe(Step):
    """The first process makes a descriptor that the supervisor has not."""

    produces = ("master",)

    def apply(self, slots: Slots) -> None:
        slots["master"], writer = os.pipe()
        os.write(writer, b"through the baton")
        os.close(writer)


@step(actor=SUPERVISOR)
class ReadsPipe(Step):
    """The supervisor reads from it and writes it on."""

    fd: int

    needs = ("master",)

    def apply(self, slots: Slots) -> None:
        os.write(self.fd, os.read(slots["master"], 100))


@step(actor=RUNTIME)
class EndsSupervisor(Step):
    """Kills the supervisor, and waits until it is dead."""

    def apply(self, slots: Slots) -> None:
        os.kill(slots["supervisor_child"], 9)
        select.select([slots["supervisor_pidfd"]], [], [])


@step(actor=INIT)
class Execs(Step):
    """The first process becomes a program."""

    path: str

    def apply(self, slots: Slots) -> None:
        os.execv(self.path, [self.path])


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Neither a child nor a descriptor is there afterwards that was not before."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert set(os.listdir("/proc/self/fd")) <= before


def wait_inside(applier: Applier) -> int:
    """A supervisor's life: until the first process ends."""
    os.waitpid(applier.slots["init_child"], 0)
    return 7


def finish(applier: Applier) -> int:
    """Wait for the supervisor, as the caller would; its exit status."""
    _pid, status = os.waitpid(applier.slots.values.pop("supervisor_child"), 0)
    applier.slots.close("supervisor_pidfd")
    applier.links.pop("supervisor").close()
    return os.waitstatus_to_exitcode(status)


def failure(*steps: Step, roles: tuple[str, ...] = (RUNTIME,)) -> JubakoError:
    applier = Applier(Plan(steps), Slots(), roles, afterlife=wait_inside)
    with pytest.raises(JubakoError) as caught:
        applier.run()
    assert applier.children == []
    return caught.value


def test_steps_are_done_in_the_plans_order_whoever_does_them(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    plan = Plan(
        (
            RuntimeWrites(writer, "r1"), CloneSupervisor(0), SupervisorWrites(writer, "s2"), CloneInit(0),
            SupervisorWrites(writer, "s3"), InitWrites(writer, "i4"), SupervisorWrites(writer, "s5"),
            InitWrites(writer, "i6"), InitWrites(writer, "i7"), SupervisorWrites(writer, "s8"),
            RuntimeWrites(writer, "r9"), SupervisorWrites(writer, "s10"),
        )
    )  # fmt: skip
    applier = Applier(plan, Slots(), afterlife=wait_inside)
    applier.run()
    assert finish(applier) == 7
    assert os.read(reader, 200) == b"r1 s2 s3 i4 s5 i6 i7 s8 r9 s10 "


def test_a_plan_without_a_supervisor_is_walked_in_its_role(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    steps = (SupervisorWrites(writer, "s1"), CloneInit(0), InitWrites(writer, "i2"), SupervisorWrites(writer, "s3"))
    applier = Applier(Plan(steps), Slots(), (SUPERVISOR,))
    applier.run()
    assert os.read(reader, 100) == b"s1 i2 s3 "
    applier.end_children()
    assert applier.children == []


def test_descriptors_go_with_the_baton(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    applier = Applier(
        Plan((CloneSupervisor(0), CloneInit(0), OpensPipe(), ReadsPipe(writer))), Slots(), afterlife=wait_inside
    )
    applier.run()
    assert finish(applier) == 7
    assert os.read(reader, 100) == b"through the baton"


def test_a_failure_of_the_runtimes_own_step_is_raised_with_its_number() -> None:
    error = failure(CloneSupervisor(0), RuntimeFails())
    assert str(error) == ("runtime fails /x: Permission denied (EACCES)\n  step 2 of 2: RuntimeFails\n  hint: hint 13")
    assert isinstance(error, StepError)


def test_a_failure_of_the_supervisor_is_raised_in_the_runtime_with_its_number() -> None:
    error = failure(CloneSupervisor(0), SupervisorFails(), RuntimeGoesOn())
    assert error.step == (2, 3, "SupervisorFails")
    assert (error.operation, error.subject, error.errno, error.hint) == ("supervisor fails", "/x", 13, "hint 13")


def test_a_failure_of_the_first_process_is_raised_in_the_runtime_with_its_number() -> None:
    error = failure(CloneSupervisor(0), CloneInit(0), InitFails(), SupervisorGoesOn(), RuntimeGoesOn())
    assert error.step == (3, 5, "InitFails")
    assert (error.operation, error.subject, error.errno) == ("init fails", "/x", 13)


def test_a_supervisors_failure_is_told_over_the_link_where_nobody_waits_for_it() -> None:
    applier = Applier(Plan((CloneSupervisor(0), SupervisorFails())), Slots())
    applier.run()
    message, _none = receive(applier.links["supervisor"])
    assert isinstance(message, Failed)
    assert message.error().step == (2, 2, "SupervisorFails")
    assert finish(applier) == 125


def test_the_kernels_words_are_kept_only_where_they_say_more_than_the_errno() -> None:
    assert failure(RuntimeFails("words")).reason == "not a device"
    assert failure(RuntimeFails("os")).reason == ""


@pytest.mark.parametrize("step", [RuntimeFails("usage"), SupervisorFails("usage"), InitFails("usage")])
def test_an_error_of_our_own_words_names_its_step(step: Step) -> None:
    error = failure(CloneSupervisor(0), CloneInit(0), step, SupervisorGoesOn(), RuntimeGoesOn())
    assert (error.operation, error.subject, error.reason) == ("do", "it", "because")
    assert error.step is not None
    assert error.step[2] == type(step).__name__


@pytest.mark.parametrize("step", [RuntimeFails("missing"), SupervisorFails("missing"), InitFails("missing")])
def test_a_missing_program_is_127_from_wherever_it_is_missed(step: Step) -> None:
    error = failure(CloneSupervisor(0), CloneInit(0), step, SupervisorGoesOn(), RuntimeGoesOn())
    assert error.exit_code == 127
    assert error.step is None
    assert error.errno == errno.ENOENT


@pytest.mark.parametrize(("step", "who"), [(SupervisorFails("killed"), "supervisor"), (InitFails("killed"), "init")])
def test_a_process_that_was_killed_is_told_by_who_waits_for_it(step: Step, who: str) -> None:
    error = failure(CloneSupervisor(0), CloneInit(0), step, SupervisorGoesOn(), RuntimeGoesOn())
    assert f"wait for the {who}: it ended before step" in str(error)


def test_a_baton_for_one_who_was_killed_is_an_error_and_not_a_broken_pipe() -> None:
    error = failure(CloneSupervisor(0), EndsSupervisor(), SupervisorGoesOn(), RuntimeGoesOn())
    assert "wait for the supervisor: it ended before step 3 (SupervisorGoesOn)" in str(error)


@pytest.mark.parametrize("step", [SupervisorFails("ours"), InitFails("ours")])
def test_a_fault_of_ours_ends_the_child_and_is_told(step: Step) -> None:
    error = failure(CloneSupervisor(0), CloneInit(0), step, SupervisorGoesOn(), RuntimeGoesOn())
    assert "a fault in jubako: ZeroDivisionError: by us" in str(error)
    assert error.exit_code == 125


def test_a_fault_of_ours_at_the_top_stays_an_exception_and_ends_the_children() -> None:
    applier = Applier(Plan((CloneSupervisor(0), RuntimeFails("ours"))), Slots())
    with pytest.raises(ZeroDivisionError):
        applier.run()
    assert applier.children == []


def test_when_a_later_step_fails_every_process_is_gone(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    failure(CloneSupervisor(0), CloneInit(0), InitWrites(writer, "x"), SupervisorGoesOn(), SupervisorFails(),
            RuntimeGoesOn())  # fmt: skip
    os.close(writer)
    assert os.read(reader, 10) == b"x "
    assert select.select([reader], [], [], 5)[0]
    assert os.read(reader, 10) == b""  # all that had it open are dead


def test_whoever_waits_for_the_exec_learns_that_it_happened() -> None:
    applier = Applier(Plan((CloneInit(0), Execs("/bin/true"))), Slots(), (SUPERVISOR,))
    applier.run()
    applier.wait_for_exec()
    applier.end_children()


def test_whoever_waits_for_the_exec_learns_that_it_failed() -> None:
    applier = Applier(Plan((CloneInit(0), Execs("/no/such/program"))), Slots(), (SUPERVISOR,))
    applier.run()
    with pytest.raises(StepError, match=r"execs: No such file") as caught:
        applier.wait_for_exec()
    assert caught.value.step == (2, 2, "Execs")
    assert applier.children == []


def test_the_links_close_on_exec_and_a_child_knows_its_own() -> None:
    @step(actor=INIT)
    class Looks(Step):
        """Looks at its channel."""

        fd: int

        def apply(self, slots: Slots) -> None:
            text = f"{os.get_inheritable(slots['channel'])} {slots['child']}"
            os.write(self.fd, text.encode())

    reader, writer = os.pipe()
    applier = Applier(Plan((CloneInit(0), Looks(writer), SupervisorGoesOn())), Slots(), (SUPERVISOR,))
    applier.run()
    assert os.read(reader, 100) == b"False 1"
    assert applier.slots["child"] == 0
    applier.end_children()
    os.close(reader)
    os.close(writer)
