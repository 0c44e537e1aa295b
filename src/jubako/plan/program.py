"""Finding the program inside the container, as execvp(3) would, and saying exactly why it cannot run.

Runs after the pivot, in the container's root, whose files are hostile. What matters for safety is that the kernel
must never be led to execute `/proc/self/exe`, which at this moment is the interpreter of the *host* (CVE-2019-5736): a
program or a script's interpreter that is reached through a magic link of /proc is refused.
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.errors import JubakoError, NotExecutableError, ProgramNotFoundError
from jubako.linux.libc import MACHINE
from jubako.linux.openat2 import MAX_LINKS, RESOLVE_NO_MAGICLINKS, openat2
from jubako.record import record

_ELF_MACHINES = {
    3: "i386", 8: "mips", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64",
}  # fmt: skip
_RUNS = {"x86_64": (62, 3), "aarch64": (183, 40), "riscv64": (243,), "ppc64le": (21,), "s390x": (22,)}
_LINE = 256  # the kernel reads BINPRM_BUF_SIZE bytes of a script
_DEEPEST = 5  # how many interpreters deep the kernel goes


@record
class Program:
    """A program found: its path, and for a script what interprets it."""

    path: str
    interpreter: str = ""
    interpreter_argument: str = ""
    interpreter_path: str = ""

    def open_place(self, arguments: tuple[str, ...]) -> tuple[tuple[str, ...], int, str]:
        """The arguments, a descriptor of the directory that the file to execute lies in (close-on-exec), and its name
        there, which is no link: executed without following one (execveat(2), `AT_SYMLINK_NOFOLLOW`), it cannot be a
        magic link either, whatever is done to the directory meanwhile. ps(1) shows that name.

        The kernel's own handling of `#!` would look paths up again; so a script is started as its interpreter with the
        script's path.
        """
        directory, name = _place_of(self.interpreter_path or self.path)
        if self.interpreter:
            extra = (self.interpreter_argument,) if self.interpreter_argument else ()
            arguments = (self.interpreter, *extra, self.path, *arguments[1:])
        return arguments, directory, name


def find_program(name: str, environment: tuple[str, ...]) -> Program:
    """The program `name` as execvp(3) finds it along PATH of `environment`.

    Raises `ProgramNotFoundError` (127) where there is none and `NotExecutableError` (126) where it cannot run.
    """
    if not name:
        raise ProgramNotFoundError("execute", "''", reason="the program's name is empty")
    if "/" in name:
        return _examine(name, name)
    refused: JubakoError | None = None
    search = next((entry[5:] for entry in environment if entry.startswith("PATH=")), "/usr/local/bin:/usr/bin:/bin")
    for directory in search.split(":"):
        path = os.path.join(directory or ".", name)
        try:
            return _examine(path, name)
        except ProgramNotFoundError as failure:
            if failure.reason:  # it is there, and its interpreter is not
                raise
        except NotExecutableError as failure:
            refused = refused or failure
    if refused is not None:
        raise refused
    raise ProgramNotFoundError(
        "execute", name, errno=errno.ENOENT, hint=f"no such program in the container's PATH ({search})"
    )


def program_error(name: str, number: int) -> JubakoError:
    """The error for an execve(2) that failed although the program had looked well."""
    if number in (errno.ENOENT, errno.ENOTDIR):
        return ProgramNotFoundError(
            "execute", name, errno=number, hint="its ELF interpreter (ld.so) is missing in the container"
        )
    hint = {
        errno.E2BIG: "the arguments and the environment together are larger than the kernel takes",
        errno.ENOEXEC: "it is neither an ELF program nor a script with #! that this kernel can run",
        errno.EACCES: "it is not executable for this user, or its file system is mounted noexec",
        errno.EPERM: "the system call filter or the kernel's policy forbids it",
    }.get(number, "")
    return NotExecutableError("execute", name, errno=number, hint=hint)


def _examine(path: str, name: str) -> Program:
    head = _head(path, name)
    if not head.startswith(b"#!"):
        _check_elf(head, name)
        return Program(path)
    program = Program(path)
    script = path
    for _depth in range(_DEEPEST):
        interpreter, argument = _shebang(head, script)
        try:
            head = _head(interpreter, name)
        except ProgramNotFoundError as failure:
            raise ProgramNotFoundError(
                "execute",
                name,
                errno=errno.ENOENT,
                reason=f"the script's interpreter {interpreter} is not in the container",
            ) from failure
        if not program.interpreter:
            program = Program(path, interpreter, argument, interpreter)
        if not head.startswith(b"#!"):
            _check_elf(head, name)
            return program
        script = interpreter
    raise NotExecutableError("execute", name, errno=errno.ELOOP, reason="its interpreter is a script of a script of …")


def _head(path: str, name: str) -> bytes:
    """The first bytes of an executable regular file; nothing if it may be executed but not read."""
    try:
        fd = _open(path)
    except OSError as failure:
        if failure.errno in (errno.ENOENT, errno.ENOTDIR):
            raise ProgramNotFoundError(
                "execute", name, errno=errno.ENOENT, hint=f"{path} does not exist in the container"
            ) from failure
        hint = "it is reached through a magic link of /proc" if failure.errno == errno.ELOOP else ""
        raise NotExecutableError("execute", name, errno=failure.errno or 0, hint=hint) from failure
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise NotExecutableError("execute", name, errno=errno.EISDIR, hint=f"{path} is a directory")
        if not stat.S_ISREG(mode):
            raise NotExecutableError("execute", name, errno=errno.EACCES, hint=f"{path} is not a regular file")
        if not mode & 0o111:
            raise NotExecutableError("execute", name, errno=errno.EACCES, hint=f"{path} is not executable: chmod +x it")
        try:
            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.read(reader, _LINE)
        finally:
            os.close(reader)
    finally:
        os.close(fd)


def _open(path: str, flags: int = 0) -> int:
    try:
        return openat2(-100, path, os.O_PATH | flags, 0, RESOLVE_NO_MAGICLINKS)
    except OSError as failure:
        if failure.errno != errno.ENOSYS:
            raise
    return os.open(_resolve_outside_proc(path), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC | flags)


def _place_of(path: str) -> tuple[int, str]:
    """The directory of the file that `path` leads to, link by link, and the file's name there."""
    for _link in range(MAX_LINKS + 1):
        parent, slash, name = path.rpartition("/")
        fd = _open((parent or slash) if slash else ".", os.O_DIRECTORY)
        try:
            target = os.readlink(name, dir_fd=fd)
        except OSError as failure:
            if failure.errno == errno.EINVAL:  # no link
                return fd, name
            os.close(fd)
            raise
        os.close(fd)
        path = os.path.join(parent + slash, target)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _resolve_outside_proc(path: str) -> str:
    """Without openat2: `path` with its links resolved here, one by one, since a magic link reads like any other. So
    nothing in a proc file system, wherever that is mounted, can be part of a program's path at all."""
    devices = _proc_devices()
    at, links = "/" if path.startswith("/") else os.getcwd(), 0
    todo = path.split("/")[::-1]
    while todo:
        part = todo.pop()
        if part in ("", ".", ".."):
            at = os.path.dirname(at) if part == ".." else at
            continue
        step = os.path.join(at, part)
        status = os.lstat(step)
        if status.st_dev in devices or links > MAX_LINKS or step == "/proc":
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            target = os.readlink(step)
            at = "/" if target.startswith("/") else at
            todo += target.split("/")[::-1]
        else:
            at = step
    return at


def _proc_devices() -> frozenset[int]:
    try:
        with open("/proc/self/mountinfo", "rb", buffering=0) as file:
            text = b"".join(iter(lambda: file.read(1 << 16), b""))
    except OSError:
        return frozenset()
    numbers = [line.split()[2].decode().split(":") for line in text.splitlines() if b" - proc " in line]
    return frozenset(os.makedev(int(major), int(minor)) for major, minor in numbers)


def _check_elf(head: bytes, name: str) -> None:
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return
    order: str = "little" if head[5] == 1 else "big"
    machine = int.from_bytes(head[18:20], order)  # type: ignore[arg-type]
    if machine in _RUNS.get(MACHINE, (machine,)) or _binfmt_misc():
        return
    built_for = _ELF_MACHINES.get(machine, f"ELF machine {machine}")
    raise NotExecutableError(
        "execute",
        name,
        errno=errno.ENOEXEC,
        reason=f"it is built for {built_for}, and this machine is {MACHINE}",
        hint="use an image for this architecture, or install qemu-user-static with binfmt_misc on the host",
    )


def _binfmt_misc() -> bool:
    """Whether foreign programs might run after all; the container's /proc/sys tells (if it shows it)."""
    try:
        return len(os.listdir("/proc/sys/fs/binfmt_misc")) > 2
    except OSError:
        return False


def _shebang(head: bytes, script: str) -> tuple[str, str]:
    line = head[2:].split(b"\n", 1)[0].strip(b" \t\r" if b"\r" not in head else b" \t")
    interpreter, _, argument = line.replace(b"\t", b" ").partition(b" ")
    if not interpreter:
        raise NotExecutableError("execute", script, errno=errno.ENOEXEC, reason="its #! line names no interpreter")
    return os.fsdecode(interpreter), os.fsdecode(argument.strip())
