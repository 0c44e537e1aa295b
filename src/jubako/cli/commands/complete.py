"""`jubako __complete -- WORD...`: what the shells' completion scripts ask; see `jubako.cli.completion`."""

from __future__ import annotations

from jubako.cli.completion import answer
from jubako.cli.flags import ANY, Argument, Command, Values

COMMAND = Command(
    "__complete",
    "answer the shell's question for completions",
    arguments=(Argument("WORD", "words", ANY),),
    interspersed=False,
)


def run(values: Values) -> int:
    found = answer(list(values.words))
    for word, about in found.words:
        print(f"{word}\t{about}".rstrip("\t"))
    print(found.also)
    return 0
