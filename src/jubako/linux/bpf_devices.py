"""Which devices a control group may use: bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE, cgroup-v2 "Device controller".

Rules become a small eBPF program that the kernel asks at each open and mknod of a device by a process of the group.
The list is read as written: for each of read, write and mknod the last rule decides that matches the device, so a later
rule may punch a hole into an earlier one. What no rule matches is refused.

Nothing here raises RLIMIT_MEMLOCK: since Linux 5.11 programs are charged to the memory controller.
"""

from __future__ import annotations

import errno
import os
import sys

from jubako.linux import foreign as ctypes
from jubako.linux.libc import SYS, check, libc
from jubako.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

READ, WRITE, MKNOD = 2, 4, 1  # BPF_DEVCG_ACC_*
ACCESS = {"r": READ, "w": WRITE, "m": MKNOD}
EVERYTHING = READ | WRITE | MKNOD
BLOCK, CHARACTER = 1, 2  # BPF_DEVCG_DEV_*

NAME = b"jubako_devices"
"""By its name a program of ours is known from those of systemd and others (at most 15 bytes)."""

_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD, _PROG_QUERY = 5, 8, 9, 13, 15, 16
_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE = 15, 6
_F_ALLOW_MULTI, _F_REPLACE = 2, 4
_MOST_PROGRAMS = 64  # BPF_CGROUP_MAX_PROGS
_INFO_NAME = slice(64, 80)  # struct bpf_prog_info: name

# Instructions: opcode, registers, offset, immediate (struct bpf_insn); r0 is the answer, r1 the context.
_LOAD_WORD, _MOVE, _COPY, _AND, _SHIFT_RIGHT, _JUMP_EQUAL, _JUMP_UNEQUAL, _EXIT = (
    *(0x61, 0xB7, 0xBF, 0x54, 0x74, 0x15, 0x55),
    0x95,
)
_ANSWER, _CONTEXT, _KIND, _WANTED, _MAJOR, _MINOR = range(6)


@record
class Rule:
    """`kind` is `BLOCK`, `CHARACTER` or 0 for both; a number that is None matches all."""

    allow: bool
    kind: int = 0
    major: int | None = None
    minor: int | None = None
    access: int = EVERYTHING

    @property
    def matches_all(self) -> bool:
        return self.kind == 0 and self.major is None and self.minor is None


def compile_rules(rules: Sequence[Rule]) -> bytes:
    """The program (an array of `struct bpf_insn`) that answers 1 for what `rules` allow."""
    code = [
        _instruction(_LOAD_WORD, _KIND, _CONTEXT, 0),  # struct bpf_cgroup_dev_ctx: access << 16 | kind, major, minor
        _instruction(_COPY, _WANTED, _KIND),
        _instruction(_AND, _KIND, value=0xFFFF),
        _instruction(_SHIFT_RIGHT, _WANTED, value=16),
        _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
        _instruction(_LOAD_WORD, _MINOR, _CONTEXT, 8),
    ]
    for rule in reversed(rules):
        if not rule.access or max(rule.major or 0, rule.minor or 0) > 0x7FFFFFFF:
            continue  # no device has such a number
        code += _rule(rule)
        if rule.matches_all and rule.access == EVERYTHING:
            break  # the verifier refuses what can never be reached
    else:
        code += _answer(False)
    return b"".join(code)


def _rule(rule: Rule) -> list[bytes]:
    """The wanted accesses that no rule has decided yet stand in a register; this one takes away what it allows."""
    if rule.access == EVERYTHING:
        body = _answer(rule.allow)
    elif rule.allow:
        body = [
            _instruction(_AND, _WANTED, value=EVERYTHING & ~rule.access),
            _instruction(_JUMP_UNEQUAL, _WANTED, offset=2, value=0),
            *_answer(True),
        ]
    else:
        body = [
            _instruction(_COPY, _CONTEXT, _WANTED),  # the context has been read
            _instruction(_AND, _CONTEXT, value=rule.access),
            _instruction(_JUMP_EQUAL, _CONTEXT, offset=2, value=0),
            *_answer(False),
        ]
    tests = [
        (register, value)
        for register, value in ((_KIND, rule.kind or None), (_MAJOR, rule.major), (_MINOR, rule.minor))
        if value is not None
    ]
    past = len(tests) + len(body) - 1
    jumps = [
        _instruction(_JUMP_UNEQUAL, register, offset=past - position, value=value)
        for position, (register, value) in enumerate(tests)
    ]
    return jumps + body


def _answer(allow: bool) -> list[bytes]:
    return [_instruction(_MOVE, _ANSWER, value=int(allow)), _instruction(_EXIT)]


def _instruction(opcode: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    registers = bytes((opcode, source << 4 | target))
    return registers + offset.to_bytes(2, "little") + value.to_bytes(4, "little")


# --- in force ---------------------------------------------------------------------------------------------------------


def load(program: bytes) -> int:
    """A descriptor of the loaded program (close-on-exec). EPERM without CAP_BPF and CAP_NET_ADMIN or CAP_SYS_ADMIN,
    E2BIG for more ways than the verifier follows (beyond 500 rules)."""
    instructions = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0", 16)
    attributes = _attributes(
        *((_TYPE_CGROUP_DEVICE, 4), (len(program) // 8, 4), (ctypes.addressof(instructions), 8)),
        *((ctypes.addressof(licence), 8), (0, 4), (0, 4), (0, 8), (0, 4), (0, 4)),
    )
    return _bpf(_PROG_LOAD, attributes + NAME.ljust(16, b"\0"), "load")


def attach(group: int, program: int) -> None:
    """Put the loaded `program` in force for the group directory that the descriptor `group` names, in place of ours
    that was there, without a moment between the two; programs of others stay, and the strictest answer holds."""
    ours = _attached(group)
    flags = _F_ALLOW_MULTI | (_F_REPLACE if ours else 0)
    try:
        attributes = [(group, 4), (program, 4), (_ATTACH_CGROUP_DEVICE, 4), (flags, 4), (ours[0] if ours else 0, 4)]
        try:
            _bpf(_PROG_ATTACH, _attributes(*attributes), "attach")
        except OSError as failure:
            if failure.errno != errno.EINVAL or not ours:
                raise
            attributes[3:] = [(_F_ALLOW_MULTI, 4), (0, 4)]  # Linux before 5.6: for a moment both hold
            _bpf(_PROG_ATTACH, _attributes(*attributes), "attach")
            _detach(group, ours[0])
        for old in ours[1:]:
            _detach(group, old)
    finally:
        for fd in ours:
            os.close(fd)


def _detach(group: int, program: int) -> None:
    attributes = _attributes((group, 4), (program, 4), (_ATTACH_CGROUP_DEVICE, 4), (0, 4), (0, 4))
    _bpf(_PROG_DETACH, attributes, "detach")


def _attached(group: int) -> list[int]:
    """Descriptors of our own programs in force for the group itself."""
    ids = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    fields = ((group, 4), (_ATTACH_CGROUP_DEVICE, 4), (0, 4), (0, 4), (ctypes.addressof(ids), 8), (_MOST_PROGRAMS, 4))
    _bpf(_PROG_QUERY, _attributes(*fields, (0, 4)), "query")
    found = []
    for number in [number for number in ids if number]:
        try:
            fd = _bpf(_PROG_GET_FD_BY_ID, _attributes((number, 4), (0, 4), (0, 4)), "open")
        except FileNotFoundError:  # it went meanwhile
            continue
        info = ctypes.create_string_buffer(b"", 256)
        _bpf(_OBJ_GET_INFO_BY_FD, _attributes((fd, 4), (256, 4), (ctypes.addressof(info), 8)), "inspect")
        if bytes(info)[_INFO_NAME].rstrip(b"\0") == NAME:
            found.append(fd)
        else:
            os.close(fd)
    return found


def _bpf(command: int, attributes: bytes, action: str) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    arguments = (ctypes.c_long(command), ctypes.byref(buffer), ctypes.c_long(len(attributes)))
    return check(libc.syscall(ctypes.c_long(SYS["bpf"]), *arguments), "bpf", f"{action} device filter")


def _attributes(*fields: tuple[int, int]) -> bytes:
    """`union bpf_attr`: (value, bytes) in order, in the machine's own byte order."""
    return b"".join(value.to_bytes(size, sys.byteorder) for value, size in fields)
