"""The page of the conformance tests says what the tests prove, always."""

from __future__ import annotations

from pathlib import Path

from world import conformance

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "oci-conformance.md"


def test_the_page_is_current():
    assert PAGE.read_text() == conformance.page(), "run ./dev docs"


def test_every_test_proves_a_rule():
    assert conformance.unmarked() == []


def test_documents_and_levels_are_known():
    for rule in conformance.read_rules():
        assert rule.document in conformance.DOCUMENTS, rule
        assert rule.level in conformance.LEVELS, rule
        assert (rule.level == "common") is (rule.document == "command line"), rule
