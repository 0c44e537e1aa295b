"""Containers whose ids match a regular expression (crun's `--regex`)."""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.oci.state import Container


def matching(containers: list[Container], pattern: str) -> list[Container]:
    """Those whose id the expression is found in. Raises `UsageError` for a malformed one, or when none matches."""
    import re

    try:
        wanted = re.compile(pattern)
    except re.error as failure:
        raise UsageError("use --regex", pattern, reason=str(failure)) from None
    return [container for container in containers if wanted.search(container.id)]
