"""A machine for filters: what a BPF program answers to a system call, worked out without a kernel.

So a filter can be questioned about every call of every architecture, also those that this machine cannot make.
"""

from __future__ import annotations

from collections.abc import Sequence

ARCHITECTURES = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}

ALLOW = 0x7FFF0000
ERRNO = 0x00050000


class Machine:
    """One program, ready to be asked."""

    def __init__(self, program: bytes) -> None:
        assert program, "a filter of no instructions"
        assert len(program) % 8 == 0, "half an instruction"
        self.code = [
            (
                int.from_bytes(program[at : at + 2], "little"),
                program[at + 2],
                program[at + 3],
                int.from_bytes(program[at + 4 : at + 8], "little"),
            )
            for at in range(0, len(program), 8)
        ]

    def answer(self, architecture: str | int, number: int, arguments: Sequence[int] = ()) -> int:
        """The 32 bits that the program returns, as the kernel's interpreter would compute them."""
        token = ARCHITECTURES[architecture] if isinstance(architecture, str) else architecture
        words = [number & 0xFFFFFFFF, token, 0, 0]
        for value in [*arguments, 0, 0, 0, 0, 0, 0][:6]:
            words += [value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF]
        accumulator, place = 0, 0
        while True:
            code, then, otherwise, value = self.code[place]
            place += 1
            if code == 0x06:
                return value
            if code == 0x20:
                accumulator = words[value // 4]
            elif code == 0x54:
                accumulator &= value
            elif code == 0x05:
                place += value
            else:
                held = {
                    0x15: accumulator == value,
                    0x25: accumulator > value,
                    0x35: accumulator >= value,
                    0x45: bool(accumulator & value),
                }[code]
                place += then if held else otherwise

    def boundaries(self) -> list[int]:
        """Every value that the program compares with, and its neighbours: what can make a difference."""
        values = {
            value + near for code, _then, _otherwise, value in self.code if code & 0x07 == 5 for near in (-1, 0, 1)
        }
        return sorted(value & 0xFFFFFFFF for value in values | {0, 1, 0xFFFFFFFF})
