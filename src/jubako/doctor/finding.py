"""What a check says: one immutable value, the same for people, for `--json` and for tests.

The status decides the exit code of `jubako doctor`: a *problem* keeps `jubako run` from working, a *warning* means that
something is lost or slower, a *note* is a fact worth knowing, *ok* is what it says.
"""

from __future__ import annotations

from jubako.record import record

OK = "ok"
NOTE = "note"
WARNING = "warning"
PROBLEM = "problem"

STATUSES = (OK, NOTE, WARNING, PROBLEM)
"""From the best to the worst."""


@record
class Finding:
    """The result of one check.

    `evidence` says what was read or tried, and what came out. `remedy` is text for a shell: commands to paste, with the
    explanations as comments; empty when nothing needs to be done. `group` is the check's module.
    """

    name: str
    status: str
    summary: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    group: str = ""


def ok(name: str, summary: str, *evidence: str) -> Finding:
    """All is well."""
    return Finding(name, OK, summary, evidence)


def note(name: str, summary: str, *evidence: str, remedy: str = "") -> Finding:
    """A fact to know; `remedy` says how to change it for those who want to."""
    return Finding(name, NOTE, summary, evidence, remedy)


def warning(name: str, summary: str, *evidence: str, remedy: str = "") -> Finding:
    """`jubako run` works, but something is lost, slower or less safe."""
    return Finding(name, WARNING, summary, evidence, remedy)


def problem(name: str, summary: str, *evidence: str, remedy: str = "") -> Finding:
    """`jubako run` cannot work like this."""
    return Finding(name, PROBLEM, summary, evidence, remedy)
