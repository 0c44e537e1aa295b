"""The supervisor's life: what it copies, whom it hears, how it ends. Real processes, no namespaces."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jubako.linux import scm
from jubako.plan.step import INIT, Plan, Slots, Step, step
from jubako.plan.steps.process import ConnectStreams
from jubako.plan.steps.processes import CloneInit, CloneSupervisor
from jubako.runtime.applier import Applier
from jubako.runtime.clients import CONTROL
from jubako.runtime.messages import (
    Attach,
    Attached,
    Detach,
    Exited,
    GiveNamespaces,
    Message,
    Namespaces,
    Resize,
    Signal,
    Started,
    receive,
    send,
)
from jubako.runtime.monitor import Monitor, Watch


@step(actor=INIT)
class Become(Step):
    """The program."""

    script: str

    def apply(self, slots: Slots) -> None:
        os.execv("/bin/sh", ["sh", "-c", self.script])


class World:
    """One supervisor with its program, seen from the caller."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pipes: list[int] = []
        self.applier: Applier | None = None

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self.pipes += ends
        return ends

    def start(self, script: str, **watch: Any) -> scm.Socket:
        """The link to a supervisor whose program writes to its pipes, after `Started`."""
        stdin, stdin_writer = self.pipe()
        stdout_reader, stdout = self.pipe()
        stderr_reader, stderr = self.pipe()
        told = Watch(
            **{"directory": str(self.directory), "stdout": stdout_reader, "stderr": stderr_reader,
               "stdin": stdin_writer, **watch}
        )  # fmt: skip
        self.applier = Applier(
            Plan((CloneSupervisor(0), CloneInit(0), ConnectStreams(("i", "o", "e")), Become(script))),
            Slots({"i": stdin, "o": stdout, "e": stderr}),
            afterlife=lambda applier: Monitor(applier, told, self.started, self.ended).run(),
        )
        self.applier.run()
        for fd in (stdin, stdin_writer, stdout_reader, stdout, stderr_reader, stderr):
            self.close(fd)
        for name in ("out", "err", "feed"):
            if name in watch:
                self.close(watch[name])
        return self.applier.links["supervisor"]

    def close(self, fd: int) -> None:
        os.close(fd)
        self.pipes.remove(fd)

    def started(self, pid: int, supervisor: int) -> None:
        (self.directory / "started").write_text(f"{pid} {supervisor == os.getpid()}")

    def ended(self, code: int) -> None:
        (self.directory / "ended").write_text(f"{code}")

    def end(self) -> None:
        if self.applier is not None:
            self.applier.end_children()
        for fd in self.pipes:
            os.close(fd)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    before = set(os.listdir("/proc/self/fd"))
    made = World(tmp_path)
    yield made
    made.end()
    del made.applier
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert set(os.listdir("/proc/self/fd")) <= before


def hear(link: scm.Socket) -> Message | None:
    """The next message; a test must not wait for ever."""
    assert select.select([link], [], [], 10)[0], "nothing was said"
    return receive(link)[0]


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def read_all(fd: int) -> bytes:
    return b"".join(iter(lambda: os.read(fd, 1 << 16), b""))


def test_the_exit_code_is_told_after_the_start_and_written_down(world: World, tmp_path: Path) -> None:
    link = world.start("exit 7")
    assert isinstance(hear(link), Started)
    assert hear(link) == Exited(7)
    assert (tmp_path / "ended").read_text() == "7"
    assert (tmp_path / "started").read_text().endswith(" True")
    assert hear(link) is None


def test_a_program_ended_by_a_signal_has_128_and_its_number(world: World) -> None:
    link = world.start("kill -TERM $$")
    hear(link)
    assert hear(link) == Exited(143)


def test_all_that_was_written_reaches_the_caller_and_the_log(world: World, tmp_path: Path) -> None:
    out_reader, out = world.pipe()
    err_reader, err = world.pipe()
    link = world.start("seq 30000; echo oops >&2", out=out, err=err, log=f"{tmp_path}/log")
    assert isinstance(hear(link), Started)
    expected = "".join(f"{number}\n" for number in range(1, 30001)).encode()
    assert read_all(out_reader) == expected
    assert read_all(err_reader) == b"oops\n"
    assert hear(link) == Exited(0)
    logged = (tmp_path / "log").read_bytes().splitlines()
    assert any(line.endswith(b"stderr F oops") for line in logged)
    text = b""
    for line in logged:
        _stamp, name, kind, rest = line.split(b" ", 3)
        text += (rest + (b"\n" if kind == b"F" else b"")) if name == b"stdout" else b""
    assert text == expected


def test_a_reader_that_went_away_before_the_end_harms_nobody(world: World, tmp_path: Path) -> None:
    out_reader, out = world.pipe()
    link = world.start("seq 30000; read x; exit 3", out=out, log=f"{tmp_path}/log")
    hear(link)
    assert os.read(out_reader, 2) == b"1\n"
    world.close(out_reader)
    send(link, Signal(signal.SIGKILL))
    assert hear(link) == Exited(137)
    assert (tmp_path / "ended").read_text() == "137"


def test_a_reader_that_goes_away_while_the_last_words_wait_for_it_harms_nobody(world: World, tmp_path: Path) -> None:
    out_reader, out = world.pipe()
    link = world.start("seq 30000; exec sleep 60", out=out)
    begun = hear(link)
    assert isinstance(begun, Started)
    select.select([out_reader], [], [], 10)
    os.kill(begun.pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{begun.pid}"))  # reaped: now the rest is to be delivered
    world.close(out_reader)
    assert hear(link) == Exited(137)
    assert (tmp_path / "ended").read_text() == "137"


def test_signals_of_the_caller_reach_the_program(world: World) -> None:
    out_reader, out = world.pipe()
    link = world.start("trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done", out=out)
    hear(link)
    assert os.read(out_reader, 10) == b"ready\n"
    send(link, Signal(200))  # is none: nobody minds
    send(link, Resize(5, 5))  # there is no terminal
    send(link, Signal(signal.SIGUSR1))
    assert hear(link) == Exited(5)


def test_a_caller_who_was_killed_takes_the_container_along(world: World, tmp_path: Path) -> None:
    link = world.start("exec sleep 60")
    hear(link)
    link.close()
    wait_until((tmp_path / "ended").exists)
    wait_until(lambda: (tmp_path / "ended").read_text() == "137")


def test_a_caller_who_detached_does_not_and_others_may_still_be_heard(world: World, tmp_path: Path) -> None:
    link = world.start("exec sleep 60")
    hear(link)
    send(link, Detach())
    assert hear(link) is None
    client = scm.connect(str(tmp_path), CONTROL)
    assert not (tmp_path / "ended").exists()
    send(client, Signal(signal.SIGTERM))
    assert hear(client) == Exited(143)
    client.close()


def test_a_detached_supervisor_lets_its_caller_go_once_the_program_runs(world: World, tmp_path: Path) -> None:
    link = world.start("exec sleep 60", detached=True)
    assert isinstance(hear(link), Started)
    assert hear(link) is None
    assert world.applier is not None
    assert os.readlink(f"/proc/{world.applier.slots['supervisor_child']}/cwd") == "/"
    client = scm.connect(str(tmp_path), CONTROL)
    send(client, Signal(signal.SIGKILL))
    assert hear(client) == Exited(137)
    client.close()


def test_a_time_that_is_over_ends_the_container(world: World) -> None:
    link = world.start("exec sleep 60", timeout=0.05)
    hear(link)
    assert hear(link) == Exited(137)


def test_whoever_attaches_sees_output_and_may_type(world: World, tmp_path: Path) -> None:
    link = world.start("read line; echo got $line; echo bad >&2; read end; exit 4")
    hear(link)
    client = scm.connect(str(tmp_path), CONTROL)
    send(client, Attach(1))
    message, (out, err, feed) = receive(client)
    assert message == Attached(0)
    os.write(feed, b"hello\n")
    assert os.read(out, 100) == b"got hello\n"
    assert os.read(err, 100) == b"bad\n"
    os.write(feed, b"\n")
    assert hear(client) == Exited(4)
    assert hear(link) == Exited(4)
    assert os.read(out, 1) == b""
    for fd in (out, err, feed):
        os.close(fd)
    client.close()


def test_nonsense_of_a_client_ends_its_connection_only(world: World, tmp_path: Path) -> None:
    link = world.start("read x; exit 0")
    hear(link)
    client = scm.connect(str(tmp_path), CONTROL)
    scm.send(client, b"nonsense", (0,))
    assert hear(client) is None
    client.close()
    gone = scm.connect(str(tmp_path), CONTROL)
    send(gone, GiveNamespaces())
    gone.close()
    send(link, Signal(signal.SIGKILL))
    assert hear(link) == Exited(137)


def test_namespaces_are_given_as_descriptors_and_last_the_program_itself(world: World, tmp_path: Path) -> None:
    link = world.start("read x")
    hear(link)
    client = scm.connect(str(tmp_path), CONTROL)
    send(client, GiveNamespaces())
    message, descriptors = receive(client)
    assert isinstance(message, Namespaces)
    kinds = message.kinds.split(",")
    assert {"user", "mount", "pid", "network"} <= set(kinds)
    assert len(descriptors) == len(kinds) + 1
    namespace = descriptors[kinds.index("network")]
    assert os.path.samestat(os.fstat(namespace), os.stat("/proc/self/ns/net"))
    signal.pidfd_send_signal(descriptors[-1], signal.SIGKILL)
    assert hear(client) == Exited(137)
    for fd in descriptors:
        os.close(fd)
    client.close()


def test_input_of_the_caller_ends_where_the_callers_does(world: World) -> None:
    feed, keyboard = world.pipe()
    out_reader, out = world.pipe()
    link = world.start("cat; echo end", feed=feed, out=out)
    hear(link)
    os.write(keyboard, b"typed ")
    world.close(keyboard)
    assert read_all(out_reader) == b"typed end\n"
    assert hear(link) == Exited(0)
