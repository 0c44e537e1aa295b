"""Seccomp profiles as people write them: the JSON of docker and podman, resolved to OCI's form for one container.

A profile says for which capabilities, architectures and kernels each rule holds (`includes`, `excludes`, `archMap`);
what is left after these questions is a `Seccomp` of the runtime-spec. OCI's own form is a profile without questions,
and is read too. One property is ours, `guards`: refusals by argument that stand before all rules (see `Guard`).
"""

from __future__ import annotations

import errno

from jubako.errors import UsageError
from jubako.record import record, replace
from jubako.spec.check import check_seccomp
from jubako.spec.shape import TEXT, TEXTS, UINT32, UINT64, Integer, ListOf, ObjectOf, Wrong
from jubako.spec.types import Seccomp, SeccompArg, SeccompRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

# What docker and podman call an architecture in `includes` and `excludes`, by uname(2)'s machine.
_PROFILE_MACHINES = {
    "x86_64": "amd64", "aarch64": "arm64", "i386": "x86", "i686": "x86", "armv7l": "arm", "ppc64le": "ppc64le",
    "riscv64": "riscv64", "s390x": "s390x", "loongarch64": "loong64", "mips64": "mips64",
}  # fmt: skip
_OCI_MACHINES = {
    "x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64", "i386": "SCMP_ARCH_X86", "i686": "SCMP_ARCH_X86",
    "armv7l": "SCMP_ARCH_ARM", "ppc64le": "SCMP_ARCH_PPC64LE", "riscv64": "SCMP_ARCH_RISCV64",
    "s390x": "SCMP_ARCH_S390X", "loongarch64": "SCMP_ARCH_LOONGARCH64", "mips64": "SCMP_ARCH_MIPS64",
}  # fmt: skip


@record
class ArgTest:
    """A question about the low 32 bits of one argument, which is all that the kernel reads of an `int`.

    `op` is "is" (one of `values`), "is-not" (none of them) or "has-bits" (any bit of any of them). Comparing all 64
    bits instead, as profiles commonly do, lets a caller slip by with a high bit set (CVE-2019-10063).
    """

    index: int
    op: str
    values: tuple[int, ...]


@record
class Guard:
    """Calls that are refused with `errno_ret` when all `args` hold, whatever the rules say of them.

    libseccomp cannot say "allow but for these values" of 32-bit arguments, nor which error the rest gets; a guard can.
    """

    names: tuple[str, ...]
    errno_ret: int
    args: tuple[ArgTest, ...] = ()


@record
class Filter:
    """What one container's calls are held to: OCI's rules, and the guards before them."""

    seccomp: Seccomp
    guards: tuple[Guard, ...] = ()


@record
class _Gate:
    """`includes` or `excludes`."""

    caps: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    min_kernel: str = ""


@record
class _Rule:
    names: tuple[str, ...] = ()
    name: str = ""
    action: str = ""
    errno_ret: int | None = None
    errno: str = ""
    args: tuple[SeccompArg, ...] = ()
    includes: _Gate = _Gate()
    excludes: _Gate = _Gate()


@record
class _GuardRule:
    names: tuple[str, ...]
    errno: str
    args: tuple[ArgTest, ...] = ()
    includes: _Gate = _Gate()
    excludes: _Gate = _Gate()


@record
class _ArchMap:
    architecture: str
    sub_architectures: tuple[str, ...] = ()


@record
class _Profile:
    default_action: str
    default_errno_ret: int | None = None
    default_errno: str = ""
    arch_map: tuple[_ArchMap, ...] = ()
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[_Rule, ...] = ()
    guards: tuple[_GuardRule, ...] = ()


class _Strict(ObjectOf):
    """An object that may have no other properties: a misspelled one would silently make a different filter."""

    def read_fields(self, value: Any) -> dict[str, Any]:
        found = super().read_fields(value)
        known = {name for _attribute, name, _codec, _presence in self.fields}
        for name in value:
            if name not in known and name not in ("comment", "$schema"):
                raise Wrong(f"is not a property here (there are {', '.join(sorted(known))})", f".{name}")
        return found


_GATE = _Strict(_Gate, ("caps", "caps", TEXTS), ("arches", "arches", TEXTS), ("min_kernel", "minKernel", TEXT))
_ARGUMENT = _Strict(
    SeccompArg,
    ("index", "index", Integer(0, 5), 2),
    ("value", "value", UINT64, 2),
    ("value_two", "valueTwo", UINT64),
    ("op", "op", TEXT, 2),
)
_RULE = _Strict(
    _Rule,
    ("names", "names", TEXTS),
    ("name", "name", TEXT),
    ("action", "action", TEXT, 2),
    ("errno_ret", "errnoRet", UINT32),
    ("errno", "errno", TEXT),
    ("args", "args", ListOf(_ARGUMENT)),
    ("includes", "includes", _GATE),
    ("excludes", "excludes", _GATE),
)
_TEST = _Strict(
    ArgTest, ("index", "index", Integer(0, 5), 2), ("op", "op", TEXT, 2), ("values", "values", ListOf(UINT32), 2)
)
_GUARD = _Strict(
    _GuardRule,
    ("names", "names", TEXTS, 2),
    ("errno", "errno", TEXT, 2),
    ("args", "args", ListOf(_TEST)),
    ("includes", "includes", _GATE),
    ("excludes", "excludes", _GATE),
)
_PROFILE = _Strict(
    _Profile,
    ("default_action", "defaultAction", TEXT, 2),
    ("default_errno_ret", "defaultErrnoRet", UINT32),
    ("default_errno", "defaultErrno", TEXT),
    (
        "arch_map",
        "archMap",
        ListOf(
            _Strict(
                _ArchMap, ("architecture", "architecture", TEXT, 2), ("sub_architectures", "subArchitectures", TEXTS)
            )
        ),
    ),
    ("architectures", "architectures", TEXTS),
    ("flags", "flags", TEXTS),
    ("listener_path", "listenerPath", TEXT),
    ("listener_metadata", "listenerMetadata", TEXT),
    ("syscalls", "syscalls", ListOf(_RULE)),
    ("guards", "guards", ListOf(_GUARD)),
)


def read_profile(path: str, capabilities: Collection[str], machine: str, kernel: str) -> Filter:
    """The profile in file `path`, resolved; a file that is not there, not JSON or not a profile is a `UsageError`."""
    from jubako.jsontext import loads

    try:
        with open(path, "rb") as file:
            document = loads(file.read())
    except OSError as failure:
        raise UsageError("read seccomp profile", path, errno=failure.errno or 0) from None
    except ValueError as failure:
        raise UsageError("read seccomp profile", path, reason=f"not JSON: {failure}") from None
    return resolve_profile(document, capabilities, machine, kernel, path)


def resolve_profile(
    document: Any, capabilities: Collection[str], machine: str, kernel: str, subject: str = ""
) -> Filter:
    """What `document` (docker's, podman's or OCI's form) means for a container.

    `capabilities` is its bounding set in names, `machine` and `kernel` are uname(2)'s ("x86_64", "6.1.0-18-amd64").
    All of the document is checked, also what does not hold here. Raises `UsageError` naming the first thing that is
    wrong.
    """
    try:
        profile: _Profile = _PROFILE.read(document)
        if profile.arch_map and profile.architectures:
            raise Wrong("stands beside architectures; only one of them can hold", "archMap")
        rules = tuple(_within("syscalls", place, _oci_rule, rule) for place, rule in enumerate(profile.syscalls))
        seccomp = Seccomp(
            profile.default_action,
            _errno(profile.default_errno_ret, profile.default_errno, "defaultErrno"),
            profile.architectures or _architectures(profile.arch_map, machine),
            profile.flags,
            profile.listener_path,
            profile.listener_metadata,
            rules,
        )
        check_seccomp(seccomp)
        guards = tuple(_within("guards", place, _guard, guard) for place, guard in enumerate(profile.guards))
        host = (capabilities, machine, kernel)
        kept = tuple(rule for rule, one in zip(rules, profile.syscalls, strict=True) if _holds(one, *host))
        guarded = tuple(guard for guard, one in zip(guards, profile.guards, strict=True) if _holds(one, *host))
    except Wrong as wrong:
        raise UsageError("read seccomp profile", subject, reason=str(wrong)) from None
    return Filter(replace(seccomp, syscalls=kept), guarded)


def oci_architecture(machine: str) -> str:
    """OCI's name of an architecture by uname(2)'s: "SCMP_ARCH_X86_64" for "x86_64"."""
    return _OCI_MACHINES.get(machine) or f"SCMP_ARCH_{machine.upper()}"


def gate_capabilities(document: dict[str, Any]) -> frozenset[str]:
    """The capabilities that a profile asks about; a container's other capabilities do not change its filter."""
    profile: _Profile = _PROFILE.read(document)
    gated: list[_Rule | _GuardRule] = [*profile.syscalls, *profile.guards]
    return frozenset(name for one in gated for name in (*one.includes.caps, *one.excludes.caps))


def _within(name: str, place: int, read: Any, value: Any) -> Any:
    try:
        return read(value)
    except Wrong as wrong:
        raise wrong.below(f"{name}[{place}].") from None


def _oci_rule(rule: _Rule) -> SeccompRule:
    _check_kernels(rule)
    if bool(rule.names) == bool(rule.name):
        raise Wrong("must name a system call" if not rule.names else "stands beside names", "name")
    return SeccompRule(rule.names or (rule.name,), rule.action, _errno(rule.errno_ret, rule.errno, "errno"), rule.args)


def _guard(guard: _GuardRule) -> Guard:
    for place, one in enumerate(guard.args):
        if one.op not in ("is", "is-not", "has-bits") or not one.values:
            raise Wrong(f"must be is, is-not or has-bits with values, not {one.op!r}", f"args[{place}].op")
    _check_kernels(guard)
    number = _errno(None, guard.errno, "errno")
    return Guard(guard.names, number or errno.EPERM, guard.args)


def _errno(number: int | None, name: str, path: str) -> int | None:
    """The error that a rule answers with; podman writes its name beside (or instead of) its number."""
    if number is not None:
        if number > 4095:  # MAX_ERRNO: beyond it, libc would take the answer for a result
            raise Wrong(f"{number} is not an error number", path)
        return number
    if not name:
        return None
    found = getattr(errno, name, None)
    if not isinstance(found, int):
        raise Wrong(f"{name!r} is not the name of an error", path)
    return found


def _architectures(arch_map: tuple[_ArchMap, ...], machine: str) -> tuple[str, ...]:
    native = oci_architecture(machine)
    for one in arch_map:
        if one.architecture == native:
            return (native, *one.sub_architectures)
    return (native,)


def _holds(rule: _Rule | _GuardRule, capabilities: Collection[str], machine: str, kernel: str) -> bool:
    includes, excludes = rule.includes, rule.excludes
    name = _PROFILE_MACHINES.get(machine, machine)
    if includes.arches and name not in includes.arches:
        return False
    if name in excludes.arches:
        return False
    if any(one not in capabilities for one in includes.caps) or any(one in capabilities for one in excludes.caps):
        return False
    if includes.min_kernel and _release(kernel) < _release(includes.min_kernel):
        return False
    return not (excludes.min_kernel and _release(kernel) >= _release(excludes.min_kernel))


def _check_kernels(rule: _Rule | _GuardRule) -> None:
    for gate in (rule.includes, rule.excludes):
        if gate.min_kernel:
            _release(gate.min_kernel)


def _release(text: str) -> tuple[int, int]:
    """The first two numbers: (6, 1) for "6.1.0-18-amd64"."""
    major, _dot, rest = text.partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    if not major.isdigit() or not minor:
        raise Wrong(f"{text!r} is not a kernel's release, such as 4.8", "minKernel")
    return int(major), int(minor)
