"""The small program answers as the large one does."""

from __future__ import annotations

import random

from jubako.linux import bpf
from jubako.linux.bpf import Instruction
from jubako.plan.filter_tree import shrink
from world.bpf import ARCHITECTURES, Machine

ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000


def assert_same(first: bytes, second: bytes) -> None:
    one, other = Machine(first), Machine(second)
    chosen = random.Random(1)
    numbers = sorted(set(one.boundaries() + other.boundaries() + list(range(600))))
    values = one.boundaries()
    for token in [*ARCHITECTURES.values(), 0, 0xDEADBEEF]:
        for number in numbers:
            for high in (0, 0, 1):
                arguments = [chosen.choice(values) | high << 32 for _ in range(6)]
                expected = one.answer(token, number, arguments)
                assert other.answer(token, number, arguments) == expected, (hex(token), number, arguments)


def linear(count: int, allow_every: int) -> bytes:
    """A program that compares one number after the other."""
    lines: list[Instruction | str] = [
        Instruction(bpf.LOAD, bpf.ARCHITECTURE_OFFSET),
        Instruction(bpf.JUMP_EQUAL, ARCHITECTURES["x86_64"], bpf.NEXT, "kill"),
        Instruction(bpf.LOAD, bpf.NUMBER_OFFSET),
    ]
    for number in range(count):
        action = REFUSE if number % allow_every else ALLOW
        lines += [
            Instruction(bpf.JUMP_EQUAL, number, bpf.NEXT, f"not {number}"),
            Instruction(bpf.RETURN, action),
            f"not {number}",
        ]
    return bpf.assemble([*lines, Instruction(bpf.RETURN, REFUSE), "kill", Instruction(bpf.RETURN, KILL)])


def test_ranges_of_numbers_with_one_answer_become_one_comparison() -> None:
    program = linear(400, 1000)
    small = shrink(program)
    assert len(small) // 8 < 12
    assert_same(program, small)


def test_jumps_that_are_too_far_for_eight_bits_still_arrive() -> None:
    program = linear(500, 2)
    small = shrink(program)
    assert_same(program, small)
    assert_same(linear(500, 3), shrink(linear(500, 3)))


def test_conditions_on_arguments_are_kept() -> None:
    program = bpf.assemble(
        [
            Instruction(bpf.LOAD, bpf.ARCHITECTURE_OFFSET),
            Instruction(bpf.JUMP_EQUAL, ARCHITECTURES["aarch64"], bpf.NEXT, "kill"),
            Instruction(bpf.LOAD, bpf.NUMBER_OFFSET),
            Instruction(bpf.JUMP_EQUAL, 20, "twenty"),
            Instruction(bpf.JUMP_AT_LEAST, 100, "refuse", "allow"),
            "twenty",
            Instruction(bpf.LOAD, bpf.argument_offset(1)),
            Instruction(bpf.AND, 0xF0),
            Instruction(bpf.JUMP_EQUAL, 0x30, bpf.NEXT, "refuse"),
            Instruction(bpf.LOAD, bpf.argument_offset(1) + 4),
            Instruction(bpf.JUMP_BITS, 1, "refuse", "allow"),
            "allow",
            Instruction(bpf.RETURN, ALLOW),
            "refuse",
            Instruction(bpf.RETURN, REFUSE),
            "kill",
            Instruction(bpf.RETURN, KILL),
        ]
    )
    padded = bpf.assemble([Instruction(bpf.JUMP, 0, "start"), *[Instruction(bpf.RETURN, 0)] * 40, "start"]) + program
    small = shrink(padded)
    assert len(small) < len(padded)
    assert_same(program, small)
    machine = Machine(small)
    assert machine.answer("aarch64", 20, [0, 0x3F]) == ALLOW
    assert machine.answer("aarch64", 20, [0, 0x3F | 1 << 32]) == REFUSE
    assert machine.answer("aarch64", 20, [0, 0x4F]) == REFUSE


def test_a_program_that_is_not_understood_is_left_alone() -> None:
    scratch = (0x02).to_bytes(2, "little") + bytes(6)  # BPF_ST
    program = scratch + bpf.assemble([Instruction(bpf.RETURN, ALLOW)])
    assert shrink(program) == program
    bits_of_the_number = bpf.assemble(
        [
            Instruction(bpf.LOAD, bpf.NUMBER_OFFSET),
            Instruction(bpf.JUMP_BITS, 1, "odd"),
            Instruction(bpf.RETURN, ALLOW),
            "odd",
            Instruction(bpf.RETURN, REFUSE),
        ]
    )
    assert shrink(bits_of_the_number) == bits_of_the_number
