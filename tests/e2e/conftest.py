"""Every end-to-end test leaves the machine as it found it."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _leaves_nothing(clean: None) -> None:
    """See `clean`."""
