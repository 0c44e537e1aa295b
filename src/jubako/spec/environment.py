"""The program's variables as config.json's `process.env` has them: of two of one name the later one holds."""

from __future__ import annotations


def last_wins(environment: tuple[str, ...]) -> tuple[str, ...]:
    """`environment` with each name once: at the place of its first entry, with the value of its last.

    execve(2) would pass both on, and programs differ in which one they see.
    """
    values: dict[str, str] = {}
    for entry in environment:
        values[entry.partition("=")[0]] = entry
    return tuple(values.values())


def value_of(environment: tuple[str, ...], name: str) -> str:
    """The value that holds for `name`; empty if there is none."""
    found = ""
    for entry in environment:
        if entry.startswith(name + "="):
            found = entry[len(name) + 1 :]
    return found
