"""config-linux.md, "Seccomp": actions, errors, arguments, flags, architectures, and the listener."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from world.bundle import Bundle
from world.console import receive
from world.rule import rule
from world.runtime import Runtime

GETPRIORITY = 140
"""getpriority(which, who) on x86-64: a call that neither a shell nor the probe needs."""
SETPRIORITY = 141
GETPRIORITY_32 = 96
ALLOW = "SCMP_ACT_ALLOW"
ERRNO = "SCMP_ACT_ERRNO"


def filtered(bundle: Bundle, *syscalls: dict[str, Any], **more: Any) -> None:
    bundle.linux["seccomp"] = {"defaultAction": ALLOW, "syscalls": list(syscalls), **more}


def called(runtime: Runtime, bundle: Bundle, *numbers: int, program: str = "syscall") -> str:
    """What the probe gets from a system call: the result or the error's name."""
    bundle.args(bundle.use_probe(), program, *map(str, numbers))
    return runtime.run(bundle).stdout.strip()


def forbid(name: str = "getpriority", action: str = ERRNO, **more: Any) -> dict[str, Any]:
    return {"names": [name], "action": action, **more}


@rule("config-linux.md", "Seccomp", "MUST", "A call that a rule names gets the rule's action; others the default one.")
def test_a_call_is_refused(runtime: Runtime, bundle: Bundle):
    filtered(bundle, forbid())
    assert called(runtime, bundle, GETPRIORITY, 0, 0) == "EPERM"
    assert called(runtime, bundle, SETPRIORITY, 0, 0, 1) == "0"


@rule("config-linux.md", "Seccomp", "MUST", "`defaultAction` holds for every call that no rule names.")
def test_the_default_action(runtime: Runtime, bundle: Bundle):
    names = (
        "execve exit_group exit brk arch_prctl mmap mprotect fstat newfstatat write read close prctl uname readlink "
    )
    names += (
        "set_tid_address set_robust_list rseq prlimit64 getrandom munmap readlinkat ioctl rt_sigprocmask rt_sigaction "
    )
    names += "execveat open openat fcntl futex"
    bundle.linux["seccomp"] = {"defaultAction": ERRNO, "syscalls": [{"names": names.split(), "action": ALLOW}]}
    assert called(runtime, bundle, GETPRIORITY, 0, 0) == "EPERM"


@rule("config-linux.md", "Seccomp", "MUST", "`errnoRet` is the error that the call gives; without it EPERM.")
@pytest.mark.parametrize(("number", "name"), [(None, "EPERM"), (38, "ENOSYS"), (22, "EINVAL")])
def test_the_error_of_a_rule(runtime: Runtime, bundle: Bundle, number: int | None, name: str):
    filtered(bundle, forbid(**({} if number is None else {"errnoRet": number})))
    assert called(runtime, bundle, GETPRIORITY, 0, 0) == name


@rule("config-linux.md", "Seccomp", "MUST", "`defaultErrnoRet` is the error of the default action.")
def test_the_error_of_the_default_action(runtime: Runtime, bundle: Bundle):
    test_the_default_action(runtime, bundle)
    bundle.linux["seccomp"]["defaultErrnoRet"] = 61
    assert called(runtime, bundle, GETPRIORITY, 0, 0) == "ENODATA"


@rule("config-linux.md", "Seccomp", "MUST", "An error code for an action that gives none is refused.")
@pytest.mark.parametrize("action", [ALLOW, "SCMP_ACT_KILL", "SCMP_ACT_LOG", "SCMP_ACT_TRAP"])
def test_an_error_that_the_action_cannot_give(runtime: Runtime, bundle: Bundle, action: str):
    filtered(bundle, forbid(action=action, errnoRet=5))
    assert "errnoRet" in runtime.refuses(bundle)
    bundle.linux["seccomp"] = {"defaultAction": ALLOW, "defaultErrnoRet": 5}
    assert "rrnoRet" in runtime.refuses(bundle)


@rule("config-linux.md", "Seccomp", "MUST", "KILL, KILL_PROCESS, KILL_THREAD and TRAP end the process by SIGSYS.")
@pytest.mark.parametrize("action", ["KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP"])
def test_actions_that_kill(runtime: Runtime, bundle: Bundle, action: str):
    filtered(bundle, forbid(action=f"SCMP_ACT_{action}"))
    said = runtime.says(bundle, f"{bundle.use_probe()} syscall {GETPRIORITY} 0 0 2>/dev/null; echo $?")
    assert said.split()[-1] == "159"  # 128 + SIGSYS


@rule("config-linux.md", "Seccomp", "MUST", "LOG and ALLOW let the call through; TRACE without a tracer gives ENOSYS.")
@pytest.mark.parametrize(("action", "told"), [("LOG", "20"), ("ALLOW", "20"), ("TRACE", "ENOSYS")])
def test_actions_that_do_not_kill(runtime: Runtime, bundle: Bundle, action: str, told: str):
    filtered(bundle, forbid(action=f"SCMP_ACT_{action}"))
    assert called(runtime, bundle, GETPRIORITY, 0, 0) == told


@rule("config-linux.md", "Seccomp", "MUST", "`args` compare the call's arguments: EQ, NE, LT, LE, GE, GT, MASKED_EQ.")
@pytest.mark.parametrize(
    ("op", "value", "value_two", "refused", "allowed"),
    [
        ("EQ", 5, None, (5,), (4, 6)),
        ("NE", 5, None, (4, 6), (5,)),
        ("LT", 5, None, (4,), (5, 6)),
        ("LE", 5, None, (4, 5), (6,)),
        ("GE", 5, None, (5, 6), (4,)),
        ("GT", 5, None, (6,), (5, 4)),
        ("MASKED_EQ", 0xF0, 0x20, (0x20, 0x2F), (0x30, 0)),
    ],
)
def test_arguments(
    runtime: Runtime,
    bundle: Bundle,
    op: str,
    value: int,
    value_two: int | None,
    refused: tuple[int, ...],
    allowed: tuple[int, ...],
):
    condition = {"index": 1, "value": value, "op": f"SCMP_CMP_{op}"}
    condition |= {} if value_two is None else {"valueTwo": value_two}
    filtered(bundle, forbid("setpriority", errnoRet=61, args=[condition]))
    probe = bundle.use_probe()
    calls = [f"{probe} syscall {SETPRIORITY} 99 {number}" for number in (*refused, *allowed)]  # 99: EINVAL by itself
    assert runtime.says(bundle, ";".join(calls)).split() == ["ENODATA"] * len(refused) + ["EINVAL"] * len(allowed)


@rule(
    "config-linux.md", "Seccomp", "MUST", "Several conditions of a rule must all hold; several rules are alternatives."
)
def test_several_conditions(runtime: Runtime, bundle: Bundle):
    both = [{"index": index, "value": 7, "op": "SCMP_CMP_EQ"} for index in (1, 2)]
    other = [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}]
    filtered(bundle, forbid("setpriority", errnoRet=61, args=both), forbid("setpriority", errnoRet=61, args=other))
    probe = bundle.use_probe()
    calls = [f"{probe} syscall {SETPRIORITY} 99 {a} {b}" for a, b in ((7, 7), (7, 8), (8, 7), (9, 0))]
    assert runtime.says(bundle, ";".join(calls)).split() == ["ENODATA", "EINVAL", "EINVAL", "ENODATA"]


@rule("config-linux.md", "Seccomp", "MUST", "Values of 64 bits are compared whole.")
def test_large_values(runtime: Runtime, bundle: Bundle):
    large = (1 << 40) + 5
    filtered(bundle, forbid("setpriority", errnoRet=61, args=[{"index": 1, "value": large, "op": "SCMP_CMP_EQ"}]))
    probe = bundle.use_probe()
    calls = f"{probe} syscall {SETPRIORITY} 99 {large}; {probe} syscall {SETPRIORITY} 99 5"
    assert runtime.says(bundle, calls).split() == ["ENODATA", "EINVAL"]


@rule("config-linux.md", "Seccomp", "MUST", "`architectures` are filtered too; calls of others do not go through.")
def test_architectures(runtime: Runtime, bundle: Bundle):
    filtered(bundle, forbid(errnoRet=61), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
    assert called(runtime, bundle, GETPRIORITY, 0, 0) == "ENODATA"
    assert called(runtime, bundle, GETPRIORITY_32, program="syscall32") == "ENODATA"
    filtered(bundle, forbid(errnoRet=61), architectures=["SCMP_ARCH_X86_64"])
    said = runtime.says(bundle, f"{bundle.use_probe()} syscall32 {GETPRIORITY_32} 2>/dev/null; echo $?").split()
    assert said[-1] == "159" or said[0] in ("ENOSYS", "EPERM")


@rule("config-linux.md", "Seccomp", "MUST", "Without `architectures` the native one is filtered.")
def test_the_native_architecture(runtime: Runtime, bundle: Bundle):
    filtered(bundle, forbid(errnoRet=61))
    assert called(runtime, bundle, GETPRIORITY, 0, 0) == "ENODATA"


@rule("config-linux.md", "Seccomp", "MUST", "The flags LOG, SPEC_ALLOW, TSYNC are understood.")
@pytest.mark.parametrize("flags", [["LOG"], ["SPEC_ALLOW"], ["TSYNC"], ["LOG", "SPEC_ALLOW"], []], ids=str)
def test_flags(runtime: Runtime, bundle: Bundle, flags: list[str]):
    filtered(bundle, forbid(), flags=[f"SECCOMP_FILTER_FLAG_{flag}" for flag in flags])
    assert called(runtime, bundle, GETPRIORITY, 0, 0) == "EPERM"


@rule("config-linux.md", "Seccomp", "MUST", "Names of calls that the machine does not have are passed over.")
def test_unknown_calls(runtime: Runtime, bundle: Bundle):
    test_the_default_action(runtime, bundle)
    bundle.linux["seccomp"]["syscalls"].append({"names": ["no_such_call", "getpriority"], "action": ALLOW})
    assert called(runtime, bundle, GETPRIORITY, 0, 0) == "20"


@rule("config-linux.md", "Seccomp", "MUST", "With and without noNewPrivileges the filter holds.")
@pytest.mark.parametrize("flag", [True, False])
def test_with_and_without_new_privileges(runtime: Runtime, bundle: Bundle, flag: bool):
    bundle.process["noNewPrivileges"] = flag
    filtered(bundle, forbid())
    assert called(runtime, bundle, GETPRIORITY, 0, 0) == "EPERM"


@rule(
    "config-linux.md", "Seccomp", "MUST", "Unknown actions, operators, flags, architectures and empty names are errors."
)
@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"defaultAction": "SCMP_ACT_NONE"}, "linux.seccomp.defaultAction"),
        ({"syscalls": [forbid(action="ERRNO")]}, "linux.seccomp.syscalls[0].action"),
        ({"syscalls": [{"names": [], "action": ERRNO}]}, "linux.seccomp.syscalls[0].names"),
        ({"syscalls": [{"action": ERRNO}]}, "linux.seccomp.syscalls[0].names"),
        ({"architectures": ["SCMP_ARCH_PDP11"]}, "linux.seccomp.architectures[0]"),
        ({"flags": ["SECCOMP_FILTER_FLAG_NONE"]}, "linux.seccomp.flags[0]"),
        (
            {"syscalls": [forbid(args=[{"index": 0, "value": 0, "op": "=="}])]},
            "linux.seccomp.syscalls[0].args[0].op",
        ),
        (
            {"syscalls": [forbid(args=[{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}])]},
            "linux.seccomp.syscalls[0].args[0].index",
        ),
        ({"listenerMetadata": "without a path"}, "linux.seccomp.listenerMetadata"),
    ],
    ids=str,
)
def test_what_seccomp_does_not_know(runtime: Runtime, bundle: Bundle, change: dict[str, Any], path: str):
    bundle.linux["seccomp"] = {"defaultAction": ALLOW} | change
    assert path in runtime.refuses(bundle)


@rule("config-linux.md", "Seccomp", "MUST", "`defaultAction` is required.")
def test_the_default_action_is_required(runtime: Runtime, bundle: Bundle):
    bundle.linux["seccomp"] = {"syscalls": [forbid()]}
    assert "defaultAction" in runtime.refuses(bundle)


# --- the listener -----------------------------------------------------------------------------------------------------


@dataclass
class Agent:
    """A seccomp agent: takes the descriptor from the runtime and answers one call."""

    path: Path
    socket: socket.socket
    state: dict[str, Any] = field(default_factory=dict)
    fds: list[int] = field(default_factory=list)

    def accept(self) -> None:
        connection, _ = self.socket.accept()
        with connection:
            connection.settimeout(20)
            data, self.fds = receive(connection)
            assert len(self.fds) == 1, f"{len(self.fds)} descriptors came with {data!r}"
            while True:
                try:
                    self.state = json.loads(data)
                    return
                except ValueError:
                    more = connection.recv(65536)
                    assert more, f"the connection ended with {data!r}"
                    data += more

    def answer(self, value: int) -> int:
        """Let the next call return `value`; the pid that made it (SECCOMP_IOCTL_NOTIF_RECV and _SEND)."""
        request = fcntl.ioctl(self.fds[0], 0xC0502100, bytes(80))
        identity, pid = struct.unpack_from("QI", request)
        fcntl.ioctl(self.fds[0], 0xC0182101, struct.pack("QqiI", identity, value, 0, 0))
        return int(pid)


@contextmanager
def listening(path: Path) -> Iterator[Agent]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(4)
        listener.settimeout(20)
        agent = Agent(path, listener)
        try:
            yield agent
        finally:
            for fd in agent.fds:
                os.close(fd)
            path.unlink()


@rule(
    "config-linux.md",
    "Seccomp",
    "MUST",
    "With NOTIFY the descriptor goes to `listenerPath` with the container's state.",
)
@rule(
    "config-linux.md",
    "The Container Process State",
    "MUST",
    "It is JSON; `fds` names the descriptors; one a connection.",
)
def test_a_listener(runtime: Runtime, bundle: Bundle, place: Path):
    with listening(place / "agent") as agent:
        filtered(bundle, forbid(action="SCMP_ACT_NOTIFY"), listenerPath=str(agent.path), listenerMetadata="opaque=1")
        bundle.config["annotations"] = {"com.example.key": "value"}
        bundle.args(bundle.use_probe(), "syscall", str(GETPRIORITY), "0", "0")
        box = runtime.create(bundle, "--detach", command="run")
        agent.accept()
        assert agent.answer(4711) > 0
        assert box.read_until("\n") == "4711\n"
        told = agent.state
        assert told["fds"] == ["seccompFd"]
        assert len(agent.fds) == 1
        assert told["metadata"] == "opaque=1"
        assert isinstance(told["pid"], int)
        assert told["ociVersion"].startswith("1.")
        state = told["state"]
        assert state["id"] == box.id
        assert state["bundle"] == str(bundle.path)
        assert state["annotations"] == {"com.example.key": "value"}
        assert state["status"] in ("creating", "created", "running")
        assert state["pid"] == told["pid"]


@rule("config-linux.md", "Seccomp", "MUST", "A listener that cannot be reached is an error.")
def test_no_listener(runtime: Runtime, bundle: Bundle, place: Path):
    filtered(bundle, forbid(action="SCMP_ACT_NOTIFY"), listenerPath=str(place / "nobody"))
    bundle.args(bundle.use_probe(), "syscall", str(GETPRIORITY), "0", "0")
    result = runtime.run(bundle, check=False)
    assert result.exit_code != 0
    assert result.stdout == ""


@rule("config-linux.md", "Seccomp", "MUST", "NOTIFY without a `listenerPath` is an error.")
def test_notify_without_a_path(runtime: Runtime, bundle: Bundle):
    filtered(bundle, forbid(action="SCMP_ACT_NOTIFY"))
    runtime.refuses(bundle)


@rule("config-linux.md", "Seccomp", "MUST", "Without NOTIFY the `listenerPath` is ignored.")
def test_a_listener_that_is_not_needed(runtime: Runtime, bundle: Bundle, place: Path):
    filtered(bundle, forbid(), listenerPath=str(place / "nobody"))
    assert called(runtime, bundle, GETPRIORITY, 0, 0) == "EPERM"
