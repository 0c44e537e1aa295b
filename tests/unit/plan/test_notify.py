"""The listener of a filter reaches a real one, which answers a real program's calls."""

from __future__ import annotations

import array
import fcntl
import json
import os
import shutil
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import UsageError
from jubako.linux import libseccomp
from jubako.linux import seccomp as kernel
from jubako.linux.prctl import set_dumpable, set_no_new_privs
from jubako.plan.seccomp import custom_filter, wants_listener
from jubako.plan.step import Slots
from jubako.plan.steps import notify, program
from jubako.spec.passwd import ResolvedUser
from jubako.spec.types import Seccomp, SeccompRule

try:
    libseccomp.open_library()
except OSError:
    pytest.skip("libseccomp is not installed", allow_module_level=True)

RECEIVE, SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND
EEXIST = 17


def asked(path: str, *names: str, flags: tuple[str, ...] = ()) -> Seccomp:
    rule = SeccompRule(names or ("mkdir", "mkdirat"), "SCMP_ACT_NOTIFY")
    return Seccomp("SCMP_ACT_ALLOW", listener_path=path, listener_metadata="meta", syscalls=(rule,), flags=flags)


class Agent:
    """Listens, takes one listener, and answers every call with EEXIST."""

    def __init__(self, path: str) -> None:
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.server.bind(path)
        self.server.listen(1)
        self.state: dict[str, Any] = {}
        self.calls = 0
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        connection, _address = self.server.accept()
        with connection:
            data, control, _flags, _from = connection.recvmsg(1 << 20, socket.CMSG_SPACE(4))
            while more := connection.recv(1 << 20):
                data += more
        self.state = json.loads(data)
        listener = array.array("i", control[0][2])[0]
        try:
            while True:
                request = bytearray(80)
                fcntl.ioctl(listener, RECEIVE, request)
                (identity,) = struct.unpack_from("Q", request)
                self.calls += 1
                fcntl.ioctl(listener, SEND, bytearray(struct.pack("QqiI", identity, 0, -EEXIST, 0)))
        except OSError:  # nobody is left to be answered
            os.close(listener)

    def close(self) -> None:
        self.server.close()
        self.thread.join(10)
        assert not self.thread.is_alive()


def run(path: str, command: str, *names: str, described: dict[str, Any] | None = None) -> tuple[int, bytes]:
    """(wait status, output) of a shell under a filter that leaves calls to the listener at `path`."""
    made = custom_filter(asked(path, *names), "", listening=True)
    slots = Slots()
    notify.ConnectListener(path).apply(slots)
    reader, writer = os.pipe()
    tell, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            os.read(tell, 1)
            slots["user"] = ResolvedUser(0, 0, (), "/", "root")
            slots["channel"] = os.open("/dev/null", os.O_RDONLY)
            program.CloseDescriptors(3, also=("seccomp_listener", "seccomp_state")).apply(slots)
            set_dumpable(False)
            set_no_new_privs()
            notify.AwaitListener().apply(slots)
            shell = shutil.which("sh") or "/bin/sh"
            program.FilterAndExec((shell, "-c", command), ("PATH=/bin:/usr/bin",), made.program, made.flags).apply(
                slots
            )
        except BaseException as failure:
            os.write(1, repr(failure).encode())
        finally:
            os._exit(99)
    os.close(writer)
    slots["init_pid"] = pid
    notify.DescribeToListener("1.3.0", "box", "/bundle", **{"metadata": "meta", **(described or {})}).apply(slots)
    os.write(told, b"x")
    with open(reader, "rb") as file:
        output = file.read()
    status = os.waitpid(pid, 0)[1]
    os.close(tell)
    os.close(told)
    return status, output


def test_a_call_is_answered_by_whoever_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "agent")
    agent = Agent(path)
    annotations = {"annotations": (("a", "x" * 300_000),)}
    status, output = run(path, f"mkdir {tmp_path}/new; echo $?; ls -d /proc/self", described=annotations)
    agent.close()
    assert status == 0, output
    assert b"File exists" in output
    assert output.splitlines()[-2:] == [b"1", b"/proc/self"]
    assert agent.calls == 1
    assert not (tmp_path / "new").exists()
    assert agent.state["fds"] == ["seccompFd"]
    assert agent.state["metadata"] == "meta"
    state = agent.state["state"]
    assert (state["id"], state["status"], state["bundle"]) == ("box", "creating", "/bundle")
    assert state["pid"] == agent.state["pid"] > 1
    assert len(state["annotations"]["a"]) == 300_000


def test_even_the_programs_own_beginning_can_be_left_to_the_listener(tmp_path: Path) -> None:
    path = str(tmp_path / "agent")
    agent = Agent(path)
    _status, output = run(path, "true", "execve")
    agent.close()
    assert agent.calls >= 1
    assert b"EEXIST" in output or b"File exists" in output or b"NotExecutable" in output


def test_calls_are_refused_when_the_listener_is_gone(tmp_path: Path) -> None:
    path = str(tmp_path / "agent")
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    server.listen(1)

    def hang_up() -> None:
        connection, _address = server.accept()
        connection.close()
        server.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    status, output = run(path, f"mkdir {tmp_path}/new; echo $?")
    thread.join()
    assert status == 0
    assert b"not implemented" in output
    assert not (tmp_path / "new").exists()


def test_no_descriptor_of_the_helper_reaches_the_program(tmp_path: Path) -> None:
    path = str(tmp_path / "agent")
    agent = Agent(path)
    _status, output = run(path, "ls /proc/self/fd | wc -l; ls /proc/$$/fd | wc -l")
    agent.close()
    assert set(output.split()) <= {b"3", b"4"}, output


def test_a_listener_that_is_not_there_is_told_before_anything_starts(tmp_path: Path) -> None:
    slots = Slots()
    with pytest.raises(FileNotFoundError) as caught:
        notify.ConnectListener(f"{tmp_path}/none").apply(slots)
    assert notify.ConnectListener("x").hint(caught.value.errno or 0)
    assert not slots.values


def test_a_filter_with_a_listener_has_its_flags() -> None:
    flags = ("SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
    made = custom_filter(asked("/x", flags=flags), "", listening=True)
    assert made.flags == (
        kernel.SECCOMP_FILTER_FLAG_LOG
        | kernel.SECCOMP_FILTER_FLAG_NEW_LISTENER
        | kernel.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    )
    quiet = Seccomp("SCMP_ACT_ALLOW", listener_path="/x", flags=flags)
    made = custom_filter(quiet, "", listening=True)
    assert made.flags == kernel.SECCOMP_FILTER_FLAG_TSYNC | kernel.SECCOMP_FILTER_FLAG_LOG
    assert not wants_listener(quiet)
    assert wants_listener(Seccomp("SCMP_ACT_NOTIFY"))


def test_a_call_without_anybody_to_answer_it_is_refused() -> None:
    with pytest.raises(UsageError, match="no listener"):
        custom_filter(asked(""), "", listening=True)


def test_joining_another_containers_state_names_both_processes() -> None:
    step = notify.DescribeToListener("1.3.0", "box", "/b", status="running", container_pid=7, joined=True)
    slots = Slots({"init_child": 9, "seccomp_state": os.memfd_create("x"), "seccomp_listener": os.open("/dev/null", 0)})
    kept = os.dup(slots["seccomp_state"])
    step.apply(slots)
    state = json.loads(os.pread(kept, 4096, 0))
    os.close(kept)
    assert (state["pid"], state["state"]["pid"], state["state"]["status"]) == (9, 7, "running")
    assert step.needs == ("seccomp_state", "init_pidfd")
    assert "seccomp_listener" not in slots
