"""`jubako doctor`: what this machine can and cannot do for containers, with the exact remedy for each finding."""

from __future__ import annotations

import os
import sys

from jubako.cli.flags import ANY, SWITCH, Argument, Command, Flag, Values
from jubako.cli.output import JSON_FLAG, print_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from jubako.doctor.finding import Finding

COMMAND = Command(
    "doctor",
    "find out what this machine can and cannot do for containers",
    flags=(
        Flag(("-a", "--all"), "show the evidence of what is well too", SWITCH, group="Output"),
        Flag(("-q", "--quiet"), "show only problems and warnings", SWITCH, group="Output"),
        JSON_FLAG,
    ),
    arguments=(Argument("CHECK", "only", ANY, help="show only findings whose name or group is this"),),
    description=(
        "Reads settings, and really tries what they do not tell, in short-lived processes that leave nothing behind. "
        "Each finding says what was read or tried, and where something can be done, the commands to paste. "
        "Nothing is changed. The exit code is 0 when containers can run, and 1 when a problem keeps them from it."
    ),
    examples=(
        ("What is wrong here?", "jubako doctor --quiet"),
        ("Only the findings on ids, with their evidence", "jubako doctor --all ids"),
        ("For a program", "jubako doctor --json"),
    ),
)

_MARKS = {"ok": ("✓", "32"), "note": ("·", "36"), "warning": ("!", "33"), "problem": ("✗", "31")}
_PLAIN = {"ok": "ok", "note": "note", "warning": "WARN", "problem": "FAIL"}
_EXIT_CANNOT_RUN = 1


def run(values: Values) -> int:
    """Check, print, and say by the exit code whether containers can run."""
    from jubako import doctor
    from jubako.doctor import report

    findings = doctor.run_checks()
    chosen = _chosen(findings, values.only) if values.only else findings
    if values.json:
        print_json({**report.as_data(chosen), "can_run": report.can_run(findings)})
    else:
        _show(chosen, values.all, values.quiet, _Paint(sys.stdout))
        _conclude(findings, _Paint(sys.stdout))
    return 0 if report.can_run(findings) else _EXIT_CANNOT_RUN


def _chosen(findings: tuple[Finding, ...], words: Iterable[str]) -> tuple[Finding, ...]:
    from jubako.cli.flags import nearest
    from jubako.errors import NotFoundError

    found = tuple(f for f in findings if any(word.lower() in (f.name.lower(), f.group) for word in words))
    if not found:
        near = nearest(" ".join(words), sorted({f.name for f in findings} | {f.group for f in findings}))
        hint = f"did you mean {near!r}?" if near else "'jubako doctor' lists all of them"
        raise NotFoundError("doctor", " ".join(words), reason="no check has this name", hint=hint)
    return found


class _Paint:
    """Marks and colours where the terminal takes them; plain words elsewhere and with NO_COLOR (https://no-color.org)."""

    def __init__(self, stream: TextIO) -> None:
        self.colour = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.symbols = "utf" in (stream.encoding or "").lower()

    def mark(self, status: str) -> str:
        symbol, colour = _MARKS[status]
        text = symbol if self.symbols else _PLAIN[status].ljust(4)
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour else text

    def strong(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.colour else text

    def faint(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.colour else text


def _show(findings: tuple[Finding, ...], everything: bool, quiet: bool, paint: _Paint) -> None:
    shown = [f for f in findings if not quiet or f.status in ("warning", "problem")]
    group = ""
    told: dict[str, str] = {}
    width = max((len(finding.name) for finding in shown), default=0)
    for finding in shown:
        if finding.group != group:
            print(("\n" if group else "") + paint.strong(finding.group))
            group = finding.group
        print(f"  {paint.mark(finding.status)} {finding.name.ljust(width)}  {finding.summary}")
        if finding.status in ("warning", "problem") or everything:
            for line in finding.evidence:
                print(paint.faint(f"      {line}"))
        if finding.remedy.count("\n") > 1 and finding.remedy in told:
            print(f"        # as for {told[finding.remedy]}, above")
            continue
        told[finding.remedy] = finding.name
        for line in finding.remedy.splitlines():
            print(f"        {line}" if line else "")
    if shown:
        print()


def _conclude(findings: tuple[Finding, ...], paint: _Paint) -> None:
    from jubako.doctor import report

    numbers = report.counts(findings)
    told = [
        f"{numbers[status]} {status}{'s' if numbers[status] != 1 else ''}" for status in ("problem", "warning", "note")
    ]
    verdict = "containers can run here" if report.can_run(findings) else "containers cannot run here yet"
    print(f"{paint.strong(verdict)}: {', '.join(told)}, {numbers['ok']} ok")
