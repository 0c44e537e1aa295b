"""A small assembler for classic BPF over `struct seccomp_data` (seccomp(2), linux/filter.h): labels in, bytes out."""

from __future__ import annotations

from jubako.record import record

LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
JUMP = 0x05  # BPF_JMP | BPF_JA
JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_BITS = 0x45  # BPF_JMP | BPF_JSET | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K

NUMBER_OFFSET = 0
ARCHITECTURE_OFFSET = 4
NEXT = ""

_FARTHEST = 255  # conditional jumps have 8-bit distances, and go forward only


def argument_offset(index: int) -> int:
    """Where the low 32 bits of argument `index` lie (little-endian machines)."""
    return 16 + 8 * index


@record
class Instruction:
    """One instruction; `then` and `otherwise` are labels, or `NEXT` for the one that follows."""

    code: int
    value: int = 0
    then: str = NEXT
    otherwise: str = NEXT


def assemble(lines: list[Instruction | str]) -> bytes:
    """Bytes of `lines`, where a string is a label for the instruction after it (or for the end)."""
    places: dict[str, int] = {}
    code: list[Instruction] = []
    for line in lines:
        if isinstance(line, str):
            places[line] = len(code)
        else:
            code.append(line)
    program = bytearray()
    for place, one in enumerate(code):
        value = one.value
        distances = [places[label] - place - 1 if label else 0 for label in (one.then, one.otherwise)]
        if one.code == JUMP:
            value, distances = distances[0], [0, 0]
        if value < 0 or not all(0 <= distance <= _FARTHEST for distance in distances):
            raise ValueError(f"instruction {place} jumps too far")
        program += one.code.to_bytes(2, "little") + bytes(distances) + (value & 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(program)
