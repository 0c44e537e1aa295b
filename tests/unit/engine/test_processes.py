"""The processes of a container are found whatever they call themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from jubako.engine.processes import Process, _read_processes


def processes_below(pid: int, namespace: int = 0) -> list[Process]:
    return [Process(*values) for values in _read_processes(pid, namespace)]


def test_a_process_and_all_that_it_started_are_found_with_their_numbers(tmp_path: Path):
    odd = tmp_path / "odd) R 1 (\n"
    shutil.copy("/bin/sleep", odd)
    parent = subprocess.Popen(["/bin/sh", "-c", '"$0" 30 & exec /bin/sleep 31', odd])
    try:
        for _attempt in range(100):
            found = processes_below(parent.pid)
            # until both have executed what they are to execute: before that the child is a copy of its parent
            if [one.command for one in found if one.state == "sleeping"] == ["/bin/sleep 31", f"{odd} 30"]:
                break
            time.sleep(0.05)
        first, second = found
        assert (first.host_pid, first.command) == (parent.pid, "/bin/sleep 31")
        assert (second.ppid, second.command) == (first.pid, f"{odd} 30")
        assert first.uid == os.getuid()
        assert all(0 <= one.elapsed < 60 and one.cpu >= 0 and one.state == "sleeping" for one in found)
    finally:
        subprocess.run(["kill", str(second.host_pid)], check=False)
        parent.kill()
        parent.wait()


def test_everything_in_the_namespace_is_found_and_nothing_else():
    own = os.stat("/proc/self/ns/pid").st_ino
    found = {one.host_pid for one in processes_below(os.getpid(), own)}
    assert os.getpid() in found
    assert {one.host_pid for one in processes_below(os.getpid(), 1)} >= {os.getpid()}
    assert len(processes_below(os.getpid(), 1)) < len(found)


def test_a_process_that_is_gone_has_none():
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    assert processes_below(child.pid) == []
