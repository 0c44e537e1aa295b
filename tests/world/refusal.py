"""What every refusal looks like: one error, *operation, subject, cause*, and perhaps hints; no traceback."""

from __future__ import annotations

import re

from world.command import Result

OPERATION = re.compile(r"jubako: [a-z-][^\n]*\n(  (step|hint): [^\n]*\n|  step \d+ of \d+: \w+\n|  [^\n]+\n)*\Z")


def refused(result: Result, *words: str, code: int = 125) -> str:
    """That `result` is one error of ours: *operation, subject, cause*, and perhaps hints; the text."""
    assert result.exit_code == code, result
    assert result.stdout == "", result
    assert "Traceback" not in result.stderr, result
    assert "a fault in jubako" not in result.stderr, result
    assert "should not happen" not in result.stderr, result
    assert OPERATION.match(result.stderr), result
    assert result.stderr.count("jubako: ") == 1, result
    for word in words:
        assert word in result.stderr, f"no {word!r} in {result}"
    return result.stderr
