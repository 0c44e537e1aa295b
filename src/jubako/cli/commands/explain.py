"""`jubako explain run ...`: every step that would be done, in order, with its system call and its reason."""

from __future__ import annotations

import sys

from jubako.cli.commands.create import COMMAND as CREATE
from jubako.cli.commands.run import COMMAND as RUN
from jubako.cli.flags import ANY, SWITCH, Argument, Command, Flag, Values, parse
from jubako.cli.main import printable
from jubako.cli.output import JSON_FLAG, print_json
from jubako.cli.run_flags import run_options
from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.engine.explain import Explanation, Told

COMMAND = Command(
    "explain",
    "show every step that makes a container, without making it",
    flags=(
        JSON_FLAG,
        Flag(("--config",), "print the container's config.json (OCI runtime-spec) instead", SWITCH, group="Output"),
    ),
    arguments=(Argument("run", "words", ANY, completes="jubako", help="a command line of 'jubako run' or 'create'"),),
    description="""
        Plans the container as 'jubako run' would and prints the plan: whose turn it is, the system calls with their
        arguments, and why they are there. Nothing is made or changed. What would be refused is refused here too.

        Three processes take part: the runtime, which is the jubako that was called; the supervisor, which is the
        first process of an outer PID namespace, so that nothing survives it; and init, which becomes the program.
    """,
    examples=(
        ("A directory as the root.", "jubako explain run --rootfs ./rootfs /bin/sh"),
        ("The document that another OCI runtime would take.", "jubako explain --config run host -- true"),
    ),
    interspersed=False,
    usage=("[OPTIONS] run [RUN OPTIONS] IMAGE [COMMAND [ARG...]]",),
)


def run(values: Values) -> int:
    from jubako.engine.explain import explain_container

    words: tuple[str, ...] = values.words
    if words[:1] == ("container",):
        words = words[1:]
    command = {"run": RUN, "create": CREATE}.get(words[0] if words else "")
    if command is None:
        raise UsageError(
            "explain",
            words[0] if words else "",
            reason="only 'run' and 'create' can be explained",
            hint="jubako explain run host -- true",
        )
    asked = parse(command, words[1:])
    if asked.help:
        from jubako.cli import help as pages

        pages.show(lambda columns, bold: pages.command_help(command, columns, bold))
        return 0
    explanation = explain_container(run_options(asked))
    if values.config:
        from jubako.spec.dump import dump

        print_json(dump(explanation.spec), indented=True)
    elif values.json:
        print_json(_as_data(explanation))
    else:
        _show(explanation)
    return 0


def _as_data(explanation: Explanation) -> dict[str, object]:
    return {
        "base": {"exists": bool(explanation.base_pid), "pid": explanation.base_pid, "steps": _list(explanation.base)},
        "steps": _list(explanation.steps),
        "notes": list(explanation.notes),
    }


def _list(steps: tuple[Told, ...]) -> list[dict[str, object]]:
    return [
        {"number": number, "actor": step.actor, "step": step.name, "call": step.call, "why": step.why}
        for number, step in enumerate(steps, 1)
    ]


def _show(explanation: Explanation) -> None:
    paint = _Paint()
    if explanation.base:
        pid = explanation.base_pid
        there = f"already there, kept by process {pid}" if pid else "made first, since it is not there yet"
        print(paint.strong(f"The base user namespace, once a user ({there})"))
        _show_steps(explanation.base, paint)
        print()
    print(paint.strong(f"The container: {len(explanation.steps)} steps"))
    _show_steps(explanation.steps, paint)
    for note in explanation.notes:
        print(f"\nnote: {note}")


def _show_steps(steps: tuple[Told, ...], paint: _Paint) -> None:
    """One system call a line; a reason that is the same as that of the step before is not said again."""
    actor = said = ""
    for number, step in enumerate(steps, 1):
        if step.actor != actor:
            actor = step.actor
            print(f"  {paint.strong(actor)}")
        label = f"{number:>3}"
        for call in step.call.split("; "):
            print(f"  {label}  {printable(call)}")
            label = "   "
        why = f"{step.name}: {step.why}"
        if why != said:
            print(paint.faint(f"       # {why}"))
            said = why


class _Paint:
    """Bold and faint where a terminal shows them, and NO_COLOR does not forbid."""

    def __init__(self) -> None:
        from jubako.cli.help import wants_bold

        self.wanted = wants_bold(sys.stdout)

    def strong(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.wanted else text

    def faint(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.wanted else text
