"""The caller's side: the detach sequence, what is copied, how it ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import StepError, UsageError
from jubako.linux import scm
from jubako.runtime.caller import DETACHED, LOST, Caller, Relay, _find_keys, parse_detach_keys
from jubako.runtime.messages import Detach, Exited, Failed, Signal, Started, receive, send


@pytest.mark.parametrize(
    ("text", "keys"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("", b""), ("a", b"a"), ("ctrl-@,ctrl-[,ctrl-_,x", b"\x00\x1b\x1fx"),
     ("ctrl-P", b"\x10"), ("ctrl-\\", b"\x1c")],
)  # fmt: skip
def test_detach_keys_are_written_as_docker_has_them(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-pq", "ctrl-1", "alt-a", "a,,b", ",", "pq"])
def test_keys_that_there_are_not_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--detach-keys"):
        parse_detach_keys(text)


@given(st.lists(st.binary(max_size=4), max_size=8), st.sampled_from([b"\x10\x11", b"aab", b"q"]))
def test_the_sequence_is_found_however_it_is_cut_and_nothing_else_is_kept_back(parts: list[bytes], keys: bytes) -> None:
    passed, held = b"", b""
    typed = b"".join(parts)
    for part in parts:
        now, held, found = _find_keys(held + part, keys)
        passed += now
        if found:
            assert passed == typed[: typed.index(keys)]
            return
    assert passed + held == typed
    assert len(held) < len(keys)
    assert keys.startswith(held)
    assert keys not in typed


def test_a_beginning_that_goes_on_otherwise_is_passed_on() -> None:
    assert _find_keys(b"x\x10", b"\x10\x11") == (b"x", b"\x10", False)
    assert _find_keys(b"\x10y", b"\x10\x11") == (b"\x10y", b"", False)
    assert _find_keys(b"x\x10\x11y", b"\x10\x11") == (b"x", b"", True)
    assert _find_keys(b"aaab", b"aab") == (b"a", b"", True)


@pytest.fixture
def link() -> Iterator[tuple[scm.Socket, scm.Socket]]:
    ours, theirs = scm.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


@contextmanager
def replaced(number: int, fd: int) -> Iterator[None]:
    """The test's own standard stream `number` leads to `fd`, which is taken over."""
    saved = os.dup(number)
    os.dup2(fd, number)
    os.close(fd)
    try:
        yield
    finally:
        os.dup2(saved, number)
        os.close(saved)


Link = tuple[scm.Socket, scm.Socket]


def test_the_exit_code_is_what_the_supervisor_says_after_all_output(link: Link) -> None:
    reader, writer = os.pipe()
    shown, stdout = os.pipe()
    send(link[1], Started(5))
    send(link[1], Exited(7))
    threading.Timer(0.02, lambda: (os.write(writer, b"late"), os.close(writer))).start()
    started: list[int] = []
    with replaced(1, stdout):
        assert Caller(link[0], Relay(output=reader), lambda: started.append(1)).wait() == 7
    assert os.read(shown, 10) == b"late"
    os.close(shown)
    assert started == [1]


def test_a_supervisor_that_was_killed_is_lost(link: Link) -> None:
    link[1].close()
    assert Caller(link[0], Relay()).wait() == LOST


def test_a_start_that_failed_is_raised(link: Link) -> None:
    send(link[1], Failed.of(StepError("mount", "/x", errno=1, step=(2, 3, "MountFileSystem"))))
    with pytest.raises(StepError, match="step 2 of 3: MountFileSystem"):
        Caller(link[0], Relay()).wait()


def test_input_is_copied_and_its_end_is_the_programs(link: Link) -> None:
    reader, writer = os.pipe()
    stdin, keyboard = os.pipe()
    os.write(keyboard, b"typed")
    os.close(keyboard)

    def answer() -> None:
        assert os.read(reader, 10) == b"typed"
        assert os.read(reader, 10) == b""
        send(link[1], Exited(0))

    thread = threading.Thread(target=answer)
    thread.start()
    with replaced(0, stdin):
        assert Caller(link[0], Relay(input=writer)).wait() == 0
    thread.join()
    os.close(reader)


def test_the_detach_keys_leave_the_container_running(link: Link) -> None:
    reader, writer = os.pipe()
    stdin, keyboard = os.pipe()
    os.write(keyboard, b"before\x10\x11")
    with replaced(0, stdin):
        assert Caller(link[0], Relay(input=writer, detach_keys=b"\x10\x11")).wait() == DETACHED
    assert receive(link[1])[0] == Detach()
    assert os.read(reader, 100) == b"before"
    for fd in (reader, writer, keyboard):
        os.close(fd)


def test_whoever_detaches_does_not_wait_for_a_program_that_reads_nothing(link: Link) -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    stdin, keyboard = os.pipe()
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.write(keyboard, b"typed\x10\x11")
    with replaced(0, stdin):
        assert Caller(link[0], Relay(input=writer, detach_keys=b"\x10\x11")).wait() == DETACHED
    for fd in (reader, writer, keyboard):
        os.close(fd)


@pytest.mark.parametrize("forward", [True, False])
def test_signals_are_passed_on_if_wanted_and_the_callers_own_handlers_come_back(link: Link, forward: bool) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: seen.append(number))

    def answer() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        if forward:
            assert receive(link[1])[0] == Signal(signal.SIGUSR1)
        send(link[1], Exited(0))

    thread = threading.Timer(0.05, answer)
    thread.start()
    assert Caller(link[0], Relay(forward_signals=forward)).wait() == 0
    thread.join()
    assert seen == ([] if forward else [signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    assert seen[-1:] == [signal.SIGUSR1]
    signal.signal(signal.SIGUSR1, before)


def test_a_reader_of_ours_that_is_gone_ends_the_copying_and_not_the_caller(link: Link) -> None:
    gone_reader, gone_writer = os.pipe()
    os.close(gone_reader)
    reader, writer = os.pipe()
    os.write(writer, b"nobody reads this")
    threading.Timer(0.03, lambda: send(link[1], Exited(3))).start()
    with replaced(1, gone_writer):
        assert Caller(link[0], Relay(output=reader)).wait() == 3
    os.close(writer)
