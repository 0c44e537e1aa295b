"""`--help` in the form of a manual page: synopsis, description, flags in groups, examples.

Made from the same tables as the parser, so a flag that works is a flag that is explained. Text fits the terminal's
width (at most 100 columns, 80 where there is no terminal). Headings are bold only on a terminal, and not when
NO_COLOR is set.
"""

from __future__ import annotations

import os
import sys
import textwrap

from jubako.cli import table
from jubako.cli.flags import HELP, LIST, SWITCH, Command, Flag, usage, value_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

_MOST_COLUMNS = 100
_FLAG_COLUMN = 26
_COMMAND_COLUMN = 17
GENERAL_GROUP = "Options"


def command_help(command: Command, columns: int, bold: bool = False) -> str:
    """The manual page of one command."""
    page = _Page(columns, bold)
    page.heading("Name")
    page.text(f"jubako {command.name} - {command.summary}")
    page.heading("Synopsis")
    for line in usage(command):
        page.text(line, hanging=4)
    other = table.other_names(command.name)
    if other:
        page.heading("Also called")
        page.text(", ".join(f"jubako {name}" for name in other))
    if command.description:
        page.heading("Description")
        page.paragraphs(command.description)
    explained = [argument for argument in command.arguments if argument.help]
    if explained:
        page.heading("Arguments")
        for argument in explained:
            page.entry(argument.name, argument.help)
    for title, flags in grouped(command):
        page.heading(title)
        for flag in flags:
            page.entry(spelling(flag), meaning(flag))
    if command.examples:
        page.heading("Examples")
        for sentence, line in command.examples:
            page.example(sentence, line)
    return page.done()


def general_help(columns: int, bold: bool = False) -> str:
    """What `jubako --help` prints: every command in one line, the global flags, where to go on."""
    page = _Page(columns, bold)
    page.heading("Name")
    page.text("jubako - rootless Linux containers, without a daemon and without root")
    page.heading("Synopsis")
    page.text("jubako [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS...]", hanging=4)
    for title, entries in table.groups():
        page.heading(title)
        for name, summary in entries:
            page.entry(name, summary, column=_COMMAND_COLUMN)
    page.heading("Nouns")
    for noun, summary in table.NOUN_SUMMARIES.items():
        page.entry(noun, f"{summary}: {', '.join(table.NOUNS[noun])}", column=_COMMAND_COLUMN)
    page.heading("Global options")
    for flag in table.GLOBAL_FLAGS:
        page.entry(spelling(flag), flag.help)
    page.heading("Exit status")
    page.text(
        "That of the program in the container; 125 when jubako itself failed, 126 when the program cannot be executed, "
        "127 when it is not there, 128+N when signal N ended it."
    )
    page.heading("Examples")
    page.example("The host's own system as an image: no download.", "jubako run host -- sh -c 'id; hostname; ps'")
    page.example("See every step that makes a container, and its reason.", "jubako explain run host -- true")
    page.example("What this machine can and cannot do.", "jubako doctor")
    page.text("'jubako COMMAND --help' is the manual of one command.")
    return page.done()


def noun_help(noun: str, columns: int, bold: bool = False) -> str:
    """What `jubako image --help` prints."""
    page = _Page(columns, bold)
    page.heading("Name")
    page.text(f"jubako {noun} - {table.NOUN_SUMMARIES[noun]}")
    page.heading("Synopsis")
    page.text(f"jubako {noun} VERB [OPTIONS] [ARGUMENTS...]")
    page.heading("Verbs")
    for verb, name in table.NOUNS[noun].items():
        same = "" if name in (verb, f"{noun} {verb}") else f" (same as 'jubako {name}')"
        page.entry(verb, table.COMMANDS[name].summary + same, column=_COMMAND_COLUMN)
    return page.done()


def show(text_of: object, stream: TextIO | None = None) -> None:
    """Print what `text_of(columns, bold)` returns, shaped for `stream` (standard output)."""
    stream = stream or sys.stdout
    assert callable(text_of)
    stream.write(text_of(columns_of(stream), wants_bold(stream)))


def columns_of(stream: TextIO) -> int:
    """How many columns a text on `stream` may use: COLUMNS, else the terminal's, else 80; never over 100."""
    wish = os.environ.get("COLUMNS", "")
    if wish.isascii() and wish.isdigit() and int(wish) > 0:
        columns = int(wish)
    else:
        try:
            columns = os.get_terminal_size(stream.fileno()).columns or 80
        except (OSError, ValueError, AttributeError):
            columns = 80
    return max(40, min(columns, _MOST_COLUMNS))


def wants_bold(stream: TextIO) -> bool:
    """Whether headings may be bold: on a terminal that knows how, and unless NO_COLOR says no (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def grouped(command: Command) -> Iterator[tuple[str, list[Flag]]]:
    """The visible flags by group, in the order of first mention, the general ones first (`--help` closes them)."""
    groups: dict[str, list[Flag]] = {GENERAL_GROUP: []}
    for flag in command.flags:
        if not flag.hidden:
            groups.setdefault(flag.group or GENERAL_GROUP, []).append(flag)
    groups[GENERAL_GROUP].append(HELP)
    yield from groups.items()


def spelling(flag: Flag) -> str:
    """`-v, --volume SRC:DST`."""
    names = ", ".join(sorted(flag.names, key=lambda name: name.startswith("--")))
    return names if flag.kind == SWITCH else f"{names} {value_name(flag)}"


def meaning(flag: Flag) -> str:
    """The flag's sentence, and what the parser knows, so that the sentence need not say it."""
    notes = []
    if flag.kind == LIST:
        notes.append("may be repeated")
    if flag.choices and flag.metavar:
        notes.append("one of " + ", ".join(flag.choices))
    if flag.default not in (None, "", (), False, True) and flag.kind != LIST:
        notes.append(f"default {flag.default}")
    return flag.help + (f" ({'; '.join(notes)})" if notes else "")


class _Page:
    """Collects headings and wrapped paragraphs."""

    def __init__(self, columns: int, bold: bool) -> None:
        self.columns = columns
        self.bold = bold
        self.lines: list[str] = []

    def heading(self, title: str) -> None:
        if self.lines and self.lines[-1]:
            self.lines.append("")
        title = title.upper()
        self.lines.append(f"\x1b[1m{title}\x1b[0m" if self.bold else title)

    def text(self, text: str, hanging: int = 0) -> None:
        self.lines += self._wrapped(text, "    ", "    " + " " * hanging)

    def paragraphs(self, text: str) -> None:
        """Paragraphs are parted by empty lines; one that begins with blanks stays as it is."""
        for number, paragraph in enumerate(textwrap.dedent(text).strip("\n").split("\n\n")):
            if number:
                self.lines.append("")
            if paragraph.startswith(" "):
                self.lines += ["    " + line for line in paragraph.split("\n")]
            else:
                self.text(" ".join(paragraph.split()))

    def entry(self, term: str, text: str, column: int = _FLAG_COLUMN) -> None:
        """A term and its explanation, side by side where they fit, else below each other."""
        column = min(column, self.columns // 3)
        indent = " " * (4 + column)
        body = self._wrapped(text, indent, indent)
        if len(term) + 2 <= column and body:
            self.lines.append("    " + term.ljust(column) + body[0].lstrip())
            self.lines += body[1:]
        else:
            self.lines += self._wrapped(term, "    ", "      ")
            self.lines += body

    def example(self, sentence: str, line: str) -> None:
        if self.lines[-1] and self.lines[-1][0] == " ":
            self.lines.append("")
        self.text(sentence)
        for part in line.split("\n"):
            self.lines.append("        " + part)
        self.lines.append("")

    def _wrapped(self, text: str, first: str, rest: str) -> list[str]:
        return textwrap.wrap(
            text,
            self.columns,
            initial_indent=first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )

    def done(self) -> str:
        while self.lines and not self.lines[-1]:
            self.lines.pop()
        return "\n".join(self.lines) + "\n"
