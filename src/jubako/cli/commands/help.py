"""`jubako help [COMMAND...]`: the manual of all of it, of a noun or of one command."""

from __future__ import annotations

from jubako.cli import help as pages
from jubako.cli import main, table
from jubako.cli.flags import ANY, Argument, Command, Values
from jubako.errors import UsageError

COMMAND = Command(
    "help",
    "print the manual of a command",
    arguments=(Argument("COMMAND", "words", ANY, completes="command"),),
)


def run(values: Values) -> int:
    words = list(values.words)
    if not words:
        pages.show(pages.general_help)
        return 0
    name, _ = table.resolve(words)
    if name:
        command = main.load(name).COMMAND
        pages.show(lambda columns, bold: pages.command_help(command, columns, bold))
        return 0
    if words[0] in table.NOUNS:
        pages.show(lambda columns, bold: pages.noun_help(words[0], columns, bold))
        return 0
    raise UsageError("help", " ".join(words), reason="unknown command", hint="'jubako --help' lists all commands")
