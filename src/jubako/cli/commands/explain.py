"""`jubako explain run ...`: every step that would be done, in order, with its system call and its reason."""

from __future__ import annotations

import sys

from jubako.cli.commands.create import COMMAND as CREATE
from jubako.cli.commands.exec import COMMAND as EXEC
from jubako.cli.commands.exec import exec_options
from jubako.cli.commands.run import COMMAND as RUN
from jubako.cli.flags import ANY, Argument, Command, Values, parse
from jubako.cli.help import columns_of, wants_bold
from jubako.cli.main import printable
from jubako.cli.output import JSON_FLAG, print_json
from jubako.cli.run_flags import run_options
from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.engine.explain import Explanation, Taken

COMMAND = Command(
    "explain",
    "show every step that makes a container, without making it",
    flags=(JSON_FLAG,),
    arguments=(
        Argument("run", "words", ANY, completes="jubako", help="a command line of 'jubako run', 'create' or 'exec'"),
    ),
    description="""
        Plans the container as 'jubako run' would and prints the plan: whose turn it is, the system calls with their
        arguments, and why they are there. Nothing is made or changed. What would be refused is refused here too.

        Three processes take part: the runtime, which is the jubako that was called; the supervisor, which is the
        first process of an outer PID namespace, so that nothing survives it; and init, which becomes the program.
    """,
    examples=(
        ("A directory as the root.", "jubako explain run --rootfs ./rootfs /bin/sh"),
        ("How a program would enter a container that runs.", "jubako explain exec web id"),
        ("Only the system calls.", "jubako explain --json run host | jq -r '.sections[].steps[].calls[]'"),
    ),
    interspersed=False,
    usage=(
        "[OPTIONS] run [RUN OPTIONS] IMAGE [COMMAND [ARG...]]",
        "[OPTIONS] create [CREATE OPTIONS] IMAGE [COMMAND [ARG...]]",
        "[OPTIONS] exec [EXEC OPTIONS] CONTAINER COMMAND [ARG...]",
    ),
)


def run(values: Values) -> int:
    words: tuple[str, ...] = values.words
    if words[:1] == ("container",):
        words = words[1:]
    command = {"run": RUN, "create": CREATE, "exec": EXEC}.get(words[0] if words else "")
    if command is None:
        raise UsageError(
            "explain",
            words[0] if words else "",
            reason="only 'run', 'create' and 'exec' can be explained",
            hint="jubako explain run host -- true",
        )
    asked = parse(command, words[1:])
    if asked.help:
        from jubako.cli import help as pages

        pages.show(lambda columns, bold: pages.command_help(command, columns, bold))
        return 0
    explanation = _explain(command, asked)
    if values.json:
        print_json(explanation.as_data())
    else:
        show(explanation)
    return 0


def _explain(command: Command, asked: Values) -> Explanation:
    if command is EXEC:
        from jubako.engine.explain_exec import explain_exec

        return explain_exec(exec_options(asked))
    from jubako.engine.explain import explain_run

    return explain_run(run_options(asked, command.name), start=command is RUN)


def show(explanation: Explanation) -> None:
    paint = _Paint()
    for number, section in enumerate(explanation.sections):
        print(("\n" if number else "") + paint.strong(section.title))
        if section.text:
            _print_wrapped(section.text, "  ")
        _show_steps(section.steps, paint)
    for title, sentences in (("Left out", explanation.left_out), ("Warnings", explanation.warnings)):
        if sentences:
            print("\n" + paint.strong(title))
        for sentence in sentences:
            _print_wrapped(sentence, "  - ")


def _show_steps(steps: tuple[Taken, ...], paint: _Paint) -> None:
    """One system call a line; a reason that is the same as that of the step before is not said again."""
    from jubako.engine.explain import ACTORS

    actor = said = ""
    for step in steps:
        if step.actor != actor:
            actor, said = step.actor, ""
            print(f"  {paint.strong(ACTORS.get(actor, actor))}:")
        label = step.label
        for call in step.calls:
            print(f"  {label:>4}  {printable(call)}")
            label = ""
        if step.why != said:
            _print_wrapped(step.why, "        # ", paint.faint)
            said = step.why


def _print_wrapped(text: str, start: str, paint: Callable[[str], str] = str) -> None:
    """Print a sentence in as many lines as the terminal needs, the later ones below the first one's text."""
    import textwrap

    later = start if start.strip() == "#" else " " * len(start)
    columns = columns_of(sys.stdout)
    for line in textwrap.wrap(printable(text), columns, initial_indent=start, subsequent_indent=later):
        print(paint(line))


class _Paint:
    """Bold and faint where a terminal shows them, and NO_COLOR does not forbid."""

    def __init__(self) -> None:
        self.wanted = wants_bold(sys.stdout)

    def strong(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.wanted else text

    def faint(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.wanted else text
