"""Findings as plain data for `--json`, and what they amount to."""

from __future__ import annotations

from jubako.doctor.finding import PROBLEM, STATUSES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from jubako.doctor.finding import Finding


def as_data(findings: Iterable[Finding]) -> dict[str, object]:
    """`{"can_run": …, "counts": {…}, "findings": [{name, group, status, summary, evidence, remedy}, …]}`."""
    found = tuple(findings)
    return {
        "can_run": can_run(found),
        "counts": counts(found),
        "findings": [
            {
                "name": finding.name,
                "group": finding.group,
                "status": finding.status,
                "summary": finding.summary,
                "evidence": list(finding.evidence),
                "remedy": finding.remedy,
            }
            for finding in found
        ],
    }


def can_run(findings: Iterable[Finding]) -> bool:
    """Whether nothing keeps `jubako run` from working."""
    return all(finding.status != PROBLEM for finding in findings)


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """How many findings have each status, all statuses named."""
    found = [finding.status for finding in findings]
    return {status: found.count(status) for status in STATUSES}
