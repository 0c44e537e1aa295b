"""The keyboard and the screen of the terminal tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from world.terminal import INTERRUPT, Terminal

Opener = Callable[..., Terminal]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Opener]:
    opened: list[Terminal] = []

    def open_terminal(*argv: str) -> Terminal:
        opened.append(Terminal(argv, 24, 80, {**os.environ, "PS1": "> "}, tmp_path))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def test_a_shell_answers_and_its_exit_code_comes_back(terminal: Opener) -> None:
    shell = terminal("sh")
    shell.read_until("> ")
    shell.send("echo $((40 + 2))\n")
    assert "42" in shell.read_until(r"^42")
    shell.send("exit 7\n")
    assert shell.wait() == 7


def test_the_window_has_a_size_that_can_change(terminal: Opener) -> None:
    shell = terminal("sh", "-c", "stty size; read line; stty size")
    shell.read_until("24 80")
    shell.resize(50, 132)
    shell.send("\n")
    shell.read_until("50 132")
    assert shell.wait() == 0


def test_the_interrupt_key_ends_a_program(terminal: Opener) -> None:
    program = terminal("sh", "-c", "echo ready; exec sleep 60")
    program.read_until("ready")
    program.send(INTERRUPT)
    assert program.wait() == 128 + 2


def test_what_never_appears_is_reported_with_what_did(terminal: Opener) -> None:
    program = terminal("echo", "hello")
    with pytest.raises(AssertionError, match="hello"):
        program.read_until("goodbye", timeout=2)
