"""Steps that turn the container's first process into the program: execve(2), seccomp(2), close_range(2)."""

from __future__ import annotations

import errno
import os

from jubako.errors import StepError
from jubako.linux.descriptors import close_all_but
from jubako.linux.openat2 import RESOLVE_NO_MAGICLINKS, make_directory_in, openat2
from jubako.linux.seccomp import filter_and_exec
from jubako.plan.program import find_program, program_error
from jubako.plan.step import Slots, Step, printable, quote, step
from jubako.spec.passwd import ResolvedUser


@step()
class CloseDescriptors(Step):
    """Whatever else is open is closed before the working directory is entered: none of the host's may be reached."""

    keep: int = 3
    also: tuple[str, ...] = ()
    """Slots whose descriptors stay; they close on exec."""

    def apply(self, slots: Slots) -> None:
        numbers: list[int] = []
        for value in (slots[name] for name in self.also):
            if isinstance(value, dict):
                numbers += value.values()
            else:
                numbers.append(value if isinstance(value, int) else value.fileno())
        close_all_but((*range(self.keep), *numbers, slots["channel"]))

    def call(self) -> str:
        return f"close_range({self.keep}, ~0U, 0)"

    def purpose(self) -> str:
        return (
            "Whatever else is open is closed, but for the link to the supervisor, which closes on exec: no descriptor"
            " of the host may lead out of the container (CVE-2024-21626)"
        )


@step()
class EnterDirectory(Step):
    """The working directory, made if it is missing; it must be reachable from the container's root (CVE-2024-21626)."""

    path: str
    create: bool = True

    def apply(self, slots: Slots) -> None:
        try:
            self._enter()
        except FileNotFoundError:
            if not self.create:
                raise
            self._make(slots.values.get("user"))
        check_directory(self.path)

    def _make(self, user: ResolvedUser | None) -> None:
        """Each part below a descriptor: somebody may make a link to /proc/1/root of it in the middle of the way."""
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            made = make_directory_in(root, self.path)
        finally:
            os.close(root)
        try:
            os.fchdir(made)
        finally:
            os.close(made)
        if user is not None and user.uid:
            os.chown(".", user.uid, user.gid)

    def _enter(self) -> None:
        try:
            fd = openat2(-100, self.path, os.O_PATH | os.O_DIRECTORY, 0, RESOLVE_NO_MAGICLINKS)
        except OSError as failure:
            if failure.errno != errno.ENOSYS:
                raise
            # No descriptor of the host is open any more, so a magic link leads nowhere but into the container.
            fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fchdir(fd)
        finally:
            os.close(fd)

    def call(self) -> str:
        return f"openat2({quote(self.path)}, O_PATH|O_DIRECTORY, RESOLVE_NO_MAGICLINKS); fchdir(fd); getcwd()"

    def operation(self) -> str:
        return "enter the working directory"

    def subject(self) -> str:
        return self.path

    def hint(self, errno_: int) -> str:
        return "it does not exist in the container, and its file system is read-only" if errno_ == errno.EROFS else ""


@step()
class FilterAndExec(Step):
    """The system call filter and the program, back to back: between the two nothing else runs."""

    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    filter: bytes = b""
    filter_flags: int = 0
    guard_interpreter: bool = False

    needs = ("user",)

    def apply(self, slots: Slots) -> None:
        user: ResolvedUser = slots["user"]
        environment = self.environment
        if not any(entry.startswith("HOME=") and len(entry) > 5 for entry in environment):
            environment = (*(entry for entry in environment if entry != "HOME="), f"HOME={user.home}")
        program = find_program(self.arguments[0], environment)
        arguments, path, directory = self.arguments, program.path, -1
        if self.guard_interpreter:
            # Ours could be written from inside, so no link is followed any more: a path would be looked up again, and
            # may lead to /proc/self/exe by then.
            arguments, directory, path = program.open_place(arguments)
        number = filter_and_exec(self.filter, path, arguments, environment, self.filter_flags, directory=directory)
        raise program_error(self.arguments[0], number)

    def call(self) -> str:
        name = self.arguments[0]
        path = quote(name if "/" in name else "…/" + name)
        vectors = f"[{', '.join(map(quote, self.arguments))}], {{{len(self._variables())} variables}}"
        calls = [f"execve({path}, {vectors})"]
        if self.guard_interpreter:
            calls = [f"execveat(directory, {quote(name.rpartition('/')[2])}, {vectors}, AT_SYMLINK_NOFOLLOW)"]
        if self.filter:
            flags = f"{self.filter_flags:#x}" if self.filter_flags else "0"
            calls.insert(0, f"seccomp(SECCOMP_SET_MODE_FILTER, {flags}, {{{len(self.filter) // 8} instructions}})")
        if self.guard_interpreter:
            calls.insert(0, f"openat2(the directory of {path}, O_PATH|O_DIRECTORY, RESOLVE_NO_MAGICLINKS)")
        return "; ".join(calls)

    def purpose(self) -> str:
        filtered = "The system call filter and the program, back to back: between the two nothing else runs"
        if not self.filter:
            filtered = "The program takes this process's place; there is no system call filter"
        found = "" if "/" in self.arguments[0] else "; it is searched along PATH, in the container"
        return f"{filtered}{found}. Its variables: {printable(' '.join(self._variables()))}"

    def _variables(self) -> list[str]:
        names = [entry.partition("=")[0] for entry in self.environment]
        return names if "HOME" in names else [*names, "HOME"]

    def operation(self) -> str:
        return "execute"

    def subject(self) -> str:
        return self.arguments[0]


def check_directory(path: str) -> None:
    """Refuse a working directory that is not below the container's root: a leaked descriptor led to the host."""
    try:
        here = os.getcwd()
    except FileNotFoundError:
        here = "(unreachable)"
    if not here.startswith("/"):
        raise StepError("enter the working directory", path, reason="it lies outside of the container's root")
