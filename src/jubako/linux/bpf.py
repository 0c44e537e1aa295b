"""Classic BPF over `struct seccomp_data` (seccomp(2), linux/filter.h): labels in, bytes out."""

from __future__ import annotations

from jubako.record import record

LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
JUMP = 0x05  # BPF_JMP | BPF_JA
JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_GREATER = 0x25  # BPF_JMP | BPF_JGT | BPF_K
JUMP_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
JUMP_BITS = 0x45  # BPF_JMP | BPF_JSET | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K

NUMBER_OFFSET = 0
ARCHITECTURE_OFFSET = 4
NEXT = ""

_FARTHEST = 255  # conditional jumps have 8-bit distances; all go forward only


def argument_offset(index: int) -> int:
    """Where the low 32 bits of argument `index` lie (little-endian machines)."""
    return 16 + 8 * index


@record
class Instruction:
    """One instruction; `then` and `otherwise` are labels, `NEXT` for what follows. A `JUMP` goes to `then`."""

    code: int
    value: int = 0
    then: str = NEXT
    otherwise: str = NEXT


def assemble(lines: list[Instruction | str]) -> bytes:
    """The bytes of `lines`, where a string is a label for the instruction after it (or for the end).

    A conditional jump that is too far for its 8 bits is led over an unconditional one behind it.
    """
    while True:
        places = _places(lines)
        far = {place for place, one in _numbered(lines) if _is_far(one, place, places)}
        if not far:
            break
        longer: list[Instruction | str] = []
        place = 0
        for line in lines:
            if isinstance(line, str):
                longer.append(line)
                continue
            longer += _relayed(line, len(longer)) if place in far else [line]
            place += 1
        lines = longer
    program = bytearray()
    for place, one in _numbered(lines):
        then, otherwise = _distances(one, place, places)
        value = then if one.code == JUMP else one.value
        if one.code == JUMP:
            then = otherwise = 0
        program += one.code.to_bytes(2, "little") + bytes((then, otherwise)) + value.to_bytes(4, "little")
    return bytes(program)


def disassemble(program: bytes) -> list[tuple[int, int, int, int]]:
    """(code, distance if true, distance if false, value) of each instruction."""
    return [
        (
            int.from_bytes(program[at : at + 2], "little"),
            program[at + 2],
            program[at + 3],
            int.from_bytes(program[at + 4 : at + 8], "little"),
        )
        for at in range(0, len(program), 8)
    ]


def _numbered(lines: list[Instruction | str]) -> list[tuple[int, Instruction]]:
    return list(enumerate(line for line in lines if not isinstance(line, str)))


def _places(lines: list[Instruction | str]) -> dict[str, int]:
    places: dict[str, int] = {}
    place = 0
    for line in lines:
        if isinstance(line, str):
            places[line] = place
        else:
            place += 1
    return places


def _distances(one: Instruction, place: int, places: dict[str, int]) -> tuple[int, int]:
    then, otherwise = (places[label] - place - 1 if label else 0 for label in (one.then, one.otherwise))
    return then, otherwise


def _is_far(one: Instruction, place: int, places: dict[str, int]) -> bool:
    return one.code != JUMP and max(_distances(one, place, places)) > _FARTHEST


def _relayed(one: Instruction, unique: int) -> list[Instruction | str]:
    then, otherwise, behind = f"then {unique} {one.then}", f"otherwise {unique} {one.otherwise}", f"behind {unique}"
    return [
        Instruction(one.code, one.value, then, otherwise),
        then,
        Instruction(JUMP, 0, one.then or behind),
        otherwise,
        Instruction(JUMP, 0, one.otherwise or behind),
        behind,
    ]
