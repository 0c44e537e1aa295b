"""Making a filter program small: a binary search over ranges of system call numbers, then what looks at arguments.

The kernel checks, translates and tries out every instruction each time a filter is loaded, so a long program is paid
for at every start. What libseccomp makes (three instructions a call) is evaluated here for each architecture and for
each range of numbers that it can tell apart, with both known and the arguments unknown; neighbours with the same
outcome become one. Nothing is decided anew: the result answers every call as the original does, which a test asks of
it.
"""

from __future__ import annotations

from jubako.linux.bpf import (
    AND,
    ARCHITECTURE_OFFSET,
    JUMP,
    JUMP_AT_LEAST,
    JUMP_BITS,
    JUMP_EQUAL,
    JUMP_GREATER,
    LOAD,
    NEXT,
    NUMBER_OFFSET,
    RETURN,
    Instruction,
    assemble,
    disassemble,
)

_CONDITIONS = (JUMP_EQUAL, JUMP_GREATER, JUMP_AT_LEAST, JUMP_BITS)
_UNKNOWN = -1  # the accumulator holds (part of) an argument
_TOP = 1 << 32
_NO_ARCHITECTURE = 1  # stands for every architecture that the program does not name


class _Strange(Exception):
    """The program does something that this module does not follow; it is then left as it is."""


def shrink(program: bytes) -> bytes:
    """A program that answers as `program` does and is not longer."""
    try:
        smaller = Shrinker(program).rewritten()
    except _Strange:
        return program
    return smaller if len(smaller) < len(program) else program


class Shrinker:
    """The outcomes of one program. An outcome is the number of a node; equal nodes have one number, and a node's
    children have lower numbers than itself, so writing nodes in falling order makes all jumps go forward."""

    def __init__(self, program: bytes) -> None:
        self.code = disassemble(program)
        self.nodes: list[tuple[int, ...]] = []
        self.numbers: dict[tuple[int, ...], int] = {}
        self.tokens: list[int] = []  # the architectures that the program was seen to compare with, in its order

    def rewritten(self) -> bytes:
        """The new program."""
        values = {value for code, _then, _otherwise, value in self.code if code in _CONDITIONS}
        starts = sorted({0} | {start for value in values for start in (value, value + 1) if start < _TOP})
        others = {self._outcome(0, 0, _NO_ARCHITECTURE, start, {}) for start in starts}
        tokens = tuple(self.tokens)
        lines: list[Instruction | str] = [Instruction(LOAD, ARCHITECTURE_OFFSET)]
        used: set[int] = set()
        for token in tokens:
            ranges: list[tuple[int, int]] = []
            for start in starts:
                outcome = self._outcome(0, 0, token, start, {})
                if not ranges or ranges[-1][1] != outcome:
                    ranges.append((start, outcome))
            used.update(outcome for _start, outcome in ranges)
            lines += [Instruction(JUMP_EQUAL, token, NEXT, f"not {token}"), Instruction(LOAD, NUMBER_OFFSET)]
            lines += [*self._search(ranges, f"{token}"), f"not {token}"]
        other = self.nodes[min(others)]
        if len(others) != 1 or other[0] != RETURN or tokens != tuple(self.tokens) or _NO_ARCHITECTURE in tokens:
            raise _Strange
        return assemble([*lines, Instruction(RETURN, other[1]), *self._written(used)])

    def _outcome(self, place: int, known: int, token: int, number: int, seen: dict[tuple[int, int], int]) -> int:
        """The node for what happens from instruction `place` on, with `known` in the accumulator (or `_UNKNOWN`).

        `number` stands for a range of numbers, which comparisons cannot tell apart but bit operations could.
        """
        key = (place, known)
        if key in seen:
            return seen[key]
        source = -1
        while True:
            code, then, otherwise, value = self.code[place]
            place += 1
            if code == RETURN:
                result = self._node(RETURN, value)
            elif code == JUMP:
                place += value
                continue
            elif code == LOAD and value in (ARCHITECTURE_OFFSET, NUMBER_OFFSET):
                source, known = value, token if value == ARCHITECTURE_OFFSET else number
                continue
            elif code == LOAD and value >= 16:
                rest = self._outcome(place, _UNKNOWN, token, number, seen)
                result = rest if self.nodes[rest][0] in (RETURN, LOAD) else self._node(LOAD, value, rest)
            elif code == AND and known == _UNKNOWN:
                rest = self._outcome(place, _UNKNOWN, token, number, seen)
                result = rest if self.nodes[rest][0] in (RETURN, LOAD) else self._node(AND, value, rest)
            elif code in _CONDITIONS and known == _UNKNOWN:
                yes = self._outcome(place + then, _UNKNOWN, token, number, seen)
                no = self._outcome(place + otherwise, _UNKNOWN, token, number, seen)
                result = yes if yes == no else self._node(code, value, yes, no)
            elif code in _CONDITIONS and (code == JUMP_EQUAL or (code != JUMP_BITS and source == NUMBER_OFFSET)):
                if source == ARCHITECTURE_OFFSET and value not in self.tokens:
                    self.tokens.append(value)
                place += then if _holds(code, known, value) else otherwise
                continue
            else:
                raise _Strange
            seen[key] = result
            return result

    def _node(self, *node: int) -> int:
        if node not in self.numbers:
            self.numbers[node] = len(self.nodes)
            self.nodes.append(node)
        return self.numbers[node]

    def _search(self, ranges: list[tuple[int, int]], label: str) -> list[Instruction | str]:
        if len(ranges) == 1:
            node = self.nodes[ranges[0][1]]
            return [Instruction(RETURN, node[1]) if node[0] == RETURN else Instruction(JUMP, 0, f"node {ranges[0][1]}")]
        middle = len(ranges) // 2
        upper = f"{label}-{ranges[middle][0]}"
        lower = self._search(ranges[:middle], label)
        return [
            Instruction(JUMP_AT_LEAST, ranges[middle][0], upper),
            *lower,
            upper,
            *self._search(ranges[middle:], label),
        ]

    def _written(self, used: set[int]) -> list[Instruction | str]:
        """The nodes that look at arguments, and all that they lead to."""
        reached: set[int] = set()
        waiting = [number for number in used if self.nodes[number][0] != RETURN]
        while waiting:
            number = waiting.pop()
            if number not in reached:
                reached.add(number)
                waiting += self._children(number)
        lines: list[Instruction | str] = []
        order = sorted(reached, reverse=True)
        for number, following in zip(order, [*order, -1][1:], strict=True):
            code, value, *children = self.nodes[number]
            labels = [f"node {child}" for child in children]
            lines.append(f"node {number}")
            if code not in (LOAD, AND):
                lines.append(Instruction(code, value, *labels))
            else:
                lines.append(Instruction(code, value))
                if children[0] != following:
                    lines.append(Instruction(JUMP, 0, labels[0]))
        return lines

    def _children(self, number: int) -> tuple[int, ...]:
        return self.nodes[number][2:]


def _holds(code: int, known: int, value: int) -> bool:
    if code == JUMP_EQUAL:
        return known == value
    return known > value if code == JUMP_GREATER else known >= value
