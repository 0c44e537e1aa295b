"""From a profile to the BPF that the kernel runs, where the shipped default filters do not do.

The default filter of a container is one file read: the package ships it compiled, for each architecture, with and
without CAP_SYS_CHROOT, the only capability of the default set that the profile asks about. Everything else is
compiled by libseccomp and cached by content. seccomp(2), libseccomp's seccomp_rule_add(3), OCI runtime-spec 1.2,
config-linux, section Seccomp.
"""

from __future__ import annotations

import os
import sys

from jubako.errors import JubakoError, UsageError
from jubako.linux import seccomp as kernel
from jubako.plan.shipped_filters import (
    DEFAULT_PROFILE,
    GATES,
    SHIPPED_GATES,
    SHIPPED_MACHINES,
    CompiledFilter,
    read_shipped,
    shipped_filter,
    variant_for,
)
from jubako.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from jubako.linux.bpf import Instruction
    from jubako.spec.seccomp_profile import Filter, Guard
    from jubako.spec.types import Seccomp, SeccompArg

LIBRARY_HINT = (
    "install libseccomp: apt install libseccomp2 | dnf install libseccomp | pacman -S libseccomp | apk add libseccomp"
)

_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_PERMISSIVE = 0x7FFC0000  # from here on the call is made
_ERRNO = _ACTIONS["SCMP_ACT_ERRNO"]
_EPERM, _ENOSYS = 1, 38
_LIBRARY_PLACES = (f"/usr/lib/{os.uname().machine}-linux-gnu", "/usr/lib64", "/usr/lib", "/lib64", "/lib")
_FORMAT = 1  # of what is cached; raised when the same profile compiles to something else

_DIRECT_NUMBERS = {(0x40000003, "socket"): 359}  # AUDIT_ARCH_I386
_NOT_THERE = 10000  # libseccomp's numbers for calls of other architectures are -10001 and below

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": kernel.SECCOMP_FILTER_FLAG_TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": kernel.SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": kernel.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": kernel.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}


def filter_for(profile: str, capabilities: Collection[str], cache_directory: str) -> CompiledFilter:
    """The filter for `--security-opt seccomp=`: "default" (or docker's "builtin"), "unconfined", or a profile's file
    in docker's or OCI's form, on this machine and for a container with this bounding set."""
    if profile == "unconfined":
        return CompiledFilter(b"")
    host = os.uname()
    if profile in ("default", "builtin"):
        return default_filter(host.machine, capabilities, cache_directory)
    from jubako.spec.seccomp_profile import read_profile

    resolved = read_profile(profile, capabilities, host.machine, host.release)
    return _filter_here(resolved, cache_directory)


def default_filter(machine: str, capabilities: Collection[str], cache_directory: str) -> CompiledFilter:
    """The default profile's filter for a container with this bounding set on this `machine` (uname(2)).

    For the default capabilities, and for all sets that differ from it in nothing the profile asks about, this reads
    one shipped file. With more of them (`--cap-add SYS_ADMIN`) libseccomp compiles; where it is missing, the shipped
    filter that is stricter is taken, never a weaker one, and the warning names what stays refused. `JubakoError` for
    a machine without shipped filter and without libseccomp.
    """
    found = shipped_filter(machine, capabilities)
    if found is not None:
        return found
    gates = GATES.intersection(capabilities)
    shipped = variant_for(gates)
    from jubako.linux import libseccomp
    from jubako.spec.seccomp_profile import read_profile

    try:
        libseccomp.open_library()
    except OSError:
        if machine not in SHIPPED_MACHINES:
            raise JubakoError(
                "compile seccomp filter for", machine, reason="libseccomp is not installed", hint=LIBRARY_HINT
            ) from None
        lost = ", ".join(sorted(name[4:] for name in gates - SHIPPED_GATES[shipped]))
        warning = (
            "libseccomp is not installed: the stricter seccomp filter holds, which refuses system calls "
            f"that {lost} would allow ({LIBRARY_HINT})"
        )
        return CompiledFilter(read_shipped(machine, shipped), 0, warning)
    resolved = read_profile(DEFAULT_PROFILE, gates, machine, "5.10")
    return CompiledFilter(compiled_filter(resolved, cache_directory))


def custom_filter(asked: Seccomp, cache_directory: str, *, listening: bool = False) -> CompiledFilter:
    """The filter for a document's `linux.seccomp`, with its flags; `UsageError` for what cannot be kept.

    `listening` says that the plan connects to its `listenerPath` (`plan.steps.notify`): then calls may be left to that,
    and the filter is loaded with a listener.
    """
    from jubako.spec.seccomp_profile import Filter

    return _filter_here(Filter(asked), cache_directory, listening=listening)


def wants_listener(asked: Seccomp) -> bool:
    """Whether the document leaves a system call to somebody else's answer."""
    return "SCMP_ACT_NOTIFY" in (asked.default_action, *(rule.action for rule in asked.syscalls))


def filter_flags(asked: Seccomp) -> int:
    """seccomp(2)'s flags for the names in a document."""
    flags = 0
    for name in asked.flags:
        if name not in FLAGS:
            raise UsageError("use seccomp flag", name, reason=f"known are {', '.join(sorted(FLAGS))}")
        flags |= FLAGS[name]
    return flags


def _filter_here(wanted: Filter, cache_directory: str, *, listening: bool = False) -> CompiledFilter:
    """`wanted` for programs of this machine, whatever architectures it lists: its own program has to run."""
    from jubako.spec.seccomp_profile import oci_architecture

    asked = wanted.seccomp
    notifies = wants_listener(asked)
    if notifies and not (listening and asked.listener_path):
        reason = "there is no listener that could answer"
        raise UsageError("use seccomp action", "SCMP_ACT_NOTIFY", reason=reason, hint="name one with listenerPath")
    flags = filter_flags(asked)
    if notifies:  # with one thread there is nothing to synchronise, and old kernels refuse both together
        flags = flags & ~kernel.SECCOMP_FILTER_FLAG_TSYNC | kernel.SECCOMP_FILTER_FLAG_NEW_LISTENER
    else:  # it says how a listener is waited for
        flags &= ~kernel.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    native = oci_architecture(os.uname().machine)
    if native not in asked.architectures:
        wanted = replace(wanted, seccomp=replace(asked, architectures=(native, *asked.architectures)))
    return CompiledFilter(compiled_filter(wanted, cache_directory), flags)


def compiled_filter(wanted: Filter, cache_directory: str) -> bytes:
    """The program for `wanted`, from the cache or compiled and cached (not when `cache_directory` is empty).

    The cache is a matter of speed only: what is not ours, damaged, or cannot be read or written is compiled anew.
    """
    from jubako.digest import sha256

    key = sha256(f"{_FORMAT} {_library()} {wanted!r}".encode("utf-8", "surrogateescape")).hexdigest()
    path = f"{cache_directory}/{key}.bpf"
    program = _read_cached(path) if cache_directory else None
    if program is None:
        program = _compile(wanted)
        if cache_directory:
            _write_cached(path, program)
    return program


def _library() -> str:
    """Which libseccomp would compile, without loading it: the file's time and size, or else its version."""
    for directory in _LIBRARY_PLACES:
        try:
            status = os.stat(f"{directory}/libseccomp.so.2")
        except OSError:
            continue
        return f"{status.st_mtime_ns} {status.st_size}"
    from jubako.linux import libseccomp

    try:
        return str(libseccomp.version())
    except OSError as failure:
        raise _no_library(failure) from None


def _compile(wanted: Filter) -> bytes:
    from jubako.linux import libseccomp

    try:
        libseccomp.open_library()
    except OSError as failure:
        raise _no_library(failure) from None
    return compile_filter(wanted)


def _no_library(failure: OSError) -> JubakoError:
    return JubakoError(
        "compile seccomp filter with", "libseccomp", reason=str(failure.strerror), hint=LIBRARY_HINT
    )  # fmt: skip


def compile_filter(wanted: Filter) -> bytes:
    """The program for `wanted`: its guards, then what libseccomp makes of its rules, made small.

    Another architecture's calls answer ENOSYS, as on a kernel built without it. A call that libseccomp does not know
    (newer than the library) is left to the default action when that is stricter, else refused with a `UsageError`:
    the rule cannot be kept.
    """
    from jubako.linux import libseccomp
    from jubako.plan.filter_tree import shrink
    from jubako.spec.seccomp_profile import oci_architecture

    asked = wanted.seccomp
    default = action_code(asked.default_action, asked.default_errno_ret)
    tokens = [_token(name) for name in asked.architectures or (oci_architecture(os.uname().machine),)]
    try:
        with libseccomp.Compiler(default, tokens) as compiler:
            compiler.set_attribute(libseccomp.API_SYSRAWRC, 1)
            compiler.set_attribute(libseccomp.ACT_BADARCH, _ERRNO | _ENOSYS)
            try:
                compiler.set_attribute(libseccomp.CTL_OPTIMIZE, 2)  # a binary tree; since libseccomp 2.5
            except OSError:
                pass
            seen: set[tuple[str, tuple[SeccompArg, ...]]] = set()
            for rule in asked.syscalls:
                action = action_code(rule.action, rule.errno_ret)
                if action == default:
                    continue  # libseccomp refuses what changes nothing
                for name in rule.names:
                    if libseccomp.system_call_number(name) == libseccomp.UNKNOWN:
                        _refuse_unknown(name, rule.action, action, default)
                        continue
                    if (name, rule.args) not in seen:
                        seen.add((name, rule.args))
                        for comparisons in _conditions(rule.args):
                            compiler.add_rule(action, name, comparisons)
            program = _assembled_guards(wanted.guards, tokens) + compiler.export()
            try:
                program = shrink(program)
            except RecursionError:  # thousands of conditions in a row: as it is, it may still fit
                pass
    except OSError as failure:
        raise UsageError(
            "compile seccomp filter", str(failure.filename or ""), reason=str(failure.strerror or failure)
        ) from None
    if len(program) > kernel.MOST_INSTRUCTIONS * kernel.INSTRUCTION_SIZE:
        reason = f"{len(program) // kernel.INSTRUCTION_SIZE} instructions, {kernel.MOST_INSTRUCTIONS} are the most"
        raise UsageError("compile seccomp filter", "", reason=reason)
    return program


def action_code(name: str, errno_ret: int | None) -> int:
    """The kernel's 32-bit answer for an OCI action; its low half is the error (or the tracer's message)."""
    if name not in _ACTIONS:
        raise UsageError("use seccomp action", name, reason=f"known are {', '.join(sorted(_ACTIONS))}")
    code = _ACTIONS[name]
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        code |= (_EPERM if errno_ret is None else errno_ret) & 0xFFFF
    return code


def compile_shipped(machine: str, variant: str) -> bytes:
    """A shipped filter, compiled anew (for the release, and for the test that compares)."""
    from jubako.spec.seccomp_profile import read_profile

    return compile_filter(read_profile(DEFAULT_PROFILE, SHIPPED_GATES[variant], machine, "5.10"))


def _token(architecture: str) -> int:
    from jubako.linux import libseccomp

    name = architecture.removeprefix("SCMP_ARCH_").lower()
    token = libseccomp.architecture_token(name)
    if not token or not architecture.startswith("SCMP_ARCH_"):
        raise UsageError("compile seccomp filter for", architecture, reason="there is no such architecture")
    return token


def _refuse_unknown(name: str, action: str, code: int, default: int) -> None:
    if default >= _PERMISSIVE > code or (default < _PERMISSIVE and code == _ACTIONS["SCMP_ACT_NOTIFY"]):
        raise UsageError(
            "compile seccomp filter: rule for",
            name,
            reason=f"libseccomp does not know this system call, so {action} could not be kept",
            hint="install a newer libseccomp, or correct the name",
        )


def _conditions(args: tuple[SeccompArg, ...]) -> list[list[tuple[int, int, int, int]]]:
    """One list of comparisons for each rule that libseccomp has to be given.

    It compares an argument once a rule at most; several comparisons of one argument are alternatives, as runc and crun
    have it.
    """
    from jubako.linux.libseccomp import COMPARISONS

    all_of = [(one.index, COMPARISONS[one.op], one.value, one.value_two) for one in args]
    if len({index for index, *_rest in all_of}) < len(all_of):
        return [[one] for one in all_of]
    return [all_of]


def _assembled_guards(guards: tuple[Guard, ...], tokens: list[int]) -> bytes:
    """The guards of all architectures, ending where the rules' program begins."""
    from jubako.linux import bpf

    if not guards:
        return b""
    if sys.byteorder != "little":
        raise JubakoError(
            "compile seccomp filter for", os.uname().machine, reason="guards want a little-endian machine"
        )
    end = "end"
    lines: list[Instruction | str] = [bpf.Instruction(bpf.LOAD, bpf.ARCHITECTURE_OFFSET)]
    for token in tokens:
        numbered: dict[int, list[Guard]] = {}
        for guard in guards:
            for name in guard.names:
                number = _guarded_number(name, token)
                if number >= 0:
                    numbered.setdefault(number, []).append(guard)
        other = f"not {token}"
        lines.append(bpf.Instruction(bpf.JUMP_EQUAL, token, bpf.NEXT, other))
        lines.append(bpf.Instruction(bpf.LOAD, bpf.NUMBER_OFFSET))
        for number, group in numbered.items():
            lines.append(bpf.Instruction(bpf.JUMP_EQUAL, number, bpf.NEXT, f"{token} not {number}"))
            for place, guard in enumerate(group):
                lines += _guard_lines(guard, f"{token} {number} {place}")
            lines += [bpf.Instruction(bpf.JUMP, 0, end), f"{token} not {number}"]
        lines += [bpf.Instruction(bpf.JUMP, 0, end), other]
    return bpf.assemble([*lines, end])


def _guarded_number(name: str, token: int) -> int:
    """The number that a guard has to look for; negative where the architecture does not have the call.

    For a call that 32-bit x86 once had only through socketcall(2) or ipc(2), libseccomp answers with the number of
    that (-101 for socket) and makes rules for both ways by itself; a guard must know the direct one.
    """
    from jubako.linux import libseccomp

    number = _DIRECT_NUMBERS.get((token, name)) or libseccomp.system_call_number(name, token)
    if number == libseccomp.UNKNOWN or -_NOT_THERE < number < 0:
        raise UsageError("compile seccomp filter: guard for", name, reason="its number is not known")
    return number


def _guard_lines(guard: Guard, label: str) -> list[Instruction | str]:
    """Return the error when all of the guard's questions are answered yes, else go on behind it."""
    from jubako.linux import bpf

    passed = f"{label} passed"
    lines: list[Instruction | str] = []
    for place, test in enumerate(guard.args):
        lines.append(bpf.Instruction(bpf.LOAD, bpf.argument_offset(test.index)))
        hit = f"{label} {place} hit"
        code = bpf.JUMP_BITS if test.op == "has-bits" else bpf.JUMP_EQUAL
        for value in test.values:
            lines.append(bpf.Instruction(code, value, passed if test.op == "is-not" else hit))
        if test.op != "is-not":
            lines.append(bpf.Instruction(bpf.JUMP, 0, passed))
        lines.append(hit)
    return [*lines, bpf.Instruction(bpf.RETURN, _ERRNO | guard.errno_ret), passed]


def _read_cached(path: str) -> bytes | None:
    """The program in a cache file, when the file is ours and says of itself that it is whole."""
    from jubako.digest import sha256

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return None
        content = file.read(32 + kernel.MOST_INSTRUCTIONS * kernel.INSTRUCTION_SIZE + 1)
    digest, program = content[:32], content[32:]
    if not program or len(program) % kernel.INSTRUCTION_SIZE or sha256(program).digest() != digest:
        return None
    return program


def _write_cached(path: str, program: bytes) -> None:
    from jubako.digest import sha256

    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(sha256(program).digest() + program)
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
    except OSError:  # a full disk or a read-only home costs time, not safety
        return
