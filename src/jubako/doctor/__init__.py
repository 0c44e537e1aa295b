"""What this machine can and cannot do for containers: one check a function, each with evidence and remedy.

Modules are grouped by what they look at; `run_checks` goes through them all. Nothing is changed: facts are read, and
what cannot be read is tried in short-lived children (`jubako.doctor.trials`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.doctor.finding import Finding
    from jubako.doctor.host import Host

GROUPS = (
    "kernel",
    "namespaces",
    "ids",
    "storage",
    "devices",
    "cgroups",
    "security",
    "limits",
    "programs",
    "environment",
)
"""The modules with checks, in the order in which they are shown."""


def checks() -> tuple[tuple[str, Callable[[Host], Finding]], ...]:
    """(group, check) of every check."""
    from importlib import import_module

    return tuple((group, check) for group in GROUPS for check in import_module(f"jubako.doctor.{group}").CHECKS)


def run_checks(host: Host | None = None) -> tuple[Finding, ...]:
    """Every check's finding about `host`, by default this machine and account. A check that breaks becomes a note."""
    from jubako.doctor.finding import note
    from jubako.doctor.host import Host
    from jubako.record import replace

    machine = Host() if host is None else host
    findings = []
    for group, check in checks():
        try:
            finding = check(machine)
        except Exception as failure:
            finding = note(
                check.__name__.replace("_", " "), "could not be checked", f"{type(failure).__name__}: {failure}"
            )
        findings.append(replace(finding, group=group))
    return tuple(findings)
