"""The launcher and its caller: threads, memory, forks, and the end of each of them, by `kill -9` too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import jubako
from jubako.sandbox.sandbox import close_shared
from world.rest import at_rest

GIBIBYTE = 1 << 30


@pytest.fixture(autouse=True)
def _no_launcher_stays(_leaves_nothing: None) -> Iterator[None]:
    yield
    close_shared()


def test_many_threads_of_a_big_process_call_at_once() -> None:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    ballast = bytearray(2 * GIBIBYTE if free > 4 * GIBIBYTE else GIBIBYTE // 4)
    ballast[::4096] = b"x" * len(ballast[::4096])
    results: list[tuple[str, int]] = []

    def work(name: str) -> None:
        for number in range(8):
            result = jubako.run(["sh", "-c", "echo $0; exit $1", name, str(number)])
            results.append((result.stdout.strip(), result.exit_code))

    threads = [threading.Thread(target=work, args=(f"thread {index}",)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted((f"thread {index}", number) for index in range(8) for number in range(8))


def test_calls_leave_no_descriptor_here_and_none_in_the_launcher() -> None:
    with jubako.Sandbox() as sandbox:
        for _call in range(3):
            sandbox.run(["true"])
        at_rest(sandbox.launcher_pid)  # the child that waits for the next call has been made by then
        places = ("/proc/self/fd", f"/proc/{sandbox.launcher_pid}/fd")
        before = [len(os.listdir(place)) for place in places]
        for _call in range(20):
            sandbox.run(["true"])
        at_rest(sandbox.launcher_pid)
        assert [len(os.listdir(place)) for place in places] == before


def test_a_killed_launcher_takes_its_containers_along_and_is_replaced() -> None:
    with jubako.Sandbox() as sandbox:
        container = sandbox.start(["sleep", "1000"])
        first = sandbox.launcher_pid
        os.kill(first, signal.SIGKILL)
        with pytest.raises(jubako.JubakoError, match="launcher process has ended"):
            container.wait(10)
        container.close()
        assert _gone(container.pid)
        assert sandbox.run(["echo", "again"]).stdout == "again\n"
        assert sandbox.launcher_pid != first


def test_a_killed_container_is_told_as_its_exit_code() -> None:
    with jubako.start(["sleep", "1000"]) as container:
        os.kill(container.pid, signal.SIGKILL)
        assert container.wait(10) == 137


CALLER = """
import jubako, threading, time
container = jubako.start(["sleep", "1000"])
import jubako.sandbox.sandbox as sandbox
print(container.pid, sandbox._shared.pid, flush=True)
threading.Thread(target=lambda: jubako.run(["sleep", "1000"]), daemon=True).start()
time.sleep(1000)
"""


def test_a_killed_caller_takes_everything_along() -> None:
    path = str(Path(jubako.__file__).parents[1])
    with subprocess.Popen(
        (sys.executable, "-c", CALLER), stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as caller:
        assert caller.stdout is not None
        container, launcher = (int(word) for word in caller.stdout.readline().split())
        time.sleep(0.3)
        caller.kill()
    assert _gone(container)
    assert _gone(launcher)


def test_a_forked_caller_has_a_launcher_of_its_own() -> None:
    jubako.run(["true"])
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, jubako.run(["echo", "child"]).stdout.encode())
            close_shared()
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        assert file.read() == "child\n"
    os.waitpid(pid, 0)
    assert jubako.run(["echo", "parent"]).stdout == "parent\n"


def test_an_exception_in_the_caller_ends_the_container() -> None:
    class Alarm(Exception):
        pass

    def ring(*_arguments: object) -> None:
        raise Alarm

    with jubako.Sandbox() as sandbox:
        sandbox.run(["true"])
        old = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            with pytest.raises(Alarm):
                sandbox.run(["sleep", "1001"])
        finally:
            signal.signal(signal.SIGALRM, old)
        until = time.monotonic() + 5
        while _sleepers("1001") and time.monotonic() < until:
            time.sleep(0.02)
        assert not _sleepers("1001")


def test_a_container_that_sees_the_hosts_processes_cannot_look_into_the_launcher() -> None:
    with jubako.Sandbox(pid="host") as sandbox:
        sandbox.run(["true"])
        launcher = f"/proc/{sandbox.launcher_pid}"
        for name in ("root/etc", "cwd/etc", "environ", "mem", "maps", "fd/3", "exe"):
            result = sandbox.run(["sh", "-c", f"ls {launcher}/{name} && cat {launcher}/{name} | head -c 1"])
            assert "ermission denied" in result.stderr, f"{name}: {result}"


def _gone(pid: int) -> bool:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


def _sleepers(seconds: str) -> list[str]:
    found = []
    for name in os.listdir("/proc"):
        try:
            words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", seconds.encode()]:
            found.append(name)
    return found
