"""The reference page of the command line, written from the tables: `python -m jubako.cli.reference >
docs/reference/cli.md`.

A test makes it anew and compares, so the page cannot fall behind the program.
"""

from __future__ import annotations

import textwrap

from jubako.cli import help as pages
from jubako.cli import main, table
from jubako.cli.flags import Command, Flag, usage

_HEAD = """\
# The command line

Written by `python -m jubako.cli.reference` from the tables that the program itself parses by; do not edit.

```
jubako [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS...]
```

Exit status: that of the program in the container; 125 when jubako itself failed, 126 when the program cannot be
executed, 127 when it is not there, 128+N when signal N ended it.

Flags are written as docker and podman have them: `--flag value` or `--flag=value`, short switches joined (`-it`),
`--switch=false` or `--no-switch` to take one back, `--` to end the flags. What is called *may be repeated* adds up;
otherwise the last one counts.
"""


def reference() -> str:
    """The whole page in Markdown."""
    parts = [_HEAD, "## Global options\n", _table(table.GLOBAL_FLAGS)]
    for title, entries in table.groups():
        parts.append(f"## {title}\n")
        parts.append("\n".join(f"- [`jubako {name}`](#{_anchor(name)}): {summary}" for name, summary in entries) + "\n")
    for _, entries in table.groups():
        parts += [_command(main.load(name).COMMAND) for name, _ in entries]
    return "\n".join(parts)


def _command(command: Command) -> str:
    parts = [f"## jubako {command.name}\n", f"{_sentence(command.summary)}\n", "```", *usage(command), "```\n"]
    other = table.other_names(command.name)
    if other:
        parts.append("Also called " + ", ".join(f"`jubako {name}`" for name in other) + ".\n")
    if command.description:
        parts.append(_markdown(command.description) + "\n")
    for argument in command.arguments:
        if argument.help:
            parts.append(f"`{argument.name}`: {argument.help}.\n")
    for title, flags in pages.grouped(command):
        parts.append(f"**{title}**\n")
        parts.append(_table(flags))
    if command.examples:
        parts.append("**Examples**\n")
        for sentence, line in command.examples:
            parts.append(f"{sentence}\n\n```sh\n{line}\n```\n")
    return "\n".join(parts)


def _table(flags: tuple[Flag, ...] | list[Flag]) -> str:
    rows = ["| option | meaning |", "|---|---|"]
    for flag in flags:
        spelled = pages.spelling(flag).replace("|", "\\|")
        rows.append(f"| `{spelled}` | {_escaped(pages.meaning(flag))} |")
    return "\n".join(rows) + "\n"


def _escaped(text: str) -> str:
    for sign in ("|", "*", "<", "{"):
        text = text.replace(sign, "\\" + sign)
    return text


def _markdown(description: str) -> str:
    """Paragraphs as they are; an indented one becomes a block of code."""
    shown = []
    for paragraph in textwrap.dedent(description).strip("\n").split("\n\n"):
        if paragraph.startswith(" "):
            shown.append(f"```\n{textwrap.dedent(paragraph)}\n```")
        else:
            shown.append(" ".join(paragraph.split()))
    return "\n\n".join(shown)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _anchor(name: str) -> str:
    return "jubako-" + name.replace(" ", "-")


if __name__ == "__main__":
    print(reference(), end="")
