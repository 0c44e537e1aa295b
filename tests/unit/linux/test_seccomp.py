"""Filters as the kernel sees them: loaded in a child without privileges, and the exec that follows."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jubako.linux import bpf, seccomp
from jubako.linux.bpf import Instruction
from jubako.linux.libc import MACHINE, libc
from jubako.linux.prctl import set_no_new_privs
from jubako.plan.capabilities import DEFAULT
from jubako.plan.seccomp import default_filter

pytestmark = pytest.mark.skipif(MACHINE not in ("x86_64", "aarch64"), reason="no shipped filter for this machine")

ALLOW, KILL = 0x7FFF0000, 0x80000000
NUMBERS = {
    "x86_64": {"execve": 59, "unshare": 272, "clone3": 435, "keyctl": 250, "ioctl": 16, "socket": 41, "mkdirat": 258},
    "aarch64": {"execve": 221, "unshare": 97, "clone3": 435, "keyctl": 219, "ioctl": 29, "socket": 198, "mkdirat": 34},
}[MACHINE if MACHINE == "aarch64" else "x86_64"]
CLONE_NEWUSER = 0x10000000


def program(*lines: Instruction | str) -> bytes:
    return bpf.assemble([Instruction(bpf.LOAD, bpf.NUMBER_OFFSET), *lines])


ONLY_EXECVE = program(
    Instruction(bpf.JUMP_EQUAL, NUMBERS["execve"], bpf.NEXT, "kill"),
    Instruction(bpf.RETURN, ALLOW),
    "kill",
    Instruction(bpf.RETURN, KILL),
)


def in_child(body: Callable[[], str], privileges: bool = False) -> tuple[int, str]:
    """(wait status, text) of `body` run in a forked child, as nobody and with no_new_privs unless told otherwise."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            os.set_inheritable(writing, True)
            os.dup2(writing, 1)
            if os.geteuid() == 0 and not privileges:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            if not privileges:
                set_no_new_privs()
            os.write(writing, body().encode())
        except BaseException as failure:
            os.write(writing, repr(failure).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        text = file.read().decode()
    return os.waitpid(pid, 0)[1], text


def calling(name: str, *arguments: int) -> str:
    """The errno that a raw system call ends with, in words."""
    result = libc.syscall(ctypes.c_long(NUMBERS[name]), *[ctypes.c_long(value) for value in arguments])
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def under_default(name: str, *arguments: int) -> str:
    def body() -> str:
        seccomp.load_filter(default_filter(MACHINE, DEFAULT, "").program)
        return calling(name, *arguments)

    status, text = in_child(body)
    assert status == 0
    return text


def test_the_kernel_takes_the_default_filter_and_refuses_a_user_namespace() -> None:
    assert in_child(lambda: calling("unshare", CLONE_NEWUSER)) == (0, "ok")
    assert under_default("unshare", CLONE_NEWUSER) == "EPERM"
    assert under_default("unshare", 0x200) == "ok"


def test_the_kernel_takes_the_strict_filter() -> None:
    def body() -> str:
        seccomp.load_filter(default_filter(MACHINE, (), "").program)
        return calling("unshare", CLONE_NEWUSER)

    assert in_child(body) == (0, "EPERM")


def test_clone3_and_keyrings_do_not_exist() -> None:
    assert under_default("clone3", 0, 0) == "ENOSYS"
    assert under_default("keyctl", 0, -3, 0) == "ENOSYS"


def test_a_vsock_does_not_exist_whatever_the_high_bits_say() -> None:
    assert under_default("socket", 40, 1, 0) == "EAFNOSUPPORT"
    assert under_default("socket", 40 | 1 << 32, 1, 0) == "EAFNOSUPPORT"
    assert under_default("socket", socket.AF_UNIX, 1, 0) == "ok"


def test_typing_into_a_terminal_is_refused_before_the_descriptor_is_looked_at() -> None:
    assert under_default("ioctl", -1, 0x5412, 0) == "EPERM"
    assert under_default("ioctl", -1, 0x5412 | 1 << 32, 0) == "EPERM"
    assert under_default("ioctl", -1, 0x5413, 0) == "EBADF"


def test_threads_and_programs_work_under_the_default_filter() -> None:
    def body() -> str:
        filtered = default_filter(MACHINE, DEFAULT, "").program
        script = "import threading, socket; t = threading.Thread(target=print, args=('hi',)); t.start(); t.join()"
        number = seccomp.filter_and_exec(filtered, "/usr/bin/python3", ["python3", "-c", script], ["PATH=/usr/bin"])
        return f"errno {number}"

    assert in_child(body) == (0, "hi\n")


def test_without_no_new_privs_or_privileges_the_kernel_says_eacces() -> None:
    def body() -> str:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        try:
            seccomp.load_filter(ONLY_EXECVE)
        except OSError as failure:
            return f"{errno.errorcode[failure.errno or 0]} {failure.filename}"
        return "loaded"

    assert in_child(body, privileges=True) == (0, "EACCES filter of 4 instructions")


@pytest.mark.parametrize("content", [b"", b"1234567", bytes(8 * 4097)], ids=["empty", "odd", "too long"])
def test_what_is_not_a_program_is_refused_before_the_kernel_sees_it(content: bytes) -> None:
    with pytest.raises(OSError, match="Invalid argument") as caught:
        seccomp.load_filter(content)
    assert caught.value.errno == errno.EINVAL


def test_a_filter_that_allows_nothing_but_execve_lets_the_program_begin(tmp_path: Path) -> None:
    binary = static_program(tmp_path)
    status, text = in_child(lambda: f"errno {seccomp.filter_and_exec(ONLY_EXECVE, binary, ['x'], ['A=b'])}")
    assert text == ""
    # It reached its own code, where its first instruction is a trap: the filter would have ended it by SIGSYS.
    assert os.WTERMSIG(status) == signal.SIGTRAP


def test_a_program_that_cannot_be_executed_gives_its_errno_with_and_without_a_filter() -> None:
    allow = program(Instruction(bpf.RETURN, ALLOW))
    for filtered in (allow, b""):
        for path, expected in (("/nonexistent", errno.ENOENT), ("/etc/passwd", errno.EACCES), (b"/tmp", errno.EACCES)):
            assert in_child(
                lambda path=path, filtered=filtered: str(seccomp.filter_and_exec(filtered, path, ["x"], []))  # type: ignore[misc]
            ) == (0, str(expected))


def test_arguments_and_environment_arrive_as_they_are() -> None:
    def body() -> str:
        script = 'for a; do echo "$a"; done; echo "$X"'
        return str(seccomp.filter_and_exec(b"", "/bin/sh", ["sh", "-c", script, "0", "a b", b"\xff", ""], ["X=\xe9"]))

    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 1)
        body()
        os._exit(1)
    os.close(writing)
    with open(reading, "rb") as file:
        assert file.read() == b"a b\n\xff\n\n\xc3\xa9\n"
    os.waitpid(pid, 0)


def test_a_refused_filter_is_told_apart_from_a_failed_execve() -> None:
    def body() -> str:
        broken = bpf.assemble([Instruction(0xFFFF, 1)])
        try:
            return str(seccomp.filter_and_exec(broken, "/bin/true", ["true"], []))
        except OSError as failure:
            return f"{getattr(failure, 'call', '')} {failure.errno}"

    assert in_child(body) == (0, f"seccomp {errno.EINVAL}")


def test_where_seccomp_does_not_exist_prctl_loads_the_filter() -> None:
    no_seccomp = program(
        Instruction(bpf.JUMP_EQUAL, {"x86_64": 317, "aarch64": 277}[MACHINE], bpf.NEXT, "allow"),
        Instruction(bpf.RETURN, 0x00050000 | errno.ENOSYS),
        "allow",
        Instruction(bpf.RETURN, ALLOW),
    )
    no_mkdirat = program(
        Instruction(bpf.JUMP_EQUAL, NUMBERS["mkdirat"], bpf.NEXT, "allow"),
        Instruction(bpf.RETURN, 0x00050000 | errno.EXDEV),
        "allow",
        Instruction(bpf.RETURN, ALLOW),
    )

    def body() -> str:
        seccomp.load_filter(no_seccomp)
        seccomp.load_filter(no_mkdirat)
        return calling("mkdirat", -1, 0, 0)

    assert in_child(body) == (0, "EXDEV")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_nothing_is_called_between_the_filter_and_execve(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    script = (
        "from jubako.linux import seccomp, prctl\n"
        "import sys\n"
        "prctl.set_no_new_privs()\n"
        "seccomp.filter_and_exec(bytes.fromhex(sys.argv[1]), '/bin/true', ['true'] * 1000, ['A=' + 'x' * 1000] * 100)\n"
    )
    allow = program(Instruction(bpf.RETURN, ALLOW)).hex()
    source = str(Path(seccomp.__file__).parents[2])
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", str(trace), sys.executable, "-c", script, allow],
        env={**os.environ, "PYTHONPATH": source},
        check=False,
        capture_output=True,
        text=True,
    )
    if "ptrace" in done.stderr and not trace.exists():
        pytest.skip("strace may not trace here")
    lines = trace.read_text().splitlines()
    loaded = next(place for place, line in enumerate(lines) if "SECCOMP_SET_MODE_FILTER" in line)
    assert 'execve("/bin/true"' in lines[loaded + 1]


def static_program(directory: Path) -> str:
    """A program whose first instruction is a breakpoint, written by hand so that no compiler is needed."""
    machine, code = {"x86_64": (62, b"\xcc\xcc\xcc\xcc"), "aarch64": (183, b"\x00\x00\x20\xd4")}[MACHINE]
    base, offset = 0x400000, 64 + 56
    header = (
        b"\x7fELF\x02\x01\x01" + bytes(9)
        + (2).to_bytes(2, "little") + machine.to_bytes(2, "little") + (1).to_bytes(4, "little")
        + (base + offset).to_bytes(8, "little") + (64).to_bytes(8, "little") + bytes(12)
        + (64).to_bytes(2, "little") + (56).to_bytes(2, "little") + (1).to_bytes(2, "little") + bytes(6)
    )  # fmt: skip
    size = (offset + len(code)).to_bytes(8, "little")
    segment = (
        (1).to_bytes(4, "little") + (5).to_bytes(4, "little") + bytes(8)
        + base.to_bytes(8, "little") * 2 + size * 2 + (0x1000).to_bytes(8, "little")
    )  # fmt: skip
    path = directory / "static"
    path.write_bytes(header + segment + code)
    path.chmod(0o755)
    while directory != directory.parent and not os.stat(directory).st_mode & 1:
        directory.chmod(0o755)
        directory = directory.parent
    return str(path)
